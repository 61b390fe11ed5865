"""Idempotency keys: a repeated call with the same key and input returns the result of the first."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.checks import Checks
from db.core.work import Work
from db.errors import Conflict
from db.tables import IdempotencyKey

RETENTION = "interval '24 hours'"
KEY_LENGTH = 200


async def recall(work: Work, operation: str, key: str | None, request: dict[str, Any], *, claim: bool = True) -> dict[str, Any] | None:
    """Return the stored result of the first call, or None if this is the first; then call `remember` in the same unit of work.

    Inserts the key's row first, so a concurrent call with the key waits for the commit. Without `claim`, it only reads, for a call that
    has slow work to do before its transaction. Keys are per user. Raises `Conflict` if the key was used with another input.
    """
    if key is None:
        return None
    checks = Checks()
    checks.name(key, "idempotencyKey", length=KEY_LENGTH)
    checks.raise_if_invalid()
    is_own_key = (IdempotencyKey.owner_id == work.viewer.id) & (IdempotencyKey.key == key)
    is_fresh = IdempotencyKey.created_at >= func.now() - text(RETENTION)
    digest = _digest(operation, request)
    if claim:
        values = {"operation": operation, "request_sha256": digest}
        insertion = upsert(IdempotencyKey).values(owner_id=work.viewer.id, key=key, **values)
        reset_values = {**values, "answer": text("DEFAULT"), "created_at": func.now()}
        upsert_statement = insertion.on_conflict_do_update(index_elements=["owner_id", "key"], set_=reset_values, where=~is_fresh)
        if await work.first(upsert_statement.returning(IdempotencyKey.key)) is not None:
            return None
    stored = await work.first(select(IdempotencyKey.request_sha256, IdempotencyKey.answer).where(is_own_key, is_fresh))
    if stored is None:
        return None
    if stored.request_sha256 != digest:
        raise Conflict(
            f"The idempotency key {key!r} was used with another input within the last 24 hours. Use a new key for a new request."
        )
    return stored.answer


async def remember(work: Work, key: str | None, answer: dict[str, Any]) -> None:
    """Store the result, as ids in text."""
    if key is not None:
        is_own_key = (IdempotencyKey.owner_id == work.viewer.id) & (IdempotencyKey.key == key)
        await work.run(update(IdempotencyKey).where(is_own_key).values(answer=answer))


async def forget(work: Work, key: str) -> None:
    """Let the next call with this key be a first one."""
    await work.run(delete(IdempotencyKey).where(IdempotencyKey.owner_id == work.viewer.id, IdempotencyKey.key == key))


def _digest(operation: str, request: dict[str, Any]) -> str:
    canonical = orjson.dumps([operation, request], option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.sha256(canonical).hexdigest()
