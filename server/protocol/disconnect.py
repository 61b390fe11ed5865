"""A client that leaves before its answer: what was begun for it ends, its statements included."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")

ON_DISCONNECT = "leaving"  # in the scope's state: what the guard calls when it loses the connection of a request that is being answered


async def cancel_on_disconnect(request: Request, awaitable: Awaitable[T]) -> T:
    """The outcome of `work`, which is cancelled when the client leaves. Raises `ClientDisconnect`.

    Only for work that may stop anywhere. The guard says when, since a task that waits for it would cost every request more than this does.
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
