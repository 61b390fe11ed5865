"""The GraphQL endpoint: Strawberry's ASGI view with our context, our errors and our console.

Every answer to a GraphQL request is a GraphQL response, the refused ones too, and carries the request's id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
from cross_web import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types.unset import UNSET, UnsetType

from db.errors import Unavailable
from graph.core.context import Context
from graph.schema import schema
from server.auth import BadToken, viewer_of
from server.console import page
from server.protocol.sockets import SocketHandler
from server.settings import ServerSettings

if TYPE_CHECKING:
    from db.core.work import Database
    from db.settings import StateSettings

REQUEST_ID = "x-request-id"


class GraphQLView(GraphQL[Context, None]):
    """`/graphql` over HTTP and graphql-transport-ws; to a browser that asks for HTML, the GraphiQL page."""

    graphql_transport_ws_handler_class = SocketHandler

    def __init__(self, settings: ServerSettings, state: StateSettings) -> None:
        super().__init__(
            schema,
            graphql_ide="graphiql" if settings.graphiql else None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            allowed_origins=settings.allowed_origins,
        )
        public = urlsplit(state.s3_public_url or state.s3_endpoint_url)
        self.introspection = settings.introspection
        self.upload_origin = f"{public.scheme}://{public.netloc}" if public.netloc else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        request = Request(scope, receive)
        request.state.request_id = uuid4().hex
        try:
            response = await self.run(request)
        except HTTPException as error:
            response = self._refused(request, error.status_code, "BAD_REQUEST", error.reason)
        except BadToken as error:
            response = self._refused(request, 401, "UNAUTHENTICATED", str(error))
            response.headers["WWW-Authenticate"] = "Bearer"
        except Unavailable as error:
            response = self._refused(request, 503, "UNAVAILABLE", error.message)
        response.headers[REQUEST_ID] = request.state.request_id
        await response(scope, receive, send)

    def _refused(self, request: Request, status: int, code: str, message: str) -> Response:
        error = {"message": message, "extensions": {"code": code, "requestId": request.state.request_id}}
        return Response(orjson.dumps({"errors": [error]}), status, media_type="application/json")

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:  # noqa: ARG002 - Strawberry's signature
        state = request.app.state
        database: Database = state.database
        viewer = await viewer_of(database, request.headers) if isinstance(request, Request) else None
        request_id = request.state.request_id if isinstance(request, Request) else uuid4().hex
        context = Context(database, state.objects, state.feed, viewer, request_id, introspection=self.introspection)
        if isinstance(request, WebSocket):
            # A browser cannot set headers on a websocket, so there the token comes with connection_init; other clients may use the header.
            context.connection_params = dict(request.headers)
        return context

    async def on_ws_connect(self, context: Context) -> UnsetType:
        try:
            context.viewer = await viewer_of(context.database, context.connection_params or {})
        except BadToken:
            raise ConnectionRejectionError from None
        context.refresh()
        return UNSET  # an ack without a payload; with null, older clients refuse it

    async def render_graphql_ide(self, request: Request) -> Response:
        return page(request, upload_origin=self.upload_origin)

    def parse_json(self, data: str | bytes) -> object:
        """A body, or one of the query's parameters, which come as text and which Strawberry checks itself."""
        found: Any = super().parse_json(data)
        if isinstance(data, bytes) and not isinstance(found, dict | list):
            raise HTTPException(400, 'The body must be a JSON object: {"query": "…", "variables": {…}}.')
        return cast("object", found)

    def decode_json(self, data: str | bytes) -> object:
        return orjson.loads(data)

    def encode_json(self, data: object) -> str:
        # Text, because graphql-transport-ws sends text frames.
        return orjson.dumps(data).decode()
