"""Cancellation of an operation, its SQL statements included, when the client disconnects before the response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect

T = TypeVar("T")

# In the scope's state: a callback that the HTTP protocol calls when the connection of a request in progress is lost.
ON_DISCONNECT = "on_disconnect"


async def cancel_on_disconnect(state: dict[str, Any], awaitable: Awaitable[T]) -> T:
    """Await `awaitable`, and cancel it when the client disconnects. Raises `ClientDisconnect`. `state` is that of the request's scope.

    Only for what may be cancelled anywhere. The HTTP protocol calls back, since a task that waits for a disconnect would cost every
    request more.
    """
    task = asyncio.current_task()
    assert task is not None
    other_cancellations = task.cancelling()
    is_lost = False

    def on_disconnect() -> None:
        nonlocal is_lost
        if not is_lost:
            is_lost = True
            task.cancel()

    state[ON_DISCONNECT] = on_disconnect
    try:
        return await awaitable
    except asyncio.CancelledError:
        if is_lost and task.cancelling() <= other_cancellations + 1:  # nobody else has cancelled it meanwhile
            raise ClientDisconnect from None
        raise
    finally:
        del state[ON_DISCONNECT]
        if is_lost:
            task.uncancel()
