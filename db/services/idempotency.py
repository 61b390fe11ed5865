"""The same key with the same input answers what the first call answered."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.checks import Checks
from db.core.work import Work
from db.errors import Conflict
from db.tables import IdempotencyKey

KEPT = "interval '24 hours'"
KEY_LENGTH = 200


async def recall(work: Work, operation: str, key: str | None, request: dict[str, Any], *, claim: bool = True) -> dict[str, Any] | None:
    """The first call's answer, or None when this is the first; then `remember` must follow in the same work.

    The row is written before anything else, so of two calls at once the second waits for the first's commit. `Conflict` when the key was
    used for something else. Without `claim` it only looks, for a call that has slow things to do before its work. Keys are the caller's
    own, not shared between users.
    """
    if key is None:
        return None
    checks = Checks()
    checks.name(key, "idempotencyKey", length=KEY_LENGTH)
    checks.done()
    mine = (IdempotencyKey.owner_id == work.viewer.id) & (IdempotencyKey.key == key)
    fresh = IdempotencyKey.created_at >= func.now() - text(KEPT)
    digest = _digest(operation, request)
    if claim:
        new = {"operation": operation, "request_sha256": digest}
        row = upsert(IdempotencyKey).values(owner_id=work.viewer.id, key=key, **new)
        again = {**new, "answer": text("DEFAULT"), "created_at": func.now()}
        claimed = row.on_conflict_do_update(index_elements=["owner_id", "key"], set_=again, where=~fresh)
        if await work.first(claimed.returning(IdempotencyKey.key)) is not None:
            return None
    first = await work.first(select(IdempotencyKey.request_sha256, IdempotencyKey.answer).where(mine, fresh))
    if first is None:
        return None
    if first.request_sha256 != digest:
        raise Conflict(
            f"The idempotency key {key!r} was used with another input within the last 24 hours. Use a new key for a new request."
        )
    return first.answer


async def remember(work: Work, key: str | None, answer: dict[str, Any]) -> None:
    """Keep what was answered, as ids in text."""
    if key is not None:
        mine = (IdempotencyKey.owner_id == work.viewer.id) & (IdempotencyKey.key == key)
        await work.run(update(IdempotencyKey).where(mine).values(answer=answer))


def _digest(operation: str, request: dict[str, Any]) -> str:
    canonical = orjson.dumps([operation, request], option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.sha256(canonical).hexdigest()
