"""uvicorn's HTTP protocol with timeouts for slow senders and slow readers, and limits on head size and connections.

uvicorn itself waits for ever for the rest of a head or body, takes a head of any length, and keeps every connection.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from server.observability import record_rejection
from server.protocol.disconnect import ON_DISCONNECT
from server.protocol.http_errors import error_body
from server.protocol.lazy_timer import LazyTimer
from server.protocol.security_headers import SECURITY_HEADERS
from server.protocol.sse import DROP, STREAMING
from server.protocol.websocket_protocol import SEND_TIMEOUT, LimitedWebSocketProtocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from uvicorn._types import ASGI3Application
    from uvicorn.config import Config
    from uvicorn.server import ServerState

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# In the scope's state: a function of status, lines of headers and body, which sends a whole response, see `LimitedHttpProtocol.respond`.
RESPOND = "respond"
MEMORY = "memory"  # the same: what the application keeps for as long as the connection is open

LINGER_TIMEOUT = 2.0  # seconds of lingering close, in which the client may send ignored bytes and still read the response
MAX_PIPELINED = 32  # pipelined requests that may wait behind the one in progress
MAX_HEADERS = 100
MAX_HANDSHAKE_LINE_BYTES = 8192  # longest header line that `websockets` accepts in a handshake


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of a process. `read_timeout` is in seconds, for the head and the body each."""

    read_timeout: float
    max_head_bytes: int
    max_connections: int


