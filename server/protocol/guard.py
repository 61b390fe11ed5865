"""uvicorn's HTTP protocol with an end to its patience: with clients that send slowly, that read slowly, and that are too many.

uvicorn itself waits for ever for the rest of a head or of a body, takes a head of any length, and keeps every connection it is given.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from server.observing import note_refusal
from server.protocol.events import DROP, STREAMING
from server.protocol.frames import READING, GuardedSocket
from server.protocol.headers import ALWAYS
from server.protocol.leaving import LEAVING
from server.protocol.refusals import told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uvicorn._types import ASGI3Application
    from uvicorn.config import Config
    from uvicorn.server import ServerState

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LINGER = 2.0  # seconds in which a client may still send what nobody reads, so that it gets to read the answer
PIPELINED = 32  # requests that may wait behind one that is being answered
HEADERS = 100
HANDSHAKE_LINE = 8192  # bytes of a header's line, past which `websockets` reads no handshake


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a process. `patience` is in seconds, for a head and for a body each; `head` in bytes."""

    patience: float
    head: int
    connections: int


class Guard:
    """Makes the protocol of each connection; uvicorn calls it as it would the class of one. `headers` are those of all answers."""

    def __init__(self, limits: Limits, headers: Mapping[str, str] = ALWAYS) -> None:
        self.limits = limits
        self.headers = b"".join(b"%s: %s\r\n" % (name.lower().encode(), value.encode()) for name, value in headers.items())
        # Connections without a whole request, and sockets of which it is not known whose they are: the one that has been so for longest first.
        self.waiting: dict[GuardedProtocol | GuardedSocket, None] = {}

    def __call__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> asyncio.Protocol:
        return GuardedProtocol(self, config, server_state, app_state, _loop)


