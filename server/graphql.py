"""The GraphQL endpoint: Strawberry's ASGI view with our request parsing, context, errors and console.

Every response, rejections included, is a GraphQL response with the request's id.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import timedelta
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from graphql import GraphQLError, OperationType
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult

from db.core.networks import ClientInfo
from db.errors import DatabaseNotMigrated, Unavailable
from graph.core.session_cookie import SessionCookie
from graph.execution.context import OperationContext, RequestServices
from graph.execution.errors import to_client_errors
from graph.schema import schema
from server.auth import InvalidToken, authenticate, bearer_token
from server.console import page
from server.protocol import csrf, json_body, responses
from server.protocol.connection_quota import ConnectionQuota
from server.protocol.disconnect import cancel_on_disconnect
from server.protocol.documents import operation_type, resolve_document
from server.protocol.graphql_request import GraphQLRequest, query_parameters
from server.protocol.http_errors import HttpError, bad_request, error_body
from server.protocol.negotiation import EVENT_STREAM, GRAPHQL_RESPONSE, HTML, JSON, Accept
from server.protocol.session_cookie import CookieSite
from server.protocol.sse import DROP, STREAMING, EventStream
from server.protocol.websocket_handler import WebSocketHandler
from server.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.datastructures import State

    from db.core.viewer import Viewer
    from db.settings import StateSettings
    from db.streams.feed import Feed
    from server.observability import OperationRecorder
    from server.token_usage import TokenUsage

log: structlog.stdlib.BoundLogger = structlog.get_logger()

REQUEST_ID_HEADER = "x-request-id"
COST_HEADER = "x-trellis-cost"  # with this request header, whatever its value, responses have `extensions.cost`
PLAN_HEADER = "x-trellis-plan"  # the same for `extensions.plan`, see `OperationContext.shows_plan`
ALLOW_HEADER = {"Allow": "GET, HEAD, POST, OPTIONS"}
_COMMON_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept, Origin"}


class GraphQLView(GraphQL[RequestServices, None]):
    """`/graphql` over HTTP, server-sent events and graphql-transport-ws; for browsers that prefer HTML, the GraphiQL page."""

    graphql_transport_ws_handler_class = WebSocketHandler

    def __init__(self, settings: ServerSettings, state: StateSettings) -> None:
        super().__init__(
            schema,
            graphql_ide="graphiql" if settings.graphiql else None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=timedelta(seconds=settings.socket_init_timeout),
            allowed_origins=settings.allowed_origins,
        )
        public_url = urlsplit(state.s3_public_url or state.s3_endpoint_url)
        self.settings = settings
        self._state = state
        self.upload_origin = f"{public_url.scheme}://{public_url.netloc}" if public_url.netloc else None
        self.stream_quota = ConnectionQuota(settings.streams_per_viewer, "streams")
        self.socket_quota = ConnectionQuota(settings.sockets_per_viewer, "sockets")

    def is_websocket_origin_allowed(self, request: WebSocket, origin: str) -> bool:
        if super().is_websocket_origin_allowed(request, origin):
            return True
        log.warning("websocket_origin_refused", origin=origin, host=request.headers.get("host"), setting="TRELLIS_ALLOWED_ORIGINS")
        return False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        request = Request(scope, receive)
        request.state.request_id = uuid4().hex
        try:
            response = await self._respond(request, receive, send)
        except ClientDisconnect:
            return
        except HttpError as error:
            response = self._error_response(request, error)
        except InvalidToken as error:
            response = self._error_response(request, HttpError(401, "UNAUTHENTICATED", str(error), {"WWW-Authenticate": "Bearer"}))
            if self.cookie_site(request).token(request.headers) is not None:  # the browser would be refused with every request
                self._set_cookie(request, response, SessionCookie(is_cleared=True))
        except (Unavailable, DatabaseNotMigrated) as error:
            response = self._error_response(request, HttpError(503, "UNAVAILABLE", error.message, {"Retry-After": "1"}))
        except Exception as error:  # noqa: BLE001 - rendered and logged as an operation's unexpected error is
            response = self._error_response(request, to_http_error(error, request.state.request_id))
        if response is not None:
            response.headers[REQUEST_ID_HEADER] = request.state.request_id
            await response(scope, receive, send)

    async def _respond(self, request: Request, receive: Receive, send: Send) -> Response | None:
        """None after a stream, which has been sent completely. Raises `HttpError`."""
        accept = Accept(", ".join(request.headers.getlist("accept")))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={**ALLOW_HEADER, "Accept-Post": JSON, **_COMMON_HEADERS})
        if request.method not in {"GET", "HEAD", "POST"}:
            raise HttpError(405, "METHOD_NOT_ALLOWED", "Operations come by POST; queries and streams by GET too.", ALLOW_HEADER)
        is_safe_method = request.method != "POST"
        if is_safe_method and self.graphql_ide and accept.html and not query_parameters(request):
            return page(request, upload_origin=self.upload_origin)
        if accept.json is None and not accept.stream:
            offered = f"{GRAPHQL_RESPONSE}, {JSON}" + (f", {HTML} (by GET)" if self.graphql_ide else "")
            raise HttpError(
                406, "NOT_ACCEPTABLE", f"None of the types in Accept is offered: {offered}, and {EVENT_STREAM} for subscriptions."
            )
        if is_safe_method:
            csrf.check_get(request.headers)
            graphql_request = await GraphQLRequest.from_url(request)
        else:
            graphql_request = await GraphQLRequest.from_body(request, self.settings.max_body_bytes)
        services = await self.get_context(request, request)
        viewer = await self._authenticate(request, services)
        context = services.for_operation(viewer, request_id=request.state.request_id, after=request.headers.get("last-event-id") or None)
        try:
            text = await resolve_document(graphql_request, context)
        except GraphQLError as error:
            (request_error,) = to_client_errors([error], phase="parse", request_id=context.request_id)
            request.state.recorder.rejection_code = str((request_error.extensions or {})["code"])
            return self._result_response(ExecutionResult(None, [request_error]), accept, context)
        try:
            type_ = operation_type(text, graphql_request.operation_name)
        except GraphQLError as error:
            raise bad_request(error.message) from None
        if type_ is OperationType.MUTATION and is_safe_method:
            raise HttpError(405, "METHOD_NOT_ALLOWED", "A mutation changes things, so it must come by POST.", {"Allow": "POST"})
        if type_ is OperationType.SUBSCRIPTION or accept.json is None:
            return await self._stream(request, receive, send, accept, text, graphql_request, context)
        execution = self.schema.execute(
            text,
            variable_values=graphql_request.variables,
            context_value=context,
            operation_name=graphql_request.operation_name,
            operation_extensions=graphql_request.extensions,
        )
        # A mutation is not cancelled: it may be committing, and the client could not know the outcome.
        result = await (cancel_on_disconnect(request.scope["state"], execution) if type_ is OperationType.QUERY else execution)
        response = self._result_response(result, accept, context)
        self._set_cookie(request, response, services.cookie)
        return response

    def cookie_site(self, connection: HTTPConnection) -> CookieSite:
        return CookieSite.of(connection.scope, connection.headers, self._state.public_url)

    def _set_cookie(self, request: Request, response: Response, cookie: SessionCookie) -> None:
        if cookie.is_changed and (header := self.cookie_site(request).set_cookie(cookie)) is not None:
            response.headers.append("set-cookie", header)

    def _result_response(
        self, result: ExecutionResult, accept: Accept, context: OperationContext, *, instead_of_stream: bool = False
    ) -> Response:
        media_type = accept.json or JSON
        # A client that waits for a stream would take 200 for one.
        status_media_type = GRAPHQL_RESPONSE if instead_of_stream or accept.json is None else media_type
        status, headers = responses.status_and_headers(result, status_media_type, draft=self.settings.draft_statuses)
        if instead_of_stream and status < 400:  # the source field raised the error, so the result has a path
            status = 400
        body = responses.encode(result, request_id=context.request_id, limit=self.settings.max_response_bytes)
        return Response(body, status, {**result_headers(media_type), **headers})

    async def _stream(
        self,
        request: Request,
        receive: Receive,
        send: Send,
        accept: Accept,
        text: str,
        graphql_request: GraphQLRequest,
        context: OperationContext,
    ) -> Response | None:
        if not accept.stream:
            message = f"A subscription is answered as a stream. Send `Accept: {EVENT_STREAM}`, or use a websocket ({GRAPHQL_TRANSPORT_WS_PROTOCOL})."
            raise HttpError(406, "NOT_ACCEPTABLE", message)
        if request.method == "HEAD":
            raise HttpError(405, "METHOD_NOT_ALLOWED", "A stream comes by GET or POST.", {"Allow": "GET, POST"})
        feed: Feed = context.feed
        signed_out = asyncio.Event()
        viewer = await self._authenticate(request, context.services, is_long_lived=True)
        context.sign_in(viewer)
        with ExitStack() as stack:
            stack.enter_context(self.stream_quota.acquire(viewer.id if viewer else request.client and request.client.host))
            if viewer is not None:
                session = stack.enter_context(feed.sessions.acquire(viewer))
                stack.enter_context(session.on_end(signed_out.set))
            request.scope["state"][STREAMING] = True
            results = await self.schema.stream(
                text,
                variable_values=graphql_request.variables,
                context_value=context,
                operation_name=graphql_request.operation_name,
                operation_extensions=graphql_request.extensions,
            )
            stream = EventStream(
                cast("AsyncGenerator[ExecutionResult]", results),
                signed_out=signed_out,
                progress=context.progress,
                request_id=context.request_id,
                limit=self.settings.max_response_bytes,
                drop=request.scope["state"].get(DROP),
            )
            error_result = await stream.send({**_COMMON_HEADERS, REQUEST_ID_HEADER: context.request_id}, receive, send)
        return None if error_result is None else self._result_response(error_result, accept, context, instead_of_stream=True)

    def _error_response(self, request: Request, error: HttpError) -> Response:
        request.state.recorder.rejection_code = error.code
        body = error_body(error.code, str(error), request.state.request_id)
        media_type = Accept(", ".join(request.headers.getlist("accept"))).json or JSON
        return Response(body, error.status, {**result_headers(media_type), **error.headers})

    async def _authenticate(self, request: Request, services: RequestServices, *, is_long_lived: bool = False) -> Viewer | None:
        usage: TokenUsage = request.app.state.token_usage
        token = self.cookie_site(request).request_token(request.headers) if "cookie" in request.headers else None
        token = token or bearer_token(request.headers)
        try:
            viewer = await authenticate(services.feed.viewers, usage, token, services.execution_timeout, is_long_lived=is_long_lived)
        except InvalidToken:
            request.state.recorder.token_refused(token, services.client)
            raise
        request.state.recorder.identified(viewer, services.client)
        return viewer

    async def get_context(self, request: Request | WebSocket, response: Any) -> RequestServices:  # noqa: ARG002 - Strawberry's signature
        """Return what the operations of a request, or of a websocket, share."""
        client = ClientInfo(request.client.host if request.client else None, request.headers.get("user-agent"), request.headers.get("host"))
        return self.services(
            request.app.state,
            request.state.recorder,
            client,
            shows_cost=COST_HEADER in request.headers,
            plan_requested=PLAN_HEADER in request.headers,
            cookie=SessionCookie(lambda: self.cookie_site(request).refusal(request.method, request.headers))
            if isinstance(request, Request)
            else SessionCookie(),
        )

    def services(
        self,
        state: State,
        recorder: OperationRecorder | None,
        client: ClientInfo,
        *,
        shows_cost: bool = False,
        plan_requested: bool = False,
        cookie: SessionCookie | None = None,
    ) -> RequestServices:
        """The services of the application, whose state this is, for a request or a websocket, or without a recorder for several."""
        return RequestServices(
            state.database,
            state.objects,
            state.feed,
            state.gate,
            recorder,
            introspection=self.settings.introspection,
            execution_timeout=self.settings.operation_timeout,
            deadlines=state.deadlines,
            client=client,
            sign_ins=state.sign_ins,
            password_changes=state.password_changes,
            registrations=state.registrations,
            team_invitations=state.team_invitations,
            email_changes=state.email_changes,
            second_factors=state.second_factors,
            sign_in_providers=tuple(self.settings.sign_in_providers),
            account_deletions=state.account_deletions,
            restorations=state.restorations,
            passkeys=state.passkeys,
            shows_cost=shows_cost,
            plan_requested=plan_requested,
            shows_plan_to_all=self.settings.show_plans,
            cookie=cookie or SessionCookie(),
        )

    def decode_json(self, data: str | bytes) -> object:
        """Decode a websocket message. Raises the JSONDecodeError upon which Strawberry closes the socket with 4400."""
        try:
            return json_body.parse_object(data.encode() if isinstance(data, str) else data, "The message")
        except HttpError as error:
            raise JSONDecodeError(str(error), "", 0) from None


def result_headers(media_type: str) -> dict[str, str]:
    """The headers of every result in this type."""
    return {"Content-Type": f"{media_type}; charset=utf-8", **_COMMON_HEADERS}


def to_http_error(error: Exception, request_id: str) -> HttpError:
    """What an unexpected error is answered with; it is logged."""
    (graphql_error,) = to_client_errors([GraphQLError(str(error), original_error=error)], phase="execute", request_id=request_id)
    code = str((graphql_error.extensions or {})["code"])
    return HttpError(503 if code in {"TIMEOUT", "UNAVAILABLE"} else 500, code, graphql_error.message)
