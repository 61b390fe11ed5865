"""Callbacks of other services, such as the object store and the payment provider: small bodies, and errors like those of operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import uuid4

from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from db.errors import DatabaseNotMigrated, Unavailable
from server.observability import record_rejection
from server.protocol.http_errors import HttpError, error_body

MAX_BYTES = 1024**2


def callback_route(path: str, secret: Callable[[], SecretStr], accept: Callable[[Request, str], Awaitable[None]]) -> Route:
    """POST to `accept`, which gets the secret that the caller must know and raises `HttpError` for what it refuses; the answer is 204.

    Without a secret there is nothing at the address. Where the database is away, the answer is 503, and the caller sends the callback again.
    """

    async def respond(request: Request) -> Response:
        known = secret().get_secret_value()
        if not known:
            raise HTTPException(404)
        try:
            await accept(request, known)
        except HttpError as error:
            return _refused(error)
        except (Unavailable, DatabaseNotMigrated) as error:
            return _refused(HttpError(503, "UNAVAILABLE", error.message, {"Retry-After": "1"}))
        return Response(status_code=204)

    return Route(path, respond, methods=["POST"])


async def read_body(request: Request) -> bytes:
    """Return the body as it was sent. Raises `HttpError` for one that is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise HttpError(413, "BAD_REQUEST", f"A notice has at most {MAX_BYTES:,} bytes.")
    return bytes(body)


def _refused(error: HttpError) -> Response:
    request_id = uuid4().hex
    record_rejection(request_id, error.status, error.code)
    headers = {"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store", "X-Request-Id": request_id, **error.headers}
    return Response(error_body(error.code, str(error), request_id), error.status, headers)