class HttpProtocolFactory:
    """Creates the protocol of each connection; uvicorn calls it like a protocol class. `headers` are added to all error responses."""

    def __init__(self, limits: ConnectionLimits, headers: Mapping[str, str] = SECURITY_HEADERS) -> None:
        self.limits = limits
        self.headers = b"".join(b"%s: %s\r\n" % (name.lower().encode(), value.encode()) for name, value in headers.items())
        # Connections without a complete request, and websockets that are not authenticated yet; the longest-idle one first.
        self.evictable: dict[LimitedHttpProtocol | LimitedWebSocketProtocol, None] = {}

    def __call__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> asyncio.Protocol:
        return LimitedHttpProtocol(self, config, server_state, app_state, _loop)


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. It has at most one deadline, for what it waits for; arriving bytes do not extend it."""

    def __init__(
        self, factory: HttpProtocolFactory, config: Config, server_state: ServerState, app_state: dict[str, Any], loop: Any
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._factory = factory
        self._deadline = LazyTimer(self.loop, self._on_deadline)
        self._keep_alive = LazyTimer(self.loop, self.timeout_keep_alive_handler)
        self._send_timer: asyncio.TimerHandle | None = None
        self._active_cycle: RequestResponseCycle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._checked_head: tuple[bytes, str, Sequence[tuple[bytes, bytes]]] | None = None  # most clients send the same with each request
        self._memory: dict[str, Any] = {}
        self._in_body = False
        self._framing_bytes = 0  # bytes since the last body data: chunk sizes and trailers
        self._is_lingering = False

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn has it
        super().connection_made(transport)
        factory = self._factory
        factory.evictable[self] = None
        self._set_deadline(factory.limits.read_timeout)
        if len(self.connections) > factory.limits.max_connections:
            # Evict the longest-idle connection, so that idle connections cannot keep others out.
            next(iter(factory.evictable)).evict()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.close()
        self._keep_alive.close()
        if self._send_timer is not None:
            self._send_timer.cancel()
        self._factory.evictable.pop(self, None)
        if self._active_cycle is not None and not self._active_cycle.response_complete:
            # uvicorn notifies the last request received, which may be a pipelined one behind this.
            self._active_cycle.disconnected = True
            self._active_cycle.message_event.set()
            on_disconnect = self._active_cycle.scope.get("state", {}).get(ON_DISCONNECT)
            if on_disconnect is not None:
                on_disconnect()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def evict(self) -> None:
        self.drop()

    def drop(self) -> None:
        """Close at once and discard unsent data."""
        self._factory.evictable.pop(self, None)
        if self._active_cycle is not None and not self._active_cycle.response_complete:
            self._active_cycle.disconnected = True  # further sends of the application are ignored
            self._active_cycle.message_event.set()
        self.transport.abort()

    def shutdown(self) -> None:
        cycle = self._active_cycle
        if cycle is not None and not cycle.response_complete and cycle.scope.get("state", {}).get(STREAMING):
            if self.flow.write_paused or self.transport.get_write_buffer_size():
                self.drop()  # close() would wait until the client reads
                return
            cycle.disconnected = True  # a stream has no end to wait for
            cycle.message_event.set()
            self.transport.close()
            return
        super().shutdown()

    # Receiving

    def data_received(self, data: bytes) -> None:
        if self._is_lingering or self.parser is None:
            return
        self._unset_keepalive_if_required()
        is_idle = self._active_cycle is None or self._active_cycle.response_complete
        if self._in_head or is_idle:
            self._head_bytes += len(data)
        if is_idle and not self._deadline.is_set:
            self._set_deadline(self._factory.limits.read_timeout)
        self._framing_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self._deadline.close()
                self._keep_alive.close()
                self._factory.evictable.pop(self, None)
                self.handle_websocket_upgrade()
                protocol = self.transport.get_protocol()
                if isinstance(protocol, LimitedWebSocketProtocol):
                    protocol.make_evictable(self._factory.evictable)
            elif self.cycle is not None:  # pyright: ignore[reportUnnecessaryComparison] - uvicorn begins with None
                self.cycle.keep_alive = False  # unknown upgrade: respond to this request and close, since what follows need not be HTTP
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.send_400_response(cause.args[0] if isinstance(cause, _ParserError) else "This is not HTTP/1.1 as RFC 9112 has it.")
        else:
            if (self._in_head and self._head_bytes > self._factory.limits.max_head_bytes) or (
                self._in_body and self._framing_bytes > self._factory.limits.max_head_bytes
            ):
                self.send_400_response(_HEAD_TOO_LONG)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which a proxy in front need not have checked: never treated as a header
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            raise _ParserError(_HEAD_TOO_LONG)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._in_body = True
        assert self.parser is not None
        head = self.url, self.parser.get_http_version(), self.headers
        if head != self._checked_head:
            self._check_head(*head)
            self._checked_head = head
        if self.parser.should_upgrade() and self._should_upgrade():
            self._check_handshake()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _ParserError(f"More than {MAX_PIPELINED} requests wait for their answers on one connection.")
        super().on_headers_complete()

    def _check_head(self, url: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
        length, hosts = len(url), 0
        for name, value in headers:
            length += len(name) + len(value) + 4
            hosts += name == b"host"
        if length > self._factory.limits.max_head_bytes:
            raise _ParserError(_HEAD_TOO_LONG)
        if hosts > 1 or (not hosts and version == "1.1"):
            raise _ParserError("The request must name its Host, once.")
        if version == "1.0" and any(name == b"transfer-encoding" for name, _ in headers):
            # Request smuggling: a proxy in front may have framed the body differently (RFC 9112, 6.1).
            raise _ParserError("HTTP/1.0 has no Transfer-Encoding. Say how long the body is with Content-Length.")

    def _check_handshake(self) -> None:
        """Check what the websocket protocol will accept, since this class sets no deadline after the upgrade."""
        assert self.parser is not None
        if self._active_cycle is not None and not self._active_cycle.response_complete:
            raise _ParserError(
                "A websocket cannot be opened behind a request that still waits for its answer. Use a connection of its own."
            )
        body_headers = {(name, value.strip()) for name, value in self.headers if name in {b"content-length", b"transfer-encoding"}}
        if self.parser.get_method() != b"GET" or not body_headers <= {(b"content-length", b"0")}:
            raise _ParserError("A websocket is opened by a GET without a body.")
        if len(self.url) > MAX_HANDSHAKE_LINE_BYTES // 2 or any(
            len(name) + len(value) + 4 > MAX_HANDSHAKE_LINE_BYTES for name, value in self.headers
        ):
            raise _ParserError(_HEAD_TOO_LONG)

    def on_body(self, body: bytes) -> None:
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._framing_bytes = 0
        super().on_message_complete()
        if self._active_cycle is None or self.cycle is not self._active_cycle:
            return
        if self._active_cycle.response_complete:
            self._active_cycle.more_body = False  # the ignored body is complete
            self._set_deadline(float(self.timeout_keep_alive))
        else:
            self._factory.evictable.pop(self, None)
            self._set_deadline(None)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._active_cycle = cycle
        if not cycle.more_body:
            self._factory.evictable.pop(self, None)
        cycle.transport = cast("asyncio.Transport", _LingeringTransport(self, cycle))
        state = cycle.scope.setdefault("state", {})
        state[DROP] = self.drop
        state[RESPOND] = partial(self.respond, cycle)
        state[MEMORY] = self._memory
        self._set_deadline(self._factory.limits.read_timeout if cycle.more_body else None)
        super()._start_asgi_task(cycle, app)

    # Sending

    def respond(self, cycle: RequestResponseCycle, status: int, header_lines: bytes, body: bytes) -> bool:
        """Send a whole response, whose headers say how long it is. Return False, having done nothing, if it has to go by `send` instead."""
        if cycle.disconnected or cycle.response_started or self.flow.write_paused:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        own_headers = b"".join([b"%s: %s\r\n" % header for header in cycle.default_headers])
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        cycle.transport.write(b"".join((STATUS_LINE[status], own_headers, header_lines, end, body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True

    def on_response_complete(self) -> None:
        if self._is_lingering:
            self.server_state.total_requests += 1
            return
        # What uvicorn's own does, but for its timer.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        cycle = self._active_cycle
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._keep_alive.set(self.timeout_keep_alive)
        if self._active_cycle is cycle and not self.transport.is_closing():
            self._factory.evictable[self] = None
            unfinished = self._in_head or (cycle is not None and cycle.more_body)
            self._set_deadline(self._factory.limits.read_timeout if unfinished else None)

    def linger(self) -> None:
        """Half-close, and let the client finish sending: a close with unread bytes makes the kernel reset the connection and lose the response."""
        if self._is_lingering:
            return
        self._is_lingering = True
        self._unset_keepalive_if_required()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._set_deadline(LINGER_TIMEOUT)

    def eof_received(self) -> None:
        if self._is_lingering:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._send_timer is None:
            self._send_timer = self.loop.call_later(SEND_TIMEOUT, self.drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def send_400_response(self, msg: str) -> None:
        """Respond to what never became a request with a GraphQL response."""
        if self.transport.is_closing():
            return
        cycle = self._active_cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or not cycle.more_body:
                self.transport.close()  # before or within another response, where this one cannot begin
                return
            cycle.disconnected = True  # its body is malformed, so this is its response
            cycle.message_event.set()
        status = 431 if msg == _HEAD_TOO_LONG else 400
        request_id = uuid4().hex
        record_rejection(request_id, status, "BAD_REQUEST")
        body = error_body("BAD_REQUEST", msg, request_id)
        head = b"content-type: application/json; charset=utf-8\r\ncontent-length: %d\r\nx-request-id: %s\r\n" % (
            len(body),
            request_id.encode(),
        )
        head += self._factory.headers + b"cache-control: no-store\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head + body)
        self.linger()

    # Deadlines

    def _set_deadline(self, seconds: float | None) -> None:
        """Replace the deadline, or clear it with None."""
        if seconds is None:
            self._deadline.clear()
        else:
            self._deadline.set(seconds)

    def _unset_keepalive_if_required(self) -> None:
        self._keep_alive.clear()

    def _on_deadline(self) -> None:
        if self._active_cycle is not None and not self._active_cycle.response_complete:
            log.info("request_body_timed_out")
        self.drop()


class _ParserError(Exception):
    """Raised in a parser callback to stop the parser."""


_HEAD_TOO_LONG = "The head of the request, its address included, is too long. Send long documents by POST."


class _LingeringTransport:
    """The transport of one response cycle: closing it lingers while the client is still sending its body."""

    def __init__(self, protocol: LimitedHttpProtocol, cycle: RequestResponseCycle) -> None:
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
