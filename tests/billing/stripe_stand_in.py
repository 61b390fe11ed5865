"""A server that stands in for Stripe: it makes checkouts, idempotently by key, and signs events as Stripe documents."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import orjson
import pytest
from pydantic import SecretStr

from db.settings import state_settings
from tests.client import Client
from tests.webhooks.receiving import Received, receiving

API_KEY, WEBHOOK_SECRET = "sk_test_stand_in", "whsec_of_the_stand_in"
PATH = "/hooks/stripe"


@dataclass
class StripeStandIn:
    """Checkouts by idempotency key, with the forms that were sent, and keys of refunds by payment.

    While `breaks_off`, a checkout is made and the connection closed before the answer.
    """

    url: str = ""
    checkouts: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    refunds: dict[str, str] = field(default_factory=dict[str, str])
    breaks_off: bool = False
    status: int = 200

    def answer(self, request: Received) -> tuple[int, bytes]:
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return 401, b'{"error": {"code": "unauthorized", "message": "No such key."}}'
        if self.status != 200:
            return self.status, b'{"error": {"code": "rate_limit", "message": "Too many requests."}}'
        if request.path.startswith("/v1/payment_intents/"):
            return self._payment(request.path.rpartition("/")[2])
        form = {name: values[0] for name, values in parse_qs(request.content.decode(), strict_parsing=True).items()}
        key = request.headers["idempotency-key"]
        if request.path == "/v1/refunds":
            if form["payment_intent"] in self.refunds and self.refunds[form["payment_intent"]] != key:
                return 400, b'{"error": {"code": "charge_already_refunded", "message": "It has been refunded."}}'
            self.refunds[form["payment_intent"]] = key
            return 200, b'{"object": "refund", "status": "succeeded"}'
        if key not in self.checkouts:
            reference = f"cs_test_{uuid4().hex}"
            self.checkouts[key] = {"id": reference, "url": f"https://checkout.example.org/{reference}", "form": form}
        checkout = self.checkouts[key]
        assert checkout["form"] == form, "Stripe refuses a key that is used with another request"
        if self.breaks_off:
            raise ConnectionError
        return 200, orjson.dumps({"object": "checkout.session", "id": checkout["id"], "url": checkout["url"]})

    def _payment(self, payment: str) -> tuple[int, bytes]:
        """The payment of a checkout, https://docs.stripe.com/api/payment_intents/object; one of something else that is sold at Stripe; or none."""
        key = payment.removeprefix("pi_")
        if key not in self.checkouts and key != "other":
            return 404, b'{"error": {"code": "resource_missing", "message": "No such payment_intent."}}'
        form = {} if key == "other" else self.checkouts[key]["form"]
        name = "payment_intent_data[metadata][purchase]"
        answer = {"object": "payment_intent", "id": payment, "amount": 1_000, "amount_received": 1_000, "currency": "eur"}
        return 200, orjson.dumps(answer | {"metadata": {"purchase": form[name]} if form else {}})

    @property
    def last(self) -> dict[str, Any]:
        return list(self.checkouts.values())[-1]


def event_of(checkout: dict[str, Any], event_type: str = "checkout.session.completed", **changes: Any) -> dict[str, Any]:
    """An event of a checkout, or of its charge."""
    purchase = checkout["form"]["metadata[purchase]"]
    paid = {
        "payment_status": "paid",
        "amount_subtotal": 1_000,
        "amount_total": 1_190,
        "currency": "eur",
        "payment_intent": f"pi_{purchase}",
    }
    subject = {"id": checkout["id"], "metadata": {"purchase": purchase}, **paid, **changes}
    return {"id": f"evt_{uuid4().hex}", "object": "event", "type": event_type, "data": {"object": subject}}


def refund_of(checkout: dict[str, Any], refunded: int, amount: int = 1_000) -> dict[str, Any]:
    return event_of(checkout, "charge.refunded", id=f"ch_{uuid4().hex}", amount=amount, amount_refunded=refunded)


def dispute_of(checkout: dict[str, Any], status: str = "lost", amount: Any = 1_000, **changes: Any) -> dict[str, Any]:
    """A closed dispute, https://docs.stripe.com/api/disputes/object: its metadata are its own, not those of the charge."""
    payment = f"pi_{checkout['form']['metadata[purchase]']}"
    subject = {"object": "dispute", "status": status, "amount": amount, "currency": "eur", "payment_intent": payment, "metadata": {}}
    return event_of(checkout, "charge.dispute.closed", **subject | changes, id=f"du_{uuid4().hex}")


def signed(body: bytes, *secrets: str, at: float | None = None) -> str:
    """The header `Stripe-Signature`, https://docs.stripe.com/webhooks#verify-manually, with a signature under each secret and one of another scheme."""
    seconds = int(time.time() if at is None else at)
    signatures = [
        hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest() for secret in secrets or (WEBHOOK_SECRET,)
    ]
    return ",".join([f"t={seconds}", *(f"v1={signature}" for signature in signatures), "v0=" + "0" * 64])


async def call_back(client: Client, event: dict[str, Any], header: str | None = None, body: bytes | None = None) -> int:
    """Send an event as Stripe does; return the status of the answer."""
    content = orjson.dumps(event) if body is None else body
    headers = {"Stripe-Signature": signed(orjson.dumps(event)) if header is None else header, "Content-Type": "application/json"}
    return (await client.http.post(PATH, content=content, headers=headers)).status_code


async def call_back_often(client: Client, *events: dict[str, Any]) -> list[int]:
    return await asyncio.gather(*(call_back(client, event) for event in events))


@asynccontextmanager
async def stand_in() -> AsyncGenerator[StripeStandIn]:
    async with receiving(host="127.0.0.1") as receiver:
        stripe = StripeStandIn(url=receiver.url().replace("127.0.0.4", "127.0.0.1").removesuffix("/hook"))
        receiver.answer = stripe.answer
        yield stripe


def use(stripe: StripeStandIn | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the API use the stand-in, or no provider."""
    settings = state_settings()
    monkeypatch.setattr(settings, "payment_provider", "manual" if stripe is None else "stripe")
    if stripe is not None:
        monkeypatch.setattr(settings, "stripe_secret_key", SecretStr(API_KEY))
        monkeypatch.setattr(settings, "stripe_webhook_secret", SecretStr(WEBHOOK_SECRET))
        monkeypatch.setattr(settings, "stripe_api_url", stripe.url)
        monkeypatch.setattr(settings, "public_url", "https://trellis.example.org")
