"""Cancellation of an operation, its SQL statements included, when the client disconnects before the response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")

# In the scope's state: a callback that the HTTP protocol calls when the connection of a request in progress is lost.
ON_DISCONNECT = "on_disconnect"


async def cancel_on_disconnect(request: Request, awaitable: Awaitable[T]) -> T:
    """Await `awaitable`, and cancel it when the client disconnects. Raises `ClientDisconnect`.

    Only for what may be cancelled anywhere. The HTTP protocol calls back, since a task that waits for a disconnect would cost every
    request more.
    """
    state = request.scope["state"]
    timeout = asyncio.timeout(None)
    try:
        async with timeout:
            state[ON_DISCONNECT] = lambda: timeout.reschedule(0.0)
            return await awaitable
    except TimeoutError:
        if timeout.expired():
            raise ClientDisconnect from None
        raise
    finally:
        del state[ON_DISCONNECT]
