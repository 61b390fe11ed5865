"""Stripe, which takes payments: https://docs.stripe.com/api/checkout/sessions/create and https://docs.stripe.com/webhooks.

What its callbacks say is believed once their signature is verified, and then only that a purchase was paid, refunded or lost to a dispute: what that is
worth stands in the purchase's own row.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import orjson
import structlog

from db.errors import Unavailable
from db.settings import StateSettings
from db.stores.outbound import ssl_context

log: structlog.stdlib.BoundLogger = structlog.get_logger()

VERSION = "2024-06-20"  # of the API: the shape of what is sent and received
TIMEOUT = 8.0  # seconds; an operation of the API has 10
TOLERANCE = 300.0  # seconds between the signature of a callback and its arrival, as Stripe's own libraries have it
_SERVICE = "payment provider"
_PAID = frozenset({"checkout.session.completed", "checkout.session.async_payment_succeeded"})
_FAILED = frozenset({"checkout.session.expired", "checkout.session.async_payment_failed"})


@dataclass(frozen=True, slots=True)
class Checkout:
    """A page of the provider on which one purchase is paid, and its id there."""

    url: str
    reference: str


class PaymentOutcome(StrEnum):
    """What an event tells of a purchase."""

    PAID = "paid"
    FAILED = "failed"
    REFUNDED = "refunded"
    DISPUTED = "disputed"


@dataclass(frozen=True, slots=True)
class PaymentNotice:
    """An event that concerns a purchase. `share` is how much of the payment has been refunded so far, or was lost to one dispute, from 0 to 1.

    `amount` and `currency` are what a checkout asked for, before taxes and discounts; `payment` is the provider's id of the payment.
    """

    event_id: str
    type: str
    purchase_id: UUID
    outcome: PaymentOutcome
    reference: str | None = None
    share: Fraction = Fraction(0)
    amount: int | None = None
    currency: str | None = None
    payment: str | None = None


@dataclass(frozen=True, slots=True)
class LostDispute:
    """A dispute that was lost: its amount was taken from the operator. Which purchase it is of stands in the payment: `payment_of_dispute`."""

    event_id: str
    type: str
    payment: str
    amount: int
    currency: str


class BadCallback(Exception):
    """A callback is not Stripe's, or cannot be read. The text is for whoever sets it up."""


async def create_checkout(settings: StateSettings, purchase: Any) -> Checkout:
    """Make the page on which `purchase`, a row of `credit_purchases`, is paid; the same page if it is asked for again within a day.

    Raises `Unavailable`.
    """
    form = {
        "mode": "payment",
        "client_reference_id": purchase.id.hex,
        "metadata[purchase]": purchase.id.hex,
        "payment_intent_data[metadata][purchase]": purchase.id.hex,  # from where Stripe copies it to the charge, which refunds are of
        "line_items[0][quantity]": "1",
        "success_url": f"{settings.public_url.rstrip('/')}/account",
        "cancel_url": f"{settings.public_url.rstrip('/')}/account",
    }
    if purchase.external_price_id is not None:
        form["line_items[0][price]"] = purchase.external_price_id
    else:
        form["line_items[0][price_data][currency]"] = purchase.currency.lower()
        form["line_items[0][price_data][unit_amount]"] = str(purchase.price_cents)
        form["line_items[0][price_data][product_data][name]"] = purchase.name
    status, answer = await _call(settings, "POST", "/v1/checkout/sessions", form, {"Idempotency-Key": purchase.id.hex})
    url, reference = answer.get("url"), answer.get("id")
    if status != 200 or not isinstance(url, str) or not isinstance(reference, str):
        raise _refusal(status, answer)
    return Checkout(url, reference)


async def payment_of_dispute(settings: StateSettings, dispute: LostDispute) -> PaymentNotice | None:
    """Ask which purchase a dispute is of, as the dispute does not tell (https://docs.stripe.com/api/payment_intents/retrieve); None if it is of none.

    Its amount can differ from that of the payment, with currencies: more than all is all, and so is an amount in another currency. Raises `Unavailable`.
    """
    status, payment = await _call(settings, "GET", f"/v1/payment_intents/{quote(dispute.payment, safe='')}")
    purchase_id = _purchase_id(_object(payment.get("metadata")).get("purchase"))
    if status == 404 or (status == 200 and purchase_id is None):
        return None
    amount = payment.get("amount_received")
    if status != 200 or purchase_id is None or not isinstance(amount, int):
        raise _refusal(status, payment)
    is_comparable = amount > 0 and payment.get("currency") == dispute.currency
    share = min(Fraction(1), Fraction(dispute.amount, amount)) if is_comparable else Fraction(1)
    return PaymentNotice(dispute.event_id, dispute.type, purchase_id, PaymentOutcome.DISPUTED, share=share)


async def refund(settings: StateSettings, payment: str) -> None:
    """Send the whole of a payment back, once (https://docs.stripe.com/api/refunds/create). Raises `Unavailable`."""
    status, answer = await _call(settings, "POST", "/v1/refunds", {"payment_intent": payment}, {"Idempotency-Key": f"refund {payment}"})
    if status != 200 and _object(answer.get("error")).get("code") != "charge_already_refunded":
        raise _refusal(status, answer)


