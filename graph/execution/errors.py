"""From exceptions to the errors that clients read: each carries a code of a fixed list; unexpected ones are masked."""

from collections.abc import Iterable
from typing import Any

import structlog
from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.exceptions import StrawberryInputCoercionError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError

from db import errors
from graph.core.errors import BadUserInput, Unauthenticated

log: structlog.stdlib.BoundLogger = structlog.get_logger()

CODES = frozenset(
    {
        "UNAUTHENTICATED",
        "FORBIDDEN",
        "NOT_FOUND",
        "COST_LIMIT_EXCEEDED",
        "RATE_LIMITED",
        "BAD_USER_INPUT",
        "BAD_REQUEST",
        "GRAPHQL_PARSE_FAILED",
        "GRAPHQL_VALIDATION_FAILED",
        "PERSISTED_QUERY_NOT_FOUND",
        "PERSISTED_QUERY_NOT_SUPPORTED",
        "DOCUMENT_NOT_FOUND",
        "DOCUMENT_REQUIRED",
        "PAYLOAD_TOO_LARGE",
        "RESPONSE_TOO_LARGE",
        "METHOD_NOT_ALLOWED",
        "NOT_ACCEPTABLE",
        "UNSUPPORTED_MEDIA_TYPE",
        "TIMEOUT",
        "UNAVAILABLE",
        "INTERNAL_SERVER_ERROR",
    }
)


# The first class that matches counts. Exceptions that are not listed are masked: their messages were not written for clients.
_CODES_BY_EXCEPTION: tuple[tuple[type[Exception], str], ...] = (
    (Unauthenticated, "UNAUTHENTICATED"),
    (errors.SignedOut, "UNAUTHENTICATED"),
    (BadUserInput, "BAD_USER_INPUT"),
    (CannotGetOperationTypeError, "BAD_REQUEST"),
    (InvalidOperationTypeError, "BAD_REQUEST"),
    (errors.Forbidden, "FORBIDDEN"),
    (errors.NotFound, "NOT_FOUND"),
    (errors.InvalidCursor, "BAD_USER_INPUT"),
    (errors.InvalidInput, "BAD_USER_INPUT"),
    (errors.Unavailable, "UNAVAILABLE"),
    (errors.DatabaseNotMigrated, "UNAVAILABLE"),
    (errors.NoSecretKey, "UNAVAILABLE"),
)
# The SQLSTATEs that clients should know: a character that no text column takes (NUL), one that the encoding lacks, and a statement that
# reached its timeout.
_UNSTORABLE_MESSAGE = "A text of the input contains a character that cannot be stored, such as NUL (U+0000). Remove it."
_CODES_BY_SQLSTATE = {
    "22021": ("BAD_USER_INPUT", _UNSTORABLE_MESSAGE),
    "22P05": ("BAD_USER_INPUT", _UNSTORABLE_MESSAGE),
    "57014": (
        "TIMEOUT",
        "A database query reached its timeout and was cancelled. Request less at once: shorter pages, fewer levels, a narrower filter.",
    ),
}


def to_client_errors(graphql_errors: Iterable[GraphQLError], *, phase: str, request_id: str) -> list[GraphQLError]:
    """Return the errors as clients may see them. `phase` is parse, validate or execute: where the operation was when they arose."""
    logged: set[int] = set()  # one failed statement is an error of every field that waited for it, but one line of the log
    return [_to_client_error(error, phase, request_id, logged) for error in graphql_errors]


def _to_client_error(error: GraphQLError, phase: str, request_id: str, logged: set[int]) -> GraphQLError:
    code = _code(error, phase)
    if code is not None:
        extensions: dict[str, Any] = {**(error.extensions or {}), "code": code, "requestId": request_id}
        return GraphQLError(_message(error), error.nodes, error.source, error.positions, error.path, error.original_error, extensions)
    cause = error.original_error or error
    if id(cause) not in logged:
        logged.add(id(cause))
        log.error("unexpected_error", request_id=request_id, path=error.path, exc_info=cause)
    extensions = {"code": "INTERNAL_SERVER_ERROR", "requestId": request_id}
    return GraphQLError("Internal error", error.nodes, error.source, error.positions, error.path, extensions=extensions)


def _code(error: GraphQLError, phase: str) -> str | None:
    """Return the code of an error whose message may be shown; None for one that must be masked."""
    declared_code = (error.extensions or {}).get("code")
    if declared_code in CODES and declared_code != "INTERNAL_SERVER_ERROR":
        return declared_code
    cause = error.original_error
    for exception_type, code in _CODES_BY_EXCEPTION:
        if isinstance(cause, exception_type):
            return code
    sqlstate_error = _sqlstate_error(cause)
    if sqlstate_error is not None:
        return sqlstate_error[0]
    if isinstance(error, GraphQLSyntaxError) or (phase == "parse" and cause is None):
        return "GRAPHQL_PARSE_FAILED"
    if not _is_input_error(error):
        return None
    return "GRAPHQL_VALIDATION_FAILED" if phase == "validate" else "BAD_USER_INPUT"


def _is_input_error(error: GraphQLError) -> bool:
    """Whether the error is about the document, a variable or an argument; then it points into the document. A failure of ours does not.

    With a path it arose in a field: there an argument's error points into the document, and one from serializing the result does not.
    """
    cause = error.original_error
    if error.path is None:
        return cause is None or bool(error.nodes)
    return isinstance(cause, StrawberryInputCoercionError) or (isinstance(cause, GraphQLError) and bool(cause.nodes))


def _sqlstate_error(cause: Exception | None) -> tuple[str, str] | None:
    """Return code and message for an error of the database, found by its attributes: the graph imports no driver."""
    return _CODES_BY_SQLSTATE.get(getattr(getattr(cause, "orig", None), "sqlstate", None) or "")


def _message(error: GraphQLError) -> str:
    sqlstate_error = _sqlstate_error(error.original_error)
    return error.message if sqlstate_error is None else sqlstate_error[1]
