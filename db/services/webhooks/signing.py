"""Secrets and signatures, as https://www.standardwebhooks.com has them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from uuid import UUID

PREFIX = "whsec_"
SECRET_BYTES = 32
PURPOSE = "webhook secret"  # of sealing


def new_secret() -> bytes:
    """The bytes of a new secret."""
    return secrets.token_bytes(SECRET_BYTES)


def shown(secret: bytes) -> str:
    """A secret as its owner sees it, once."""
    return PREFIX + base64.b64encode(secret).decode()


def headers(secrets_: Sequence[bytes], event_id: UUID, timestamp: int, content: bytes) -> dict[str, str]:
    """The headers that identify and sign a message, with a signature for each secret. `timestamp` is in seconds since 1970."""
    message_id = f"msg_{event_id.hex}"
    signatures = " ".join(signature(secret, message_id, str(timestamp), content) for secret in secrets_)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}


def signature(secret: bytes, message_id: str, timestamp: str, content: bytes) -> str:
    """The signature of a message."""
    return "v1," + base64.b64encode(hmac.digest(secret, f"{message_id}.{timestamp}.".encode() + content, hashlib.sha256)).decode()
