"""The GraphQL endpoint: Strawberry's ASGI view with our way of reading requests, our context, our errors and our console.

Every answer to a GraphQL request is a GraphQL response, the refused ones too, and carries the request's id.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import timedelta
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
from graphql import GraphQLError, OperationType
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult

from db.errors import Unavailable
from graph.core.context import Context, Progress
from graph.core.failures import coded
from graph.core.operations import chosen
from graph.core.persisted import hash_in
from graph.schema import schema
from server.auth import BadToken, viewer_of
from server.console import page
from server.protocol import answers, bodies, csrf
from server.protocol.asked import Asked, parameters
from server.protocol.events import DROP, STREAMING, EventStream
from server.protocol.leaving import unless_gone
from server.protocol.negotiation import HTML, JSON, RESPONSE, STREAM, Accept
from server.protocol.refusals import Refused, bad_request, told
from server.protocol.sockets import SocketHandler
from server.protocol.streams import Streams
from server.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from db.core.work import Database
    from db.settings import StateSettings
    from db.stores.feed import Feed

REQUEST_ID = "x-request-id"
SHOWS_COST = "x-trellis-cost"  # whoever sends it, whatever its value, is told in `extensions.cost` what each operation costs
ALLOW = {"Allow": "GET, HEAD, POST, OPTIONS"}
_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept, Origin"}


class GraphQLView(GraphQL[Context, None]):
    """`/graphql` over HTTP, server-sent events and graphql-transport-ws; to a browser that asks for HTML, the GraphiQL page."""

    graphql_transport_ws_handler_class = SocketHandler

    def __init__(self, settings: ServerSettings, state: StateSettings) -> None:
        super().__init__(
            schema,
            graphql_ide="graphiql" if settings.graphiql else None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=timedelta(seconds=settings.socket_init_timeout),
            allowed_origins=settings.allowed_origins,
        )
        public = urlsplit(state.s3_public_url or state.s3_endpoint_url)
        self.settings = settings
        self.upload_origin = f"{public.scheme}://{public.netloc}" if public.netloc else None
        self.streams = Streams(settings.streams_per_viewer, "streams")
        self.sockets = Streams(settings.sockets_per_viewer, "sockets")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        request = Request(scope, receive)
        request.state.request_id = uuid4().hex
        try:
            response = await self._answer(request, receive, send)
        except ClientDisconnect:
            return
        except Refused as error:
            response = self._refused(request, error)
        except BadToken as error:
            response = self._refused(request, Refused(401, "UNAUTHENTICATED", str(error), {"WWW-Authenticate": "Bearer"}))
        except Unavailable as error:
            response = self._refused(request, Refused(503, "UNAVAILABLE", error.message, {"Retry-After": "1"}))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told as an operation's failure would be, and logged there
            response = self._refused(request, _failure(error, request.state.request_id))
        if response is not None:
            response.headers[REQUEST_ID] = request.state.request_id
            await response(scope, receive, send)

    async def _answer(self, request: Request, receive: Receive, send: Send) -> Response | None:
        """None where the answer was a stream, which by now has ended. Raises `Refused`."""
        accept = Accept(", ".join(request.headers.getlist("accept")))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={**ALLOW, "Accept-Post": JSON, **_HEADERS})
        if request.method not in {"GET", "HEAD", "POST"}:
            raise Refused(405, "METHOD_NOT_ALLOWED", "Operations come by POST; queries and streams by GET too.", ALLOW)
        reads = request.method != "POST"
        if reads and self.graphql_ide and accept.html and not parameters(request):
            return page(request, upload_origin=self.upload_origin)
        if accept.json is None and not accept.stream:
            offered = f"{RESPONSE}, {JSON}" + (f", {HTML} (by GET)" if self.graphql_ide else "")
            raise Refused(406, "NOT_ACCEPTABLE", f"None of the types in Accept is offered: {offered}, and {STREAM} for subscriptions.")
        if reads:
            csrf.check_get(request.headers)
            asked = await Asked.in_address(request)
        else:
            asked = await Asked.in_body(request, self.settings.max_body_bytes)
        context = await self.get_context(request, request)
        try:
            text = await self.resolve(asked, context)
        except GraphQLError as error:
            (refused,) = coded([error], phase="parse", request_id=context.request_id)
            request.state.journal.refusal = str((refused.extensions or {})["code"])
            return self._told(ExecutionResult(None, [refused]), accept, context)
        kind = _kind(text, asked)
        if kind is OperationType.MUTATION and reads:
            raise Refused(405, "METHOD_NOT_ALLOWED", "A mutation changes things, so it must come by POST.", {"Allow": "POST"})
        if kind is OperationType.SUBSCRIPTION or accept.json is None:
            return await self._stream(request, receive, send, accept, text, asked, context)
        execution = self.schema.execute(
            text,
            variable_values=asked.variables,
            context_value=context,
            operation_name=asked.operation_name,
            operation_extensions=asked.extensions,
        )
        # What a mutation has begun is not cut off: it might be at its commit, and its client could not tell.
        result = await (unless_gone(request, execution) if kind is OperationType.QUERY else execution)
        return self._told(result, accept, context)

    def _told(self, result: ExecutionResult, accept: Accept, context: Context, *, instead_of_stream: bool = False) -> Response:
        media = accept.json or JSON
        # 200 would look like a stream to whoever waits for one.
        as_of = RESPONSE if instead_of_stream or accept.json is None else media
        status, headers = answers.status(result, as_of, draft=self.settings.draft_statuses)
        if instead_of_stream and status < 400:  # refused by its source, which is a field
            status = 400
        body = answers.encoded(result, request_id=context.request_id, limit=self.settings.max_response_bytes)
        return Response(body, status, {"Content-Type": f"{media}; charset=utf-8", **_HEADERS, **headers})

    async def resolve(self, asked: Asked, context: Context) -> str:
        """The text of the document that is meant. Raises `Refused` where none is, and the GraphQLError of one that cannot be had."""
        text = asked.query
        if context.gate is not None:
            text = await context.gate.documents.resolve(asked.query, asked.document_id, asked.extensions)
        if not text:
            raise bad_request('There is no `query`. Send a JSON object: {"query": "…", "variables": {…}}.')
        if context.gate is not None:
            if not schema.appraiser.knows(text):
                context.paid = await context.gate.admit(context.viewer, context.address, text)
            if asked.query and asked.document_id is None and context.viewer is not None:
                context.registers = hash_in(asked.extensions)  # nobody else can make others' registered documents leave
        return text

    async def _stream(
        self, request: Request, receive: Receive, send: Send, accept: Accept, text: str, asked: Asked, context: Context
    ) -> Response | None:
        if not accept.stream:
            message = (
                f"A subscription is answered as a stream. Send `Accept: {STREAM}`, or use a websocket ({GRAPHQL_TRANSPORT_WS_PROTOCOL})."
            )
            raise Refused(406, "NOT_ACCEPTABLE", message)
        if request.method == "HEAD":
            raise Refused(405, "METHOD_NOT_ALLOWED", "A stream comes by GET or POST.", {"Allow": "GET, POST"})
        context.progress = Progress(after=request.headers.get("last-event-id") or None)
        feed: Feed = context.feed
        signed_out = asyncio.Event()
        viewer = context.viewer
        with ExitStack() as held:
            held.enter_context(self.streams.enter(viewer.id if viewer else request.client and request.client.host))
            if viewer is not None:
                session = held.enter_context(feed.sessions.attend(viewer))
                held.enter_context(session.tells(signed_out.set))
            request.scope["state"][STREAMING] = True
            results = await self.schema.stream(
                text,
                variable_values=asked.variables,
                context_value=context,
                operation_name=asked.operation_name,
                operation_extensions=asked.extensions,
            )
            stream = EventStream(
                cast("AsyncGenerator[ExecutionResult]", results),
                signed_out=signed_out,
                progress=context.progress,
                request_id=context.request_id,
                limit=self.settings.max_response_bytes,
                drop=request.scope["state"].get(DROP),
            )
            refused = await stream.send({**_HEADERS, REQUEST_ID: context.request_id}, receive, send)
        return None if refused is None else self._told(refused, accept, context, instead_of_stream=True)

    def _refused(self, request: Request, error: Refused) -> Response:
        request.state.journal.refusal = error.code
        body = told(error.code, str(error), request.state.request_id)
        media = Accept(", ".join(request.headers.getlist("accept"))).json or JSON
        return Response(body, error.status, {"Content-Type": f"{media}; charset=utf-8", **_HEADERS, **error.headers})

    async def get_context(self, request: Request | WebSocket, response: Any) -> Context:  # noqa: ARG002 - Strawberry's signature
        state = request.app.state
        database: Database = state.database
        patience = self.settings.operation_timeout
        viewer = await viewer_of(database, request.headers, patience) if isinstance(request, Request) else None
        request_id = request.state.request_id if isinstance(request, Request) else uuid4().hex
        context = Context(
            database,
            state.objects,
            state.feed,
            viewer,
            request_id,
            introspection=self.settings.introspection,
            patience=patience,
        )
        context.observer = request.state.journal
        context.gate = state.gate
        context.address = request.client.host if request.client else None
        context.shows_cost = SHOWS_COST in request.headers
        if isinstance(request, WebSocket):
            context.connection_params = dict(request.headers)
        return context

    def decode_json(self, data: str | bytes) -> object:
        """A message of a websocket. Raises the error that closes the socket as the protocol says."""
        try:
            return bodies.parsed(data.encode() if isinstance(data, str) else data, "The message")
        except Refused as error:
            raise JSONDecodeError(str(error), "", 0) from None

    def encode_json(self, data: object) -> str:
        # Text, because graphql-transport-ws sends text frames.
        return orjson.dumps(data).decode()


def _failure(error: Exception, request_id: str) -> Refused:
    (told,) = coded([GraphQLError(str(error), original_error=error)], phase="execute", request_id=request_id)
    code = str((told.extensions or {})["code"])
    return Refused(503 if code in {"TIMEOUT", "UNAVAILABLE"} else 500, code, told.message)


def _kind(text: str, asked: Asked) -> OperationType | None:
    """Of the operation that is meant; None for a text that cannot be read, which its execution will say. Raises `Refused`."""
    try:
        document = schema.read(text)
    except (GraphQLError, RecursionError):
        return None
    try:
        return chosen(document, asked.operation_name).operation
    except GraphQLError as error:
        raise bad_request(error.message) from None
