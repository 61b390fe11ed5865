"""The description of idempotency keys; `db.services.idempotency` does what it says."""

from __future__ import annotations

IDEMPOTENCY_KEY = (
    "Makes retries safe: the same key with the same input returns the result of the first call; with another input it is a Conflict."
    " Kept for a day."
)
