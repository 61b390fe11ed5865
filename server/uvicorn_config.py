"""The API process: uvicorn with our protocols and limits."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvicorn

from server.logs import configure_logs
from server.protocol.http_protocol import ConnectionLimits, HttpProtocolFactory
from server.protocol.security_headers import security_headers
from server.protocol.websocket_protocol import LimitedWebSocketProtocol
from server.settings import ServerSettings, server_settings

STARTUP_FAILURE = 3  # exit status
SHUTDOWN_GRACE = 3  # seconds that requests in flight have after SIGTERM
MAX_WEBSOCKET_MESSAGE_BYTES = 256 * 1024
RESERVED_DESCRIPTORS = 200  # file descriptors for everything but client connections


def serve(host: str, port: int, descriptor: int | None = None) -> None:
    """Serve until SIGINT or SIGTERM. With `descriptor`, on that inherited, bound socket. Exits with status 3 if it cannot start, as uvicorn does."""
    configure_logs()
    settings = server_settings()
    config = build_config(
        "server.app:create_app", settings, factory=True, host=host, port=port, loop="uvloop", timeout_graceful_shutdown=SHUTDOWN_GRACE
    )
    sockets = None if descriptor is None else [socket.socket(fileno=descriptor)]
    server = uvicorn.Server(config)
    server.run(sockets=sockets)
    if not server.started:
        raise SystemExit(STARTUP_FAILURE)  # why is in the log


def build_config(app: str | Callable[..., Any], settings: ServerSettings, **options: Any) -> uvicorn.Config:
    """uvicorn's configuration for the API."""
    headers = security_headers(settings.hsts_seconds)
    limits = ConnectionLimits(settings.request_timeout, settings.max_header_bytes, _connection_limit(settings.max_connections))
    return uvicorn.Config(
        app,
        http=cast("Any", HttpProtocolFactory(limits, headers)),
        ws=cast("Any", partial(LimitedWebSocketProtocol, headers=headers)),
        ws_max_size=MAX_WEBSOCKET_MESSAGE_BYTES,
        ws_ping_interval=None,  # WebSocketHandler sends pings of graphql-transport-ws instead
        ws_per_message_deflate=False,  # it costs a third of a core, and 300 kB per socket, for messages of a few hundred bytes
        timeout_keep_alive=settings.keep_alive_timeout,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        **options,
    )


def _connection_limit(requested: int) -> int:
    """Raise RLIMIT_NOFILE as far as needed; return the number of connections that it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < requested + RESERVED_DESCRIPTORS:
        descriptors = requested + RESERVED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(requested + RESERVED_DESCRIPTORS, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
        return max(10, min(requested, descriptors - RESERVED_DESCRIPTORS))
    return requested
