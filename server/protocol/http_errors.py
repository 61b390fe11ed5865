"""Errors of requests that never become operations."""

from __future__ import annotations

from collections.abc import Mapping

import orjson


class HttpError(Exception):
    """Responded to with `status`, these headers, and a GraphQL error of this code; the message is for the client's developer."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


def bad_request(message: str) -> HttpError:
    return HttpError(400, "BAD_REQUEST", message)


def error_body(code: str, message: str, request_id: str) -> bytes:
    """The body: a GraphQL response with one error."""
    return orjson.dumps({"errors": [{"message": message, "extensions": {"code": code, "requestId": request_id}}]})
