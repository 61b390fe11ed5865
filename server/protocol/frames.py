"""uvicorn's websocket protocol with an end to its patience: with frames that are no messages, with many in one go, and with who does not read.

uvicorn itself takes all frames that have come before anybody else gets a turn: 4 MB of empty pings kept a process busy for 5 s. And it waits
for ever to send to a client that does not read, a close too, while it puts by a pong for each ping.
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

from server.observing import note_refusal
from server.protocol.headers import ALWAYS
from server.protocol.refusals import told

if TYPE_CHECKING:
    from asyncio import Task, TimerHandle
    from collections.abc import Mapping

    from uvicorn._types import ASGISendEvent
    from websockets.frames import Frame
    from websockets.http11 import Request

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SLICE = 4096  # bytes that are taken apart before the frames in them are counted
READING = 60.0  # seconds in which a client must have read what waits for it
CLOSING = 1.0  # seconds that a client has to read the last words, when the process stops or others need its place
TOO_LATE = 4408  # graphql-transport-ws: no connection_init in time

SETTLED = "settled"  # in the scope's state: what the handler calls once it knows whose the socket is
FRAMES = 1000  # a second, of whatever kind; how many messages they may make is the handler's to say


# What is said instead of the library's own words.
_REFUSALS = {
    403: (
        "FORBIDDEN",
        "No websocket is opened here. Its address is `/graphql`; pages must be of this origin, or of one in TRELLIS_ALLOWED_ORIGINS.",
    ),
    500: ("INTERNAL_SERVER_ERROR", "Internal error"),
}
_NO_HANDSHAKE = (
    "BAD_REQUEST",
    "This is no handshake of a websocket: it needs `Sec-WebSocket-Version: 13` and a `Sec-WebSocket-Key` of 16 bytes.",
)


class GuardedSocket(WebSocketsSansIOProtocol):
    """One websocket. `headers` are those of all answers, for a handshake that is refused."""

    def __init__(self, *arguments: Any, headers: Mapping[str, str] = ALWAYS, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._headers = headers
        self.conn.reject = self._refusal
        self._frames = 0
        self._since = time.monotonic()
        self._unread: TimerHandle | None = None
        self._end: TimerHandle | None = None
        self._newcomers: dict[Any, None] = {}

    def enrol(self, newcomers: dict[Any, None]) -> None:
        """Be one of these until it is known whose the socket is; the first of them leaves when others need its place."""
        self._newcomers = newcomers
        newcomers[self] = None

    def make_room(self) -> None:
        self._newcomers.pop(self, None)
        self._fail(TOO_LATE, "There are too many connections, and this one has sent no connection_init.")
        self._end_in(CLOSING)

    def drop(self) -> None:
        """Close at once; what was not sent yet is not sent."""
        self._newcomers.pop(self, None)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._newcomers.pop(self, None)
        for timer in (self._unread, self._end):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.scope.setdefault("state", {})[SETTLED] = lambda: self._newcomers.pop(self, None)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if now - self._since >= 1:
            self._since, self._frames = now, 0
        for at in range(0, len(data), SLICE):
            if self.transport.is_closing():
                return
            super().data_received(data[at : at + SLICE])
            if self._frames > FRAMES:
                self._fail(CloseCode.POLICY_VIOLATION, "Too many frames: send fewer a second.")
        if not self.handshake_initiated:
            self._refuse()

    def _refuse(self) -> None:
        """The head has come as a whole, for it was one to the HTTP side; where the library could not read it, it would now wait for ever."""
        if self.transport.is_closing():
            return
        said = b"".join(self.conn.data_to_send())
        self.transport.write(said or self._refusal(HTTPStatus.BAD_REQUEST, "").serialize())
        self.transport.close()

    def _refusal(self, status: HTTPStatus | int, text: str) -> Response:  # noqa: ARG002 - the library's signature; its text is not ours
        status = HTTPStatus(status)
        request_id = uuid4().hex
        code, message = _REFUSALS.get(status, _NO_HANDSHAKE)
        note_refusal(request_id, status, code)
        body = told(code, message, request_id)
        headers = Headers(self._headers)
        headers["Content-Type"] = "application/json; charset=utf-8"
        headers["Content-Length"] = str(len(body))
        headers["Cache-Control"] = "no-store"
        headers["X-Request-Id"] = request_id
        headers["Connection"] = "close"
        return Response(status.value, status.phrase, headers, body)

    def handle_text(self, event: Frame) -> None:
        self._frames += 1
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        self._frames += 1
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        self._frames += 1
        super().handle_cont(event)

    def handle_ping(self) -> None:
        self._frames += 1
        if self.writable.is_set():
            super().handle_ping()
        else:  # it asks for answers that it does not read
            self._give_up()

    def handle_pong(self, event: Frame) -> None:
        self._frames += 1
        super().handle_pong(event)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:  # uvicorn would log it as an error of ours
                self.frames = []
                self._fail(CloseCode.INVALID_DATA, "The message is not UTF-8.")
                return
        super().send_receive_event_to_app()

    # What goes

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(READING, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] != "websocket.close":
            await super().send(message)
        elif self.writable.is_set():
            await super().send(message)
            if self.close_timer is not None:
                # uvicorn's own would wait for what is yet to be sent.
                self.close_timer.cancel()
                self.close_timer = self.loop.call_later(self.close_timeout, self.drop)
        else:
            self._give_up()

    def shutdown(self) -> None:
        if self.writable.is_set():
            super().shutdown()
            self._end_in(CLOSING)
        else:
            self._give_up()

    # The end

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._end_in(self.close_timeout)

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._end_in(self.close_timeout)

    def on_task_complete(self, task: Task[None]) -> None:
        super().on_task_complete(task)
        self._end_in(self.close_timeout)

    def _end_in(self, seconds: float) -> None:
        """The connection is being closed, and that is how long it may take: closing it waits for what is yet to be sent."""
        if self._end is None and self in self.connections:
            self._end = self.loop.call_later(seconds, self.drop)

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            log.info("socket_unread", waiting=self.transport.get_write_buffer_size())
        self.drop()

    def _fail(self, code: int, reason: str) -> None:
        if self.transport.is_closing():
            return
        log.info("socket_refused", code=int(code), reason=reason)
        self.conn.fail(code, reason)
        if self.conn.close_sent is None:
            self.transport.close()
        else:
            self.handle_parser_exception()
