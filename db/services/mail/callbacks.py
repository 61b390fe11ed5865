"""What a provider tells of mails: that they were delivered, opened or clicked, or that an address takes none.

A callback is one of Standard Webhooks, signed over its raw bytes: https://www.standardwebhooks.com. A callback that comes twice, or late, changes nothing more.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import orjson
from sqlalchemy import case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.work import Work
from db.services.webhooks.signing import PREFIX, signature
from db.tables import EmailMessage, SuppressedAddress
from db.tables.mail import EmailStatus, SuppressionReason

TOLERANCE = 300  # seconds that the time of a signature may differ from ours
MAX_ADDRESSES = 50  # of a callback
MAX_REASON = 1_000  # characters
_STEPS = (
    ("email.delivered", EmailStatus.DELIVERED, "delivered_at"),
    ("email.opened", EmailStatus.OPENED, "opened_at"),
    ("email.clicked", EmailStatus.CLICKED, "clicked_at"),
)
_SENT = (EmailStatus.SENDING, EmailStatus.SENT, EmailStatus.UNCERTAIN)  # as the provider may be faster than we are


@dataclass(frozen=True, slots=True)
class Callback:
    """What is told. `message_id` is ours, from the header Message-ID; without it, `addresses` are those of the recipients."""

    type: str
    message_id: UUID | None
    addresses: tuple[str, ...]
    is_permanent: bool
    reason: str


def is_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the body was signed lately with the secret, `whsec_` and base64; headers begin with `webhook-`, or with `svix-` as some senders have it."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    for prefix in ("webhook-", "svix-"):
        message_id, timestamp, signatures = (headers.get(prefix + name, "") for name in ("id", "timestamp", "signature"))
        if not timestamp.isascii() or not timestamp.isdigit() or abs(int(timestamp[:12]) - time.time()) > TOLERANCE:
            continue
        expected = signature(key, message_id, timestamp, body).encode()
        if any(hmac.compare_digest(given.encode(), expected) for given in signatures.split(" ")):
            return True
    return False


def parse(body: bytes) -> Callback | None:
    """The callback of a body that was signed; None for JSON of another shape. Raises `ValueError` for what is no JSON."""
    document: Any = orjson.loads(body)
    envelope = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    kind, data = envelope.get("type"), envelope.get("data")
    if not isinstance(kind, str) or not isinstance(data, dict):
        return None
    fields = cast("dict[str, Any]", data)
    to = fields.get("to")
    addresses = cast("Sequence[Any]", to if isinstance(to, list) else [to])[:MAX_ADDRESSES]
    bounce: Any = fields.get("bounce")
    told = cast("dict[str, Any]", bounce) if isinstance(bounce, dict) else {}
    return Callback(
        kind,
        _own_id(fields.get("message_id")),
        tuple(address for address in addresses if isinstance(address, str) and "\0" not in address),
        is_permanent=str(told.get("type", "Permanent")).lower() == "permanent",
        reason=str(told.get("message") or "The provider reports that it bounced.").replace("\0", "")[:MAX_REASON],
    )


def _own_id(message_id: object) -> UUID | None:
    try:
        return UUID(hex=str(message_id).strip("<> ").partition("@")[0])
    except ValueError:
        return None


async def record_callback(work: Work, callback: Callback) -> None:
    """Record what is told of a mail, and send nothing more to an address that took none, or whose reader complained."""
    for step, (name, status, _) in enumerate(_STEPS):
        if callback.type == name and callback.message_id is not None:
            reached = [column for _, _, column in _STEPS[: step + 1]]
            before = (*_SENT, *(earlier for _, earlier, _ in _STEPS[:step]))
            values: dict[str, Any] = {
                column: func.coalesce(getattr(EmailMessage, column), func.now()) for column in {"delivered_at", reached[-1]}
            }
            values["status"] = case((EmailMessage.status.in_(before), status), else_=EmailMessage.status)
            known = (*_SENT, *(each for _, each, _ in _STEPS))
            await work.run(
                update(EmailMessage).where(EmailMessage.id == callback.message_id, EmailMessage.status.in_(known)).values(values)
            )
    if callback.type == "email.bounced" and callback.is_permanent:
        is_it = (EmailMessage.id == callback.message_id, EmailMessage.status.in_((*_SENT, EmailStatus.DELIVERED)))
        bounced = {"status": EmailStatus.BOUNCED, "error": callback.reason}
        await work.run(update(EmailMessage).where(*is_it).values(bounced))
        await _suppress(work, callback, SuppressionReason.BOUNCED)
    if callback.type == "email.complained":
        await _suppress(work, callback, SuppressionReason.COMPLAINED)


async def _suppress(work: Work, callback: Callback, reason: SuppressionReason) -> None:
    address = await work.scalar(select(EmailMessage.address).where(EmailMessage.id == callback.message_id))
    addresses = callback.addresses if address is None else (address,)
    for each in sorted({each.lower() for each in addresses}):
        await work.run(upsert(SuppressedAddress).values(address=each, reason=reason).on_conflict_do_nothing())


async def lift_suppression(work: Work, address: str) -> None:
    """Send mails to an address again: it was verified anew."""
    await work.run(delete(SuppressedAddress).where(SuppressedAddress.address == address.lower()))
