"""Callbacks of other services, such as the object store and the payment provider: small bodies, and errors like those of operations."""

from __future__ import annotations

from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from server.observability import record_rejection
from server.protocol.http_errors import HttpError, error_body

MAX_BYTES = 1024**2


async def read_body(request: Request) -> bytes:
    """Return the body as it was sent. Raises `HttpError` for one that is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise HttpError(413, "BAD_REQUEST", f"A notice has at most {MAX_BYTES:,} bytes.")
    return bytes(body)


def refused(error: HttpError) -> Response:
    """The response to a callback that was not accepted."""
    request_id = uuid4().hex
    record_rejection(request_id, error.status, error.code)
    headers = {"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store", "X-Request-Id": request_id, **error.headers}
    return Response(error_body(error.code, str(error), request_id), error.status, headers)
