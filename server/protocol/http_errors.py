"""What is refused before it is an operation."""

from __future__ import annotations

from collections.abc import Mapping

import orjson


class HttpError(Exception):
    """Answered with `status`, these headers, and a GraphQL error of this code; the message is for whoever wrote the client."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


def bad_request(message: str) -> HttpError:
    return HttpError(400, "BAD_REQUEST", message)


def error_body(code: str, message: str, request_id: str) -> bytes:
    """The body of a refusal: a GraphQL response like every other answer."""
    return orjson.dumps({"errors": [{"message": message, "extensions": {"code": code, "requestId": request_id}}]})