class GuardedProtocol(HttpToolsProtocol):
    """One connection. It has at most one deadline, for what it is waiting for; bytes that come do not move it."""

    def __init__(self, guard: Guard, config: Config, server_state: ServerState, app_state: dict[str, Any], loop: Any) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._guard = guard
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._in_head = False
        self._head = 0
        self._in_body = False
        self._around = 0  # bytes since the last of a body: sizes of chunks, and fields that follow them
        self._lingers = False

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn has it
        super().connection_made(transport)
        guard = self._guard
        guard.waiting[self] = None
        self._wait(guard.limits.patience)
        if len(self.connections) > guard.limits.connections:
            # Whoever has said nothing for longest leaves: with many silent connections nobody else is kept out.
            next(iter(guard.waiting)).make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        if self._unread is not None:
            self._unread.cancel()
        self._guard.waiting.pop(self, None)
        if self._running is not None and not self._running.response_complete:
            # uvicorn tells the request that came last, which may be one that waits behind this.
            self._running.disconnected = True
            self._running.message_event.set()
            leave = self._running.scope.get("state", {}).get(LEAVING)
            if leave is not None:
                leave()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def make_room(self) -> None:
        self.drop()

    def drop(self) -> None:
        """Close at once; what was not sent yet is not sent."""
        self._guard.waiting.pop(self, None)
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True  # what is sent from here on goes nowhere, and is no mistake
            self._running.message_event.set()
        self.transport.abort()

    def shutdown(self) -> None:
        cycle = self._running
        if cycle is not None and not cycle.response_complete and cycle.scope.get("state", {}).get(STREAMING):
            if self.flow.write_paused or self.transport.get_write_buffer_size():
                self.drop()  # closing would wait until its client reads
                return
            cycle.disconnected = True  # it has no end to wait for
            cycle.message_event.set()
            self.transport.close()
            return
        super().shutdown()

    # What comes

    def data_received(self, data: bytes) -> None:
        if self._lingers or self.parser is None:
            return
        self._unset_keepalive_if_required()
        at_rest = self._running is None or self._running.response_complete
        if self._in_head or at_rest:
            self._head += len(data)
        if at_rest and self._deadline is None:
            self._wait(self._guard.limits.patience)
        self._around += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self._wait(None)
                self._guard.waiting.pop(self, None)
                self.handle_websocket_upgrade()
                protocol = self.transport.get_protocol()
                if isinstance(protocol, GuardedSocket):
                    protocol.enrol(self._guard.waiting)
            elif self.cycle is not None:  # pyright: ignore[reportUnnecessaryComparison] - uvicorn begins with None
                self.cycle.keep_alive = (
                    False  # an upgrade that we do not know: this request is answered, and what follows is not HTTP to us
                )
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.send_400_response(cause.args[0] if isinstance(cause, _TooMuch) else "This is not HTTP/1.1 as RFC 9112 has it.")
        else:
            if (self._in_head and self._head > self._guard.limits.head) or (self._in_body and self._around > self._guard.limits.head):
                self.send_400_response(_TOO_LONG)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a field behind the body, which whoever stands before us need not have looked at: none may pass for a header
        super().on_header(name, value)
        if len(self.headers) > HEADERS:
            raise _TooMuch(_TOO_LONG)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head = 0
        self._in_body = True
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self._guard.limits.head:
            raise _TooMuch(_TOO_LONG)
        assert self.parser is not None
        hosts = sum(name == b"host" for name, _ in self.headers)
        version = self.parser.get_http_version()
        if hosts > 1 or (not hosts and version == "1.1"):
            raise _TooMuch("The request must name its Host, once.")
        if version == "1.0" and any(name == b"transfer-encoding" for name, _ in self.headers):
            # Whoever stands before us may have taken all that follows for the body, or nothing of it (RFC 9112, 6.1).
            raise _TooMuch("HTTP/1.0 has no Transfer-Encoding. Say how long the body is with Content-Length.")
        if self.parser.should_upgrade() and self._should_upgrade():
            self._check_handshake()
        if len(self.pipeline) >= PIPELINED:
            raise _TooMuch(f"More than {PIPELINED} requests wait for their answers on one connection.")
        super().on_headers_complete()

    def _check_handshake(self) -> None:
        """Only what the websocket's side will understand is handed to it: from then on no deadline of ours looks after the connection."""
        assert self.parser is not None
        if self._running is not None and not self._running.response_complete:
            raise _TooMuch("A websocket cannot be opened behind a request that still waits for its answer. Use a connection of its own.")
        bodies = {(name, value.strip()) for name, value in self.headers if name in {b"content-length", b"transfer-encoding"}}
        if self.parser.get_method() != b"GET" or not bodies <= {(b"content-length", b"0")}:
            raise _TooMuch("A websocket is opened by a GET without a body.")
        if len(self.url) > HANDSHAKE_LINE // 2 or any(len(name) + len(value) + 4 > HANDSHAKE_LINE for name, value in self.headers):
            raise _TooMuch(_TOO_LONG)

    def on_body(self, body: bytes) -> None:
        self._around = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._around = 0
        super().on_message_complete()
        if self._running is None or self.cycle is not self._running:
            return
        if self._running.response_complete:
            self._running.more_body = False  # a body that nobody wanted has come to its end
            self._wait(float(self.timeout_keep_alive))
        else:
            self._guard.waiting.pop(self, None)
            self._wait(None)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        if not cycle.more_body:
            self._guard.waiting.pop(self, None)
        cycle.transport = cast("asyncio.Transport", _Closing(self, cycle))
        cycle.scope.setdefault("state", {})[DROP] = self.drop
        self._wait(self._guard.limits.patience if cycle.more_body else None)
        super()._start_asgi_task(cycle, app)

    # What goes

    def on_response_complete(self) -> None:
        if self._lingers:
            self.server_state.total_requests += 1
            return
        cycle = self._running
        super().on_response_complete()
        if self._running is cycle and not self.transport.is_closing():
            self._guard.waiting[self] = None
            unfinished = self._in_head or (cycle is not None and cycle.more_body)
            self._wait(self._guard.limits.patience if unfinished else None)

    def linger(self) -> None:
        """Say that no more is sent, and let the client finish. Closed at once, unread bytes would make the kernel tear the answer away."""
        if self._lingers:
            return
        self._lingers = True
        self._unset_keepalive_if_required()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._wait(LINGER)

    def eof_received(self) -> None:
        if self._lingers:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(READING, self.drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """For what never became a request: a GraphQL response all the same, for there is nothing else here."""
        if self.transport.is_closing():
            return
        cycle = self._running
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or not cycle.more_body:
                self.transport.close()  # before or in the middle of another answer, where this one may not begin
                return
            cycle.disconnected = True  # its body went wrong, so this is its answer
            cycle.message_event.set()
        status = 431 if msg == _TOO_LONG else 400
        request_id = uuid4().hex
        note_refusal(request_id, status, "BAD_REQUEST")
        body = told("BAD_REQUEST", msg, request_id)
        head = b"content-type: application/json; charset=utf-8\r\ncontent-length: %d\r\nx-request-id: %s\r\n" % (
            len(body),
            request_id.encode(),
        )
        head += self._guard.headers + b"cache-control: no-store\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head + body)
        self.linger()

    # Time

    def _wait(self, seconds: float | None) -> None:
        """Set the deadline anew, or lift it."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        self._deadline = None
        if self._running is not None and not self._running.response_complete:
            log.info("body_stalled")
        self.drop()


class _TooMuch(Exception):
    """Raised inside of the parser, which stops there."""


_TOO_LONG = "The head of the request, its address included, is too long. Send long documents by POST."


class _Closing:
    """The connection as a request's answer has it: closing it waits for what the client has yet to send."""

    def __init__(self, protocol: GuardedProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._transport = protocol.transport

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        if self._cycle.more_body and not self._transport.is_closing():
            self._protocol.linger()
        else:
            self._transport.close()
