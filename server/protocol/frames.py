"""uvicorn's websocket protocol with an end to its patience: with frames that are no messages, and with many in one go.

uvicorn itself takes all frames that have come before anybody else gets a turn: 4 MB of empty pings kept a process busy for 5 s.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode

if TYPE_CHECKING:
    from websockets.frames import Frame

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SLICE = 4096  # bytes that are taken apart before the frames in them are counted
FRAMES = 1000  # a second, of whatever kind; how many messages they may make is the handler's to say


class GuardedSocket(WebSocketsSansIOProtocol):
    """One websocket."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
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
