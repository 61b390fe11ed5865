"""A call that makes something, repeated by a client that got no answer.

Clients repeat such a call by themselves, and give it no key. What they send again is equal to what they sent, the start time in milliseconds included. But
processes that start together may send equal calls too, and each is to get a run of its own. So a call leaves a key, which is removed once its answer was sent:
an equal call that finds one waits a little, and is taken for a repetition only if the key stays, since who left it has died.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import orjson
from sqlalchemy import select
from starlette.background import BackgroundTask

from db.core.work import Work
from db.errors import Unavailable
from db.services import idempotency
from db.tables import IdempotencyKey
from server.mlflow.requests import Call

PATIENCE = 3.0  # seconds in which a call that was committed is answered
_OPERATION = "mlflow runs/create"
_INTERVAL = 0.05  # seconds


async def once(call: Call, make: Callable[[Work, Call], Awaitable[UUID]]) -> tuple[UUID, BackgroundTask | None]:
    """Make something, unless an equal call did that got no answer; return its id, and what is to run once the answer is sent.

    A call without a start time is never taken for a repetition.
    """
    key = _key(call) if call.fields.get("start_time") else None
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        async with call.database.work(call.viewer) as work:
            answer = await idempotency.recall(work, _OPERATION, key, dict(call.fields))
            if answer is None:
                made = await make(work, call)
                await idempotency.remember(work, key, {"id": str(made)})
                break
        if not await _is_answered(call, key, deadline):
            made = UUID(answer["id"])
            break
    return made, None if key is None else BackgroundTask(_forget, call, key)


def _key(call: Call) -> str:
    equal = orjson.dumps([str(call.account_id), call.fields], option=orjson.OPT_SORT_KEYS)
    return f"{_OPERATION} {hashlib.sha256(equal).hexdigest()}"


async def _is_answered(call: Call, key: str | None, deadline: float) -> bool:
    """Wait until the key is removed; return False if it is not by then."""
    has_key = select(IdempotencyKey.key).where(IdempotencyKey.owner_id == call.viewer.id, IdempotencyKey.key == key)
    while await call.database.rows(has_key):
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(_INTERVAL)
    return True


async def _forget(call: Call, key: str) -> None:
    with suppress(Unavailable):
        async with call.database.work(call.viewer) as work:
            await idempotency.forget(work, key)
