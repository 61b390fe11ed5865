"""The application: the GraphQL endpoint, the console's assets, health and metrics, and the connections they share."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route, WebSocketRoute

from db.core.work import Database
from db.settings import state_settings
from db.stores.events import Feed, RedisPost, connect
from db.stores.objects import ObjectStore
from server import console, health
from server.graphql import GraphQLView
from server.settings import ServerSettings


def create_app() -> Starlette:
    """A fresh application from the settings in the environment; uvicorn's factory."""
    settings, state = ServerSettings(), state_settings()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
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
    return Starlette(
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
