"""uvicorn's websocket protocol with an end to its patience: with frames that are no messages, and with many in one go.

uvicorn itself takes all frames that have come before anybody else gets a turn: 4 MB of empty pings kept a process busy for 5 s.
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
    from collections.abc import Mapping

    from websockets.frames import Frame

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SLICE = 4096  # bytes that are taken apart before the frames in them are counted
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
        super().handle_ping()

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

    def _fail(self, code: CloseCode, reason: str) -> None:
        if self.transport.is_closing():
            return
        log.info("socket_refused", code=int(code), reason=reason)
        self.conn.fail(code, reason)
        if self.conn.close_sent is None:
            self.transport.close()
        else:
            self.handle_parser_exception()
