"""The minimal cost of a websocket broadcast: plain Starlette that sends each message to one socket after the other."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

_sockets: set[WebSocket] = set()


async def _keep_open(socket: WebSocket) -> None:
    await socket.accept()
    _sockets.add(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        _sockets.discard(socket)


async def _broadcast(request: Request) -> Response:
    for text in (await request.body()).decode().split("\n"):
        for socket in tuple(_sockets):
            await socket.send_text(text)
    return Response(status_code=204)


async def _count(_request: Request) -> Response:
    return Response(str(len(_sockets)))


app = Starlette(
    routes=[WebSocketRoute("/sockets", _keep_open), Route("/say", _broadcast, methods=["POST"]), Route("/sockets/count", _count)]
)
