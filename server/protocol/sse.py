"""Server-sent events in the distinct connections mode of graphql-sse: one operation per request.

https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from db.errors import SignedOut
from server.protocol import responses
from server.protocol.negotiation import EVENT_STREAM

if TYPE_CHECKING:
    from starlette.types import Receive, Send
    from strawberry.types import ExecutionResult

    from graph.core.context import StreamProgress

log: structlog.stdlib.BoundLogger = structlog.get_logger()

KEEP_ALIVE_INTERVAL = 12.0  # seconds without an event after which a comment is sent; proxies tend to close idle connections after 30 or 60

HEADERS = {
    "Content-Type": f"{EVENT_STREAM}; charset=utf-8",
    "Cache-Control": "no-cache, no-store, no-transform",  # no-transform keeps proxies from compressing, which would delay events
    "X-Accel-Buffering": "no",
}
CLOSE_TIMEOUT = 1.0  # seconds that a client has to read the last event
SendHead: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
SendChunk: TypeAlias = Callable[..., Coroutine[Any, Any, None]]

STREAMING = "streaming"  # in the scope's state: shutdown of the process does not wait for this response to end
DROP = "drop"  # in the scope's state: a callback that closes the connection at once, unsent data included


class EventStream:
    """Sends `results` as `next` events, then `complete`. Events have ids if the stream has cursors.

    When `signed_out` is set, the stream sends UNAUTHENTICATED and ends; if the client does not read, `drop` closes the connection instead.
    `progress` tells when the operation has begun to execute.
    """

    def __init__(
        self,
        results: AsyncGenerator[ExecutionResult],
        *,
        signed_out: asyncio.Event,
        progress: StreamProgress,
        request_id: str,
        limit: int,
        drop: Callable[[], None] | None = None,
    ) -> None:
        self._drop = drop
        self._results = results
        self._signed_out = signed_out
        self._progress = progress
        self._is_resumed = progress.after is not None
        self._request_id = request_id
        self._limit = limit

    async def send(self, headers: Mapping[str, str], receive: Receive, send: Send) -> ExecutionResult | None:
        """Return when the stream has ended or the client has disconnected; by then all tasks have ended.

        If the operation fails before it executes, send nothing and return the error result: upon an error status an EventSource does not
        reconnect, whereas it would reopen a stream for ever. If the stream is resumed, this holds for errors of its source field too.
        """
        started = ended = False

        async def send_head() -> None:
            nonlocal started
            started = True
            raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in {**headers, **HEADERS}.items()]
            await send({"type": "http.response.start", "status": 200, "headers": raw})
            await send_chunk(b":\n\n")

        async def send_chunk(text: bytes) -> None:
            await send({"type": "http.response.body", "body": text, "more_body": True})

        async def send_end(text: bytes = b"") -> None:
            nonlocal ended
            ended = True
            await send({"type": "http.response.body", "body": text + b"event: complete\ndata:\n\n", "more_body": False})

        try:
            return await self._run(receive, send_head, send_chunk, send_end)
        except Exception:  # errors of operations are in their results, so this is a bug of ours; the stream can only end
            if not started:
                raise
            log.exception("stream_failed", request_id=self._request_id)
            if not ended:
                await send_end(
                    self._encode_event(responses.encode_execution_error("INTERNAL_SERVER_ERROR", "Internal error", self._request_id))
                )
            return None

    async def _run(self, receive: Receive, send_head: SendHead, send_chunk: SendChunk, send_end: SendChunk) -> ExecutionResult | None:
        # Each step of the generator must see the context variables that earlier steps have set.
        variables = contextvars.copy_context()

        def spawn(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
            return asyncio.create_task(coroutine, context=variables)

        async with aclosing(self._results):
            disconnected = spawn(_wait_for_disconnect(receive))
            signed_out = spawn(self._signed_out.wait())
            execution_started = spawn(self._progress.wait_until_started())
            next_result = spawn(self._next_result())
            try:
                await asyncio.wait({disconnected, signed_out, execution_started, next_result}, return_when=asyncio.FIRST_COMPLETED)
                if next_result.done() and not disconnected.done():
                    first = next_result.result()
                    if first is not None and (responses.is_request_error(first) or (self._is_resumed and not self._progress.has_started)):
                        return first
                if not await self._send_or_drop(spawn(send_head()), disconnected, signed_out):
                    return None
                while True:
                    done, _ = await asyncio.wait(
                        {disconnected, signed_out, next_result}, timeout=KEEP_ALIVE_INTERVAL, return_when=asyncio.FIRST_COMPLETED
                    )
                    if disconnected in done:
                        return None
                    if signed_out in done:
                        event = self._encode_event(responses.encode_execution_error("UNAUTHENTICATED", str(SignedOut()), self._request_id))
                        await self._send_or_drop(spawn(send_end(event)), disconnected, timeout=CLOSE_TIMEOUT)
                        return None
                    if not done:
                        text = b":\n\n"
                    elif (result := next_result.result()) is None:
                        await self._send_or_drop(spawn(send_end()), disconnected, signed_out)
                        return None
                    else:
                        text = self._encode_event(
                            responses.encode(result, request_id=self._request_id, limit=self._limit), self._progress.last_cursor
                        )
                    if not await self._send_or_drop(spawn(send_chunk(text)), disconnected, signed_out):
                        return None
                    if done:
                        next_result = spawn(self._next_result())
            finally:
                tasks = (disconnected, signed_out, execution_started, next_result)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_or_drop(self, sending: asyncio.Task[None], *until: asyncio.Task[Any], timeout: float | None = None) -> bool:
        """Wait until it is sent. If one of `until` or the timeout comes first, the client does not read: drop it and return False."""
        try:
            await asyncio.sleep(0)  # without back-pressure it is sent by now, even if one of the others is done already
            if not sending.done():
                await asyncio.wait({sending, *until}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
                return True
        finally:
            if not sending.done():
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        if self._drop is not None:
            self._drop()
        return False

    async def _next_result(self) -> ExecutionResult | None:
        return await anext(self._results, None)

    def _encode_event(self, data: bytes, cursor: str | None = None) -> bytes:
        # orjson writes no line breaks, and escapes those in strings.
        return b"event: next\n" + (b"" if cursor is None else b"id: " + cursor.encode() + b"\n") + b"data: " + data + b"\n\n"


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
