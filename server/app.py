"""The Starlette application: the GraphQL endpoint, the console's assets, health, metrics, and the connections they share."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute

from db.core.deadlines import Deadlines
from db.core.work import Database
from db.limits.sign_in_attempts import SignInAttempts
from db.queries import accounts, jobchanges, jobevents
from db.services.accounts import (
    AccountDeletions,
    EmailChanges,
    Passkeys,
    PasswordChanges,
    ProviderSignIns,
    Registrations,
    Restorations,
    SecondFactors,
    SignIns,
    TeamInvitations,
)
from db.services.accounts.passwords import HashingThreads
from db.settings import state_settings
from db.stores.objects import ObjectStore
from db.stores.redis import connect
from db.streams.feed import Feed, Revalidation
from db.streams.job_watch import ChangeQueries
from db.streams.notices import RedisNoticePublisher
from graph.execution.limits.gate import Gate
from graph.settings import GraphSettings, graph_settings
from server import console, health, items, mail_callbacks, mail_previews, s3_events, sign_in_cookie, stripe_events, unsubscribe
from server.api_usage import ApiUsage
from server.graphql import COST_HEADER, PLAN_HEADER, REQUEST_ID_HEADER, GraphQLView
from server.metrics import measure_process
from server.mlflow.routes import routes as mlflow_routes
from server.oauth.providers import Providers
from server.oauth.routes import routes as oauth_routes
from server.observability import ObservabilityMiddleware, record_rejection
from server.plain_queries import PATH, PlainQueries
from server.protocol import csrf
from server.protocol.http_errors import error_body
from server.protocol.security_headers import SecurityHeaders
from server.settings import ServerSettings, server_settings
from server.token_usage import TokenUsage

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from server.tracing import Spans


def create_app(settings: ServerSettings | None = None, spans: Spans | None = None, limits: GraphSettings | None = None) -> Starlette:
    """Create the application from these settings or the environment's; the factory for uvicorn. It closes the given `spans`."""
    settings, state = settings or server_settings(), state_settings()
    if settings.tracing and spans is None:
        from server.tracing import Spans  # an optional extra, imported only when tracing is on

        spans = Spans("trellis-api")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        # Imported objects live for ever, and a response of a thousand fields makes many short-lived ones: with Python's default
        # thresholds, garbage collection took 28 % of a nested read's CPU time.
        gc.freeze()
        gc.set_threshold(50_000, 10, 10)
        redis = connect(state.redis_url)
        publisher = RedisNoticePublisher(redis)
        rights = Revalidation(accounts.current_viewers, jobevents.visible_jobs, state.session_revalidation_interval)
        watch_queries = ChangeQueries(jobchanges.load_changes, jobchanges.changed_since)
        async with (
            redis,
            Database.open(state, publisher if spans is None else spans.link_jobs(publisher)) as database,
            ObjectStore.open(state) as objects,
            Feed.open(state.redis_url, database, rights, watch_queries) as feed,
            TokenUsage.open(database, lambda: feed.sessions.key_ids) as token_usage,
            ApiUsage.open(database) if settings.usage_recording else nullcontext() as api_usage,
            HashingThreads.open() as hashing_threads,
            measure_process(database),
        ):
            app.state.deadlines = Deadlines(settings.operation_timeout)
            app.state.gate = Gate.of(limits or graph_settings(), redis)
            app.state.database, app.state.redis, app.state.objects, app.state.feed = database, redis, objects, feed
            app.state.token_usage, app.state.api_usage = token_usage, api_usage
            attempts = SignInAttempts(redis)
            app.state.sign_ins = SignIns(database, attempts, hashing_threads, state)
            app.state.password_changes = PasswordChanges(database, attempts, hashing_threads, state)
            app.state.registrations = Registrations(database, attempts, hashing_threads, state)
            app.state.team_invitations = TeamInvitations(database, attempts, state)
            app.state.email_changes = EmailChanges(database, attempts, hashing_threads)
            app.state.second_factors = SecondFactors(database, attempts, hashing_threads, state)
            app.state.provider_sign_ins = ProviderSignIns(database, attempts, app.state.sign_ins, state)
            app.state.providers = Providers(settings)
            app.state.account_deletions = AccountDeletions(database, attempts, hashing_threads, state)
            app.state.restorations = Restorations(database, attempts, hashing_threads, state)
            app.state.passkeys = Passkeys(database, attempts, hashing_threads, state)
            yield
            await app.state.providers.close()
        if spans is not None:
            spans.close()

    graphql_view = GraphQLView(settings, state)
    view = ObservabilityMiddleware(graphql_view, server_timing=settings.server_timing, spans=spans)
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST"],
        allow_headers=[
            "authorization",
            "content-type",
            "last-event-id",
            "range",
            "if-range",
            *csrf.PREFLIGHT_HEADERS,
            COST_HEADER,
            PLAN_HEADER,
        ],
        expose_headers=[REQUEST_ID_HEADER, "retry-after", "accept-ranges", "content-range", "etag"],
        max_age=3600,
    )
    app = _Application(
        middleware=[Middleware(SecurityHeaders, hsts=settings.hsts_seconds), *([cors] if settings.allowed_origins else [])],
        routes=[
            Route("/", _redirect_to_graphql),
            Route("/graphql", view),
            Route("/graphql/", _redirect_to_graphql, methods=["GET", "POST", "OPTIONS"]),
            WebSocketRoute("/graphql", view),
            sign_in_cookie.route(state),
            s3_events.route(settings, state),
            stripe_events.route(state),
            mail_callbacks.route(settings),
            *mail_previews.routes(settings, state),
            items.route(state),
            unsubscribe.route(state),
            *oauth_routes(state),
            *mlflow_routes(state),
            *health.routes(settings),
            *console.routes(has_pages=settings.graphiql),
        ],
        exception_handlers={HTTPException: _error_response},
        lifespan=lifespan,
    )
    if spans is None:
        app.plain_queries = PlainQueries(graphql_view, settings, app.state, app.answer)
    app.router.redirect_slashes = False  # it would redirect to the host that the request names, and by http behind a proxy that ends TLS
    return app


class _Application(Starlette):
    """Starlette, but for the queries that need nothing of it."""

    plain_queries: PlainQueries | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.plain_queries is not None and scope["type"] == "http" and scope["path"] == PATH and not scope.get("root_path"):
            await self.plain_queries(scope, receive, send)
        else:
            await self.answer(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by routes."""
        await super().__call__(scope, receive, send)


async def _redirect_to_graphql(request: Request) -> RedirectResponse:
    return RedirectResponse("/graphql" + (f"?{request.url.query}" if request.url.query else ""))


_ERRORS_BY_STATUS = {
    404: ("NOT_FOUND", "There is nothing at this address. Operations go to `/graphql`."),
    405: ("METHOD_NOT_ALLOWED", "This address does not take this method. Operations go to `/graphql`, by POST."),
}


async def _error_response(_request: Request, error: Exception) -> Response:
    """Render routing errors as GraphQL responses, like all others."""
    assert isinstance(error, HTTPException)
    code, message = _ERRORS_BY_STATUS.get(error.status_code, ("BAD_REQUEST", "The request is not valid here. Operations go to `/graphql`."))
    request_id = uuid4().hex
    record_rejection(request_id, error.status_code, code)
    headers = {
        **(error.headers or {}),
        "Content-Type": "application/json; charset=utf-8",
        "Cache-Control": "no-store",
        REQUEST_ID_HEADER: request_id,
    }
    return Response(error_body(code, message, request_id), error.status_code, headers)
