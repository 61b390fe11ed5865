"""uvicorn's websocket protocol with limits on frames, and timeouts for clients that do not read.

uvicorn itself handles all received frames in one go, which blocks the event loop: 4 MB of empty pings took 5 s. It waits for ever to send
to a client that does not read, also to send a close, and buffers a pong for each ping meanwhile.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.http11 import Response
from websockets.protocol import State

from server.observability import record_rejection
from server.protocol.http_errors import error_body
from server.protocol.security_headers import SECURITY_HEADERS

if TYPE_CHECKING:
    from asyncio import Task, TimerHandle
    from collections.abc import Mapping

    from uvicorn._types import ASGISendEvent
    from websockets.frames import Frame
    from websockets.http11 import Request

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PARSE_CHUNK_BYTES = 4096  # bytes that are parsed before the frames in them are counted
SEND_TIMEOUT = 60.0  # seconds within which a client must read what is buffered for it
CLOSE_TIMEOUT = 1.0  # seconds that a client has to read the close frame, on shutdown or eviction
CONNECTION_INIT_TIMEOUT = 4408  # graphql-transport-ws: no connection_init in time

ON_IDENTIFIED = "on_identified"  # in the scope's state: a callback for the handler, once the socket is authenticated
SEND_TEXT = "send_text"  # in the scope's state: `LimitedWebSocketProtocol.send_text`
MAX_FRAMES_PER_SECOND = 1000  # frames of all kinds; the handler limits messages

_TEXT_FRAME = 0x81  # the only frame of its message

# Our errors instead of the library's texts.
_HANDSHAKE_ERRORS = {
    403: (
        "FORBIDDEN",
        "Websockets are opened at `/graphql`, by pages of this origin or of one in TRELLIS_ALLOWED_ORIGINS.",
    ),
    500: ("INTERNAL_SERVER_ERROR", "Internal error"),
}
_MALFORMED_HANDSHAKE = (
    "BAD_REQUEST",
    "This is not a valid websocket handshake: it needs `Sec-WebSocket-Version: 13` and a `Sec-WebSocket-Key` of 16 bytes.",
)


class LimitedWebSocketProtocol(WebSocketsSansIOProtocol):
    """One websocket. `headers` are added to the response of a rejected handshake."""

    def __init__(self, *arguments: Any, headers: Mapping[str, str] = SECURITY_HEADERS, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._headers = headers
        self.conn.reject = self._error_response
        self._frame_count = 0
        self._window_start = time.monotonic()
        self._send_timer: TimerHandle | None = None
        self._drop_timer: TimerHandle | None = None
        self._evictable: dict[Any, None] = {}

    def make_evictable(self, evictable: dict[Any, None]) -> None:
        """Join the evictable connections until the socket is authenticated; the first of them is evicted at the connection limit."""
        self._evictable = evictable
        evictable[self] = None

    def evict(self) -> None:
        self._evictable.pop(self, None)
        self._fail(CONNECTION_INIT_TIMEOUT, "There are too many connections, and this one has sent no connection_init.")
        self._drop_after(CLOSE_TIMEOUT)

    def drop(self) -> None:
        """Close at once and discard unsent data."""
        self._evictable.pop(self, None)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._evictable.pop(self, None)
        for timer in (self._send_timer, self._drop_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            state = self.scope.setdefault("state", {})
            state[ON_IDENTIFIED] = lambda: self._evictable.pop(self, None)
            state[SEND_TEXT] = self.send_text

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if now - self._window_start >= 1:
            self._window_start, self._frame_count = now, 0
        for offset in range(0, len(data), PARSE_CHUNK_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[offset : offset + PARSE_CHUNK_BYTES])
            if self._frame_count > MAX_FRAMES_PER_SECOND:
                self._fail(CloseCode.POLICY_VIOLATION, "Too many frames: send fewer a second.")
        if not self.handshake_initiated:
            self._reject_handshake()

    def _reject_handshake(self) -> None:
        """Reject a handshake that the library did not accept. The head is complete, so the library would wait for ever for the rest."""
        if self.transport.is_closing():
            return
        response = b"".join(self.conn.data_to_send())
        self.transport.write(response or self._error_response(HTTPStatus.BAD_REQUEST, "").serialize())
        self.transport.close()

    def _error_response(self, status: HTTPStatus | int, text: str) -> Response:  # noqa: ARG002 - the library's signature; its text is replaced
        status = HTTPStatus(status)
        request_id = uuid4().hex
        code, message = _HANDSHAKE_ERRORS.get(status, _MALFORMED_HANDSHAKE)
        record_rejection(request_id, status, code)
        body = error_body(code, message, request_id)
        headers = Headers(self._headers)
        headers["Content-Type"] = "application/json; charset=utf-8"
        headers["Content-Length"] = str(len(body))
        headers["Cache-Control"] = "no-store"
        headers["X-Request-Id"] = request_id
        headers["Connection"] = "close"
        return Response(status.value, status.phrase, headers, body)

    def handle_text(self, event: Frame) -> None:
        self._frame_count += 1
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        self._frame_count += 1
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        self._frame_count += 1
        super().handle_cont(event)

    def handle_ping(self) -> None:
        self._frame_count += 1
        if self.writable.is_set():
            super().handle_ping()
        else:  # the client sends pings but does not read the pongs
            self._drop_unread()

    def handle_pong(self, event: Frame) -> None:
        self._frame_count += 1
        super().handle_pong(event)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:  # uvicorn would log it as an error of the server
                self.frames = []
                self._fail(CloseCode.INVALID_DATA, "The message is not UTF-8.")
                return
        super().send_receive_event_to_app()

    # Sending

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._send_timer is None:
            self._send_timer = self.loop.call_later(SEND_TIMEOUT, self._drop_unread)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def send_text(self, text: str) -> bool:
        """Write a message at once. Return False, and write nothing, where that takes a wait or has to be refused: then `send` does it.

        A server's frame is its length and its text (RFC 6455, section 5.2). Through ASGI and the library, it would take twice as long.
        """
        if (
            not self.writable.is_set()
            or self.disconnected
            or self.close_sent
            or self.conn.state is not State.OPEN
            or self.conn.extensions
            or self.transport.is_closing()
        ):
            return False
        payload = text.encode()
        self.transport.write(_text_frame_header(len(payload)) + payload)
        return True

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] != "websocket.close":
            await super().send(message)
        elif self.writable.is_set():
            await super().send(message)
            if self.close_timer is not None:
                # uvicorn's timer would wait until the buffered data are sent.
                self.close_timer.cancel()
                self.close_timer = self.loop.call_later(self.close_timeout, self.drop)
        else:
            self._drop_unread()

    def shutdown(self) -> None:
        if self.writable.is_set():
            super().shutdown()
            self._drop_after(CLOSE_TIMEOUT)
        else:
            self._drop_unread()

    # Closing

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._drop_after(self.close_timeout)

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._drop_after(self.close_timeout)

    def on_task_complete(self, task: Task[None]) -> None:
        super().on_task_complete(task)
        self._drop_after(self.close_timeout)

    def _drop_after(self, seconds: float) -> None:
        """Limit the time of a close, which waits until the buffered data are sent."""
        if self._drop_timer is None and self in self.connections:
            self._drop_timer = self.loop.call_later(seconds, self.drop)

    def _drop_unread(self) -> None:
        if not self.transport.is_closing():
            log.info("websocket_client_not_reading", waiting=self.transport.get_write_buffer_size())
        self.drop()

    def _fail(self, code: int, reason: str) -> None:
        if self.transport.is_closing():
            return
        log.info("websocket_closed_by_server", code=int(code), reason=reason)
        self.conn.fail(code, reason)
        if self.conn.close_sent is None:
            self.transport.close()
        else:
            self.handle_parser_exception()


def _text_frame_header(size: int) -> bytes:
    if size < 126:
        return bytes((_TEXT_FRAME, size))
    if size < 1 << 16:
        return bytes((_TEXT_FRAME, 126)) + size.to_bytes(2)
    return bytes((_TEXT_FRAME, 127)) + size.to_bytes(8)
