"""Server-sent events in the distinct connections mode of graphql-sse: one operation a request, its results as they come.

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

KEEP_ALIVE_INTERVAL = 12.0  # seconds of silence after which a comment is sent; proxies tend to close after 30 or 60

HEADERS = {
    "Content-Type": f"{EVENT_STREAM}; charset=utf-8",
    "Cache-Control": "no-cache, no-store, no-transform",  # the last keeps proxies from compressing, and so from holding events back
    "X-Accel-Buffering": "no",
}
CLOSE_TIMEOUT = 1.0  # seconds that a client has to read why its stream ends
SendHead: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
SendChunk: TypeAlias = Callable[..., Coroutine[Any, Any, None]]

STREAMING = "streaming"  # in the scope's state: the guard need not wait for its end when the process stops
DROP = "drop"  # in the scope's state: closes the connection at once, whatever waits to be sent


class EventStream:
    """Sends `results` as `next` events, and `complete` at the end. An event carries an id where the stream has cursors.

    Once `signed_out` is set the stream says so and ends, whatever it was waiting for; with a client that does not read it ends unsaid, by
    `drop`. `progress` says when the operation has begun to run.
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
        """Returns when the stream has ended or its client has gone; by then nothing that it started runs any more.

        An operation that was refused before it ran has no stream: then nothing is sent, and what it was refused with is returned. A client
        that got a stream would open it again and again. One that takes a stream up again is refused by whatever its source says, too.
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
        except Exception:  # results are made to carry errors, so whatever comes here is ours, and the stream can only end
            if not started:
                raise
            log.exception("stream_broke", request_id=self._request_id)
            if not ended:
                await send_end(
                    self._encode_event(responses.encode_execution_error("INTERNAL_SERVER_ERROR", "Internal error", self._request_id))
                )
            return None

    async def _run(self, receive: Receive, send_head: SendHead, send_chunk: SendChunk, send_end: SendChunk) -> ExecutionResult | None:
        # Each step of a generator must see the context variables that the steps before it have set.
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
        """Wait until it was sent. False where one of the others was done sooner: the client does not read, and is dropped."""
        try:
            await asyncio.sleep(0)  # if nothing holds it back, it is sent by now, even where one of the others is done already
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
        # JSON as we write it has no line breaks outside of strings, where they are escaped.
        return b"event: next\n" + (b"" if cursor is None else b"id: " + cursor.encode() + b"\n") + b"data: " + data + b"\n\n"


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