async def _call(
    settings: StateSettings, method: str, path: str, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Return the status and the content of an answer. Raises `Unavailable` without one."""
    sent = {"Authorization": f"Bearer {settings.stripe_secret_key.get_secret_value()}", "Stripe-Version": VERSION, **(headers or {})}
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT, verify=ssl_context(), trust_env=False) as client:
            response = await client.request(method, f"{settings.stripe_api_url.rstrip('/')}{path}", data=form, headers=sent)
    except httpx.HTTPError as error:
        log.warning("payment_provider_unreachable", error=f"{type(error).__name__}: {error}")
        raise Unavailable(_SERVICE, str(error)) from None
    return response.status_code, _json(response.content)


def _refusal(status: int, answer: dict[str, Any]) -> Unavailable:
    problem = _object(answer.get("error"))
    log.error("payment_provider_refused", status=status, code=problem.get("code"), message=problem.get("message"))
    return Unavailable(_SERVICE, f"status {status}")


def verify(body: bytes, header: str, secret: str, *, now: float | None = None) -> None:
    """Check the header `Stripe-Signature` of a callback, `t=<seconds>,v1=<hex>,…`: one `v1` must be HMAC-SHA-256 of `t.body` under `secret`.

    While a secret is replaced, Stripe signs with both, so there may be several. Raises `BadCallback`.
    """
    pairs = [part.strip().partition("=")[::2] for part in header.split(",")]
    times = [value for name, value in pairs if name == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit()) or len(times[0]) > 15:
        raise BadCallback("The header `Stripe-Signature` has no time.")
    expected = hmac.new(secret.encode(), times[0].encode() + b"." + body, hashlib.sha256).hexdigest().encode()
    if not any(hmac.compare_digest(expected, value.encode()) for name, value in pairs if name == "v1"):
        raise BadCallback("The signature is not of this body under `TRELLIS_STRIPE_WEBHOOK_SECRET`.")
    if abs((time.time() if now is None else now) - int(times[0])) > TOLERANCE:
        raise BadCallback(f"The signature is more than {TOLERANCE:.0f} seconds old, or of the future: look at the clock of this machine.")


def parse(body: bytes) -> PaymentNotice | LostDispute | None:
    """Return what an event tells of a purchase, or a dispute that was lost; None if it tells of neither. Raises `BadCallback` for what is no event."""
    event = _json(body)
    event_id, event_type, subject = event.get("id"), event.get("type"), _object(_object(event.get("data")).get("object"))
    if not isinstance(event_id, str) or not isinstance(event_type, str) or not subject:
        raise BadCallback("An event is a JSON object with `id`, `type` and `data.object`.")
    if event_type == "charge.dispute.closed":
        return _lost_dispute(event_id, event_type, subject)
    purchase_id = _purchase_id(_object(subject.get("metadata")).get("purchase"))
    if purchase_id is None:
        return None  # of something else that is sold by the account at Stripe
    reference = subject.get("id") if isinstance(subject.get("id"), str) else None
    if event_type in _PAID:
        if subject.get("payment_status") not in ("paid", "no_payment_required"):
            return None  # such as a bank transfer: another event follows when the money has arrived
        amount, currency, payment = (subject.get(name) for name in ("amount_subtotal", "currency", "payment_intent"))
        if not isinstance(amount, int) or not isinstance(currency, str) or not isinstance(payment, str | None):
            raise BadCallback("A checkout that is paid has `amount_subtotal`, `currency` and `payment_intent`.")
        outcome = PaymentOutcome.PAID
        return PaymentNotice(event_id, event_type, purchase_id, outcome, reference, amount=amount, currency=currency, payment=payment)
    if event_type in _FAILED:
        return PaymentNotice(event_id, event_type, purchase_id, PaymentOutcome.FAILED, reference)
    if event_type == "charge.refunded":
        amount, refunded = subject.get("amount"), subject.get("amount_refunded")
        if not isinstance(amount, int) or not isinstance(refunded, int) or not 0 <= refunded <= amount or amount == 0:
            raise BadCallback("A refunded charge has `amount` and `amount_refunded`.")
        return PaymentNotice(event_id, event_type, purchase_id, PaymentOutcome.REFUNDED, share=Fraction(refunded, amount))
    return None


def _lost_dispute(event_id: str, event_type: str, subject: dict[str, Any]) -> LostDispute | None:
    """https://docs.stripe.com/api/disputes/object. None for one that ended otherwise, or of a payment that no checkout made."""
    payment, amount, currency = subject.get("payment_intent"), subject.get("amount"), subject.get("currency")
    if subject.get("status") != "lost" or payment is None:
        return None
    if not isinstance(payment, str) or not isinstance(amount, int) or amount < 0 or not isinstance(currency, str):
        raise BadCallback("A dispute has `payment_intent`, `amount` and `currency`.")
    return LostDispute(event_id, event_type, payment, amount, currency)


def _purchase_id(text: Any) -> UUID | None:
    try:
        return UUID(hex=text) if isinstance(text, str) else None
    except ValueError:
        return None


def _json(body: bytes) -> dict[str, Any]:
    try:
        return _object(orjson.loads(body))
    except orjson.JSONDecodeError:
        return {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType] - a JSON object
