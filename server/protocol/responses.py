"""From an execution result to the response: its members, its length limit, and its status."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from strawberry.types import ExecutionResult

from graph.core.scalars import encode_json
from graph.execution.subscriptions import SharedResult
from server.protocol.negotiation import GRAPHQL_RESPONSE

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# These errors end an execution that had begun, so `data` is null instead of absent.
_EXECUTION_ERROR_CODES = frozenset({"TIMEOUT", "RESPONSE_TOO_LARGE"})

# Statuses of request errors, whatever the media type. The first code found counts.
_STATUS_BY_CODE = {
    "RATE_LIMITED": 429,
    "UNAUTHENTICATED": 401,
    "FORBIDDEN": 403,
    "UNAVAILABLE": 503,
    "INTERNAL_SERVER_ERROR": 500,
    "PAYLOAD_TOO_LARGE": 413,
    "BAD_REQUEST": 400,
}


def response_map(result: ExecutionResult) -> dict[str, Any]:
    """The response; without `data` if nothing was executed (GraphQL specification, 7.1.2)."""
    response: dict[str, Any] = {}
    if result.errors:
        response["errors"] = [error.formatted for error in result.errors]
    if not is_request_error(result):
        response["data"] = result.data
    if result.extensions:
        response["extensions"] = result.extensions
    return response


def encode(result: ExecutionResult, *, request_id: str, limit: int) -> bytes:
    """Encode the response as JSON; if it is longer than `limit` bytes, encode RESPONSE_TOO_LARGE instead."""
    try:
        body = result.text.encode() if isinstance(result, SharedResult) else encode_json(response_map(result))
    except TypeError:  # includes orjson's JSONEncodeError: a value without a representation in JSON or UTF-8
        log.exception("response_not_serializable", request_id=request_id)
        return encode_execution_error("INTERNAL_SERVER_ERROR", "Internal error", request_id)
    if len(body) > limit:
        message = f"The response has {len(body):,} bytes; the limit is {limit:,}. Ask for shorter pages or fewer fields."
        return encode_execution_error("RESPONSE_TOO_LARGE", message, request_id)
    return body


def encode_execution_error(code: str, message: str, request_id: str) -> bytes:
    """Encode the response of an execution that failed as a whole."""
    error = {"message": message, "extensions": {"code": code, "requestId": request_id}}
    return orjson.dumps({"errors": [error], "data": None})


def status_and_headers(result: ExecutionResult, media_type: str, *, draft: bool) -> tuple[int, Mapping[str, str]]:
    """The HTTP status and its headers. `draft`: with 422 and 294 of the GraphQL over HTTP draft of 2026."""
    errors = result.errors or []
    if not is_request_error(result):
        return (294 if draft and errors and media_type == GRAPHQL_RESPONSE else 200), {}
    codes = {(error.extensions or {}).get("code"): error.extensions or {} for error in errors}
    for code, status in _STATUS_BY_CODE.items():
        if code in codes:
            retry_after = codes[code].get("retryAfter")
            return status, {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
    if media_type != GRAPHQL_RESPONSE:
        return 200, {}
    return (422 if draft and "GRAPHQL_PARSE_FAILED" not in codes else 400), {}


def is_request_error(result: ExecutionResult) -> bool:
    """Whether the errors arose before execution. Field errors have a path; errors of the document or its variables have none."""
    if result.data is not None or not result.errors:
        return False
    return all(error.path is None and (error.extensions or {}).get("code") not in _EXECUTION_ERROR_CODES for error in result.errors)
