"""The routes of MLflow's REST protocol, below `/api` and below `/accounts/<username>/api`, where the username is that of a team.

Every answer is JSON, errors too. What clients repeat by themselves (429, 5xx) is told as such, with `Retry-After`; nothing else is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import orjson
import structlog
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from db.core.audit import AuditOrigin, Origin, acting
from db.core.database_errors import is_transient
from db.core.networks import ClientInfo
from db.core.policy import visible
from db.core.viewer import Viewer
from db.errors import (
    Conflict,
    DatabaseNotMigrated,
    Forbidden,
    InvalidInput,
    NameTaken,
    NotFound,
    QuotaExceeded,
    StateError,
    Unavailable,
)
from db.queries.accounts import has_username
from db.tables import User
from server.mlflow import deletions, experiments, files, inputs, logged_models, registry, runs
from server.mlflow.errors import STATUS, MlflowError, not_found
from server.mlflow.requests import Call, Endpoint, read_fields, sign_in, take_points
from server.observability import record_rejection

if TYPE_CHECKING:
    from db.settings import StateSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

ENDPOINTS: tuple[Endpoint, ...] = (
    *experiments.ENDPOINTS,
    *runs.ENDPOINTS,
    *inputs.ENDPOINTS,
    *files.ENDPOINTS,
    *logged_models.ENDPOINTS,
    *registry.ENDPOINTS,
    *deletions.ENDPOINTS,
)


class _AnyPath(PathConvertor):
    """All of the rest of an address; the usual one stops at line breaks, which are to be refused with a reason."""

    regex = r"[\s\S]*"


register_url_convertor("any", _AnyPath())
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def routes(state: StateSettings) -> list[Route]:
    """A route for each path, and one that answers for all others as MLflow does for what it does not know."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in ENDPOINTS:
        by_path.setdefault(f"/api/{endpoint.version}{endpoint.path}", {})[endpoint.method] = endpoint
    found: list[Route] = []
    for prefix in ("", "/accounts/{account}"):
        found += [Route(f"{prefix}{path}", _respond(state, methods), methods=_METHODS) for path, methods in by_path.items()]
        found += [Route(f"{prefix}/api/{{rest:any}}", _respond(state, {}), methods=_METHODS)]
    return found


def _respond(state: StateSettings, methods: Mapping[str, Endpoint]) -> Any:
    async def respond(request: Request) -> Response:
        started_at = time.perf_counter()
        request_id = uuid4().hex
        client = ClientInfo(request.client.host if request.client else None, request.headers.get("user-agent"), request.headers.get("host"))
        try:
            with acting(Origin(AuditOrigin.API, client.address, request_id)):
                response = await _answer(request, state, methods, client)
        except Exception as error:
            if not isinstance(error, MlflowError):
                log.exception("unexpected_error", request_id=request_id, path=request.url.path)
                error = MlflowError("INTERNAL_ERROR", f"Internal error; the operator finds it by the request id {request_id}.")
            response = error.response()
            record_rejection(request_id, STATUS[error.code], error.code, ms=round((time.perf_counter() - started_at) * 1000, 2))
        response.headers["X-Request-ID"] = request_id
        return response

    return respond


async def _answer(request: Request, state: StateSettings, methods: Mapping[str, Endpoint], client: ClientInfo) -> Response:
    endpoint = methods.get(request.method)
    if endpoint is None:
        raise MlflowError(
            "ENDPOINT_NOT_FOUND", f"{request.method} {request.url.path} is not answered here. docs/tracking.md of Trellis lists what is."
        )
    viewer = await sign_in(request, state)
    await take_points(request, viewer, client, endpoint.cost)
    fields: Mapping[str, Any] = {}
    try:
        viewer.require_scope(endpoint.scope, f"{endpoint.method} {endpoint.path}")
        fields = {} if endpoint.is_file else await read_fields(request)
        account, state_ = await _account(request, viewer), request.app.state
        call = Call(viewer, account, state_.database, state_.objects, fields, dict(request.path_params), request)
        body = await endpoint.handler(call)
    except ClientDisconnect:
        return Response(status_code=499)
    except NotFound as error:  # its id is a key of ours
        raise _missing(fields) from error
    except StateError as error:
        raise _translated(error) from None
    except DBAPIError as error:
        if not is_transient(error):
            raise
        log.warning("statement_aborted", path=endpoint.path, reason=str(error.orig))
        raise MlflowError("TEMPORARILY_UNAVAILABLE", _ABORTED, {"Retry-After": "1"}) from error
    if isinstance(body, Response):
        return body
    return Response(orjson.dumps(body), 200, {"Cache-Control": "no-store"}, "application/json")


async def _account(request: Request, viewer: Viewer) -> UUID:
    """The account that the address names, if the viewer may see it; else the viewer's own."""
    username = request.path_params.get("account")
    if username is None:
        return viewer.id
    found = await request.app.state.database.rows(select(User.id).where(has_username(username), visible(User, viewer)))
    if not found:
        raise not_found("account", username)
    return found[0].id


_ABORTED = "The database gave this call up, for others that it waited for or since it took too long. Repeat it, or ask for less: fewer results, a narrower filter."


def _missing(fields: Mapping[str, Any]) -> MlflowError:
    """The error for the id that was given; the same for what is not there and for what the viewer may not see."""
    for name, kind in (("run_id", "Run"), ("run_uuid", "Run"), ("experiment_id", "Experiment")):
        if fields.get(name):
            return not_found(kind, fields[name])
    return MlflowError("RESOURCE_DOES_NOT_EXIST", "What this names does not exist.")


def _translated(error: StateError) -> MlflowError:
    """The error in MLflow's words. Statuses that clients would repeat are only those where that helps."""
    match error:
        case NameTaken() | Conflict():
            return MlflowError("RESOURCE_ALREADY_EXISTS", error.message)
        case InvalidInput():
            issues = "; ".join(f"{'.'.join(issue.path)}: {issue.message}" if issue.path else issue.message for issue in error.issues)
            return MlflowError("INVALID_PARAMETER_VALUE", issues)
        case Forbidden() | QuotaExceeded():
            return MlflowError("PERMISSION_DENIED", error.message)
        case Unavailable() | DatabaseNotMigrated():
            return MlflowError("TEMPORARILY_UNAVAILABLE", error.message, {"Retry-After": "1"})
        case _:
            return MlflowError("INVALID_PARAMETER_VALUE", error.message)
