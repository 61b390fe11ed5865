"""`/auth/cookie`: a page exchanges a bearer token for the cookie, which its scripts cannot read, and gives the cookie back."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from db.core.audit import AuditOrigin, Origin, acting
from db.errors import DatabaseNotMigrated, Unavailable
from db.services import accounts
from graph.core.session_cookie import SessionCookie
from server.auth import InvalidToken, authenticate, bearer_token
from server.observability import record_rejection
from server.protocol.http_errors import HttpError, error_body
from server.protocol.session_cookie import CookieSite

if TYPE_CHECKING:
    from db.settings import StateSettings

PATH = "/auth/cookie"
TIMEOUT = 10.0  # seconds to look up a token


def route(state: StateSettings) -> Route:
    """POST with `Authorization` sets the cookie; DELETE with the cookie ends its session, if it is one, and removes it.

    Both need a header that forces a preflight and the page's own origin, as `login` with `transport: COOKIE` does.
    """

    async def respond(request: Request) -> Response:
        request.state.request_id = uuid4().hex
        site = CookieSite.of(request.scope, request.headers, state.public_url)
        try:
            cookie = await (_keep(request, site, state.session_lifetime) if request.method == "POST" else _remove(request, site))
        except HttpError as error:
            return _refused(request, error)
        except InvalidToken as error:
            return _refused(request, HttpError(401, "UNAUTHENTICATED", str(error), {"WWW-Authenticate": "Bearer"}))
        except (Unavailable, DatabaseNotMigrated) as error:
            return _refused(request, HttpError(503, "UNAVAILABLE", error.message, {"Retry-After": "1"}))
        header = site.set_cookie(cookie)
        return Response(status_code=204, headers={"Cache-Control": "no-store", **({"Set-Cookie": header} if header else {})})

    return Route(PATH, respond, methods=["POST", "DELETE"])


async def _keep(request: Request, site: CookieSite, lifetime: float) -> SessionCookie:
    if (refusal := site.refusal(request.method, request.headers)) is not None:
        raise HttpError(403, "FORBIDDEN", refusal)
    token = bearer_token(request.headers)
    state = request.app.state
    if await authenticate(state.feed.viewers, state.token_usage, token, TIMEOUT) is None:
        raise InvalidToken
    return SessionCookie(token=token, lifetime=lifetime)


async def _remove(request: Request, site: CookieSite) -> SessionCookie:
    token = site.request_token(request.headers)
    state = request.app.state
    try:
        viewer = await authenticate(state.feed.viewers, state.token_usage, token, TIMEOUT)
    except InvalidToken:  # it has ended already
        viewer = None
    if viewer is not None and viewer.is_session:
        origin = Origin(AuditOrigin.API, request.client.host if request.client else None, request.state.request_id)
        with acting(origin):
            async with state.database.work(viewer) as work:
                await accounts.end_session(work, viewer.require_session())
    return SessionCookie(is_cleared=True)


def _refused(request: Request, error: HttpError) -> Response:
    request_id: str = request.state.request_id
    record_rejection(request_id, error.status, error.code)
    headers = {"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store", "X-Request-Id": request_id, **error.headers}
    return Response(error_body(error.code, str(error), request_id), error.status, headers)
