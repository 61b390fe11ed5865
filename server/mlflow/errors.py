"""Errors in MLflow's form: `{"error_code": …, "message": …}` with the status that its own server answers."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.responses import Response

STATUS: Mapping[str, int] = {
    "INVALID_PARAMETER_VALUE": 400,
    "BAD_REQUEST": 400,
    "INVALID_STATE": 500,
    "RESOURCE_ALREADY_EXISTS": 400,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "REQUEST_LIMIT_EXCEEDED": 429,
    "TEMPORARILY_UNAVAILABLE": 503,
    "INTERNAL_ERROR": 500,
    "NOT_IMPLEMENTED": 501,
}


class MlflowError(Exception):
    """An answer with an error code of MLflow's; its clients raise a `RestException` with the message."""

    def __init__(self, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> Response:
        body = orjson.dumps({"error_code": self.code, "message": self.message})
        return Response(body, STATUS[self.code], {"Cache-Control": "no-store", **self.headers}, "application/json")


def invalid(message: str) -> MlflowError:
    """INVALID_PARAMETER_VALUE, which clients do not repeat."""
    return MlflowError("INVALID_PARAMETER_VALUE", message)


def not_found(kind: str, text: object) -> MlflowError:
    """RESOURCE_DOES_NOT_EXIST, for what is not there and for what the viewer may not see alike."""
    return MlflowError("RESOURCE_DOES_NOT_EXIST", f"No {kind} with id={text!s} exists")
