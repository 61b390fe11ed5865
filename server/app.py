"""The application: the GraphQL endpoint, the console's assets, health and metrics, and the connections they share."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route, WebSocketRoute

from db.core.work import Database
from db.settings import state_settings
from db.stores.events import Feed, RedisPost, connect
from db.stores.objects import ObjectStore
from server import console, health
from server.graphql import REQUEST_ID, GraphQLView
from server.settings import server_settings


def create_app() -> Starlette:
    """A fresh application from the settings in the environment; uvicorn's factory."""
    settings, state = server_settings(), state_settings()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        # What was imported lives for ever, and an answer of a thousand fields makes many short-lived objects: with Python's own
        # thresholds, walking them all took 28 % of a nested read's CPU time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 10, 10)
        redis = connect(state.redis_url)
        async with (
            redis,
            Database.open(state, RedisPost(redis)) as database,
            ObjectStore.open(state) as objects,
            Feed.open(state.redis_url, database) as feed,
        ):
            app.state.database, app.state.redis, app.state.objects, app.state.feed = database, redis, objects, feed
            yield

    view = GraphQLView(settings, state)
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
        expose_headers=[REQUEST_ID],
        max_age=3600,
    )
    return Starlette(
        middleware=[cors] if settings.allowed_origins else [],
        routes=[
            Route("/", _to_graphql),
            Route("/graphql", view),
            WebSocketRoute("/graphql", view),
            *health.routes(),
            *console.routes(),
        ],
        lifespan=lifespan,
    )


async def _to_graphql(_request: Request) -> RedirectResponse:
    return RedirectResponse("/graphql")
