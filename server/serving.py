"""The API's process: uvicorn around the application, with a guard in front."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvicorn

from server.logs import configure_logs
from server.protocol.frames import GuardedSocket
from server.protocol.guard import Guard, Limits
from server.protocol.headers import safe
from server.settings import ServerSettings, server_settings

GRACE = 3  # seconds that requests in flight have when we are told to stop
WEBSOCKET_MESSAGE = 256 * 1024


SPARE = 200  # file descriptors for what is no connection of a client


def serve(host: str, port: int, descriptor: int | None = None) -> None:
    """Serve until a signal says stop. With `descriptor`, on that inherited socket, which is bound already."""
    configure_logs()
    settings = server_settings()
    config = configured(
        "server.app:create_app", settings, factory=True, host=host, port=port, loop="uvloop", timeout_graceful_shutdown=GRACE
    )
    sockets = None if descriptor is None else [socket.socket(fileno=descriptor)]
    uvicorn.Server(config).run(sockets=sockets)


def configured(app: str | Callable[..., Any], settings: ServerSettings, **options: Any) -> uvicorn.Config:
    """uvicorn as the API needs it."""
    headers = safe(settings.hsts_seconds)
    limits = Limits(settings.request_timeout, settings.max_header_bytes, _connections(settings.max_connections))
    return uvicorn.Config(
        app,
        http=cast("Any", Guard(limits, headers)),
        ws=cast("Any", partial(GuardedSocket, headers=headers)),
        ws_max_size=WEBSOCKET_MESSAGE,
        ws_ping_interval=None,  # the protocol's own pings are sent as messages, and answered or missed as such
        ws_per_message_deflate=False,  # costs a third of a core and 300 kB a socket for messages of a few hundred bytes
        timeout_keep_alive=settings.keep_alive_timeout,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        **options,
    )


def _connections(wanted: int) -> int:
    """How many the system lets us have, once it was asked for enough files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + SPARE:
        enough = wanted + SPARE if hard == resource.RLIM_INFINITY else min(wanted + SPARE, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
        return max(10, min(wanted, enough - SPARE))
    return wanted
