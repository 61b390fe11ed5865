"""The API's process: uvicorn around the application."""

from __future__ import annotations

import socket

import uvicorn

from server.logs import configure_logs

GRACE = 3  # seconds that requests in flight have when we are told to stop
WEBSOCKET_MESSAGE = 256 * 1024


def serve(host: str, port: int, descriptor: int | None = None) -> None:
    """Serve until a signal says stop. With `descriptor`, on that inherited socket, which is bound already."""
    configure_logs()
    config = uvicorn.Config(
        "server.app:create_app",
        factory=True,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=WEBSOCKET_MESSAGE,
        ws_per_message_deflate=False,  # costs a third of a core and 300 kB a socket for messages of a few hundred bytes
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    sockets = None if descriptor is None else [socket.socket(fileno=descriptor)]
    uvicorn.Server(config).run(sockets=sockets)
