"""Queries as most clients send them: a POST with a bearer token, of a document that was seen before, with nothing to be negotiated anew.

What a client's headers ask for is found out once and kept by their bytes, and no object of Starlette's is made. Everything else, every request
that is refused included, goes to the application, which has read nothing of it then and answers what is said of it there. Both give the same answers:
what is done here is done by the same functions.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from graphql import GraphQLError, OperationType
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from db.core.networks import ClientInfo
from db.queries.accounts import token_hash
from graph.execution.persisted_documents import DocumentRejected
from graph.schema import schema
from server.auth import MAX_TOKEN_LENGTH
from server.graphql import COST_HEADER, PLAN_HEADER, REQUEST_ID_HEADER, result_headers, to_http_error
from server.observability import CLIENT_CLOSED_REQUEST, OperationRecorder
from server.protocol import json_body, responses
from server.protocol.disconnect import cancel_on_disconnect
from server.protocol.documents import operation_type
from server.protocol.graphql_request import GraphQLRequest
from server.protocol.http_errors import HttpError, error_body
from server.protocol.http_protocol import MEMORY, RESPOND
from server.protocol.negotiation import Accept, check_body_type
from server.protocol.security_headers import security_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.datastructures import State
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from graph.execution.context import RequestServices
    from server.graphql import GraphQLView
    from server.settings import ServerSettings

PATH = "/graphql"
MAX_LENGTH_DIGITS = 5  # of a body in bytes
MAX_HEADS = 200
MAX_ADDRESSES = 50  # of clients with the same headers
MAX_HEAD_BYTES = 4_000  # of the headers that are kept
_TRACE = frozenset({b"traceparent", b"tracestate"})  # in each request another one, and without a meaning here
# With one of them the application answers. Nothing of them is kept: some are secrets.
_UNUSUAL = frozenset(
    name.encode() for name in ("cookie", "proxy-authorization", "origin", "last-event-id", "expect", "upgrade", COST_HEADER, PLAN_HEADER)
)

_REQUEST_ID = REQUEST_ID_HEADER.encode()
_SENDER = "sender"  # in the memory of a connection: the headers of its last request, and what they say

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class _Head:
    """What the headers of a request say: how to answer it, and who its client is."""

    media_type: str
    headers: RawHeaders
    header_lines: bytes
    user_agent: str | None
    host: str | None
    services: dict[str | None, RequestServices]  # by the address of the client; they do not change from one query to the next


class PlainQueries:
    """Answers what it takes, and passes on everything else. `state` is the application's, once it has started."""

    def __init__(self, view: GraphQLView, settings: ServerSettings, state: State, application: ASGIApp) -> None:
        self._view = view
        self._settings = settings
        self._state = state
        self._application = application
        self._max_body_bytes = min(json_body.THREAD_THRESHOLD, settings.max_body_bytes)
        self._security_headers = [(name.lower(), value) for name, value in security_headers(settings.hsts_seconds).items()]
        self._heads: OrderedDict[tuple[tuple[bytes, bytes], ...], _Head | None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head, token_sha256 = self._sender(scope)
        if head is None:
            await self._application(scope, receive, send)
            return
        started_at = perf_counter()
        message = await receive()
        # Only now: a body may come long after its head, when the token is no longer valid.
        viewer = None if token_sha256 is None else self._state.feed.viewers.known(token_sha256)
        graphql_request = self._request(message) if token_sha256 is None or viewer is not None else None
        text = None if graphql_request is None else self._document(graphql_request)
        if graphql_request is None or text is None:
            await self._application(scope, _replay(message, receive), send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        request_id = state["request_id"] = uuid4().hex
        recorder = state["recorder"] = OperationRecorder("http", {}, None, self._state.api_usage)
        services = self._services(head, scope["client"][0] if scope["client"] else None)
        if viewer is not None and viewer.key_id is not None:
            self._state.token_usage.note(viewer.key_id)
        context = services.for_operation(viewer, request_id=request_id, observer=recorder)
        status, body = CLIENT_CLOSED_REQUEST, b""
        try:
            execution = schema.execute(text, graphql_request.variables, context, operation_name=graphql_request.operation_name)
            result = await cancel_on_disconnect(state, execution)
            status, headers = responses.status_and_headers(result, head.media_type, draft=self._settings.draft_statuses)
            body = responses.encode(result, request_id=request_id, limit=self._settings.max_response_bytes)
            added = [(_REQUEST_ID, request_id.encode()), *((name.lower().encode(), value.encode()) for name, value in headers.items())]
            if self._settings.server_timing:
                added.append((b"server-timing", recorder.server_timing_header().encode()))
            await _send(scope, send, status, head, added, body)
        except ClientDisconnect:
            return
        except Exception as unexpected:  # noqa: BLE001 - answered as the application answers it
            error = to_http_error(unexpected, request_id)
            recorder.identified(viewer, services.client)
            recorder.rejection_code, status, body = error.code, error.status, error_body(error.code, str(error), request_id)
            await _send(scope, send, status, head, [(_REQUEST_ID, request_id.encode())], body)
        finally:
            recorder.response_sent(request_id, status, len(body), perf_counter() - started_at, len(message["body"]))

    def _sender(self, scope: Scope) -> tuple[_Head | None, bytes | None]:
        """What the headers say, and the hash of the token among them. No head for what is not taken."""
        if scope["query_string"] or scope["method"] != "POST":
            return None, None
        headers: RawHeaders = scope["headers"]
        memory: dict[str, Any] = scope.get("state", {}).get(MEMORY, {})
        last_headers, sender = memory.get(_SENDER, (None, None))
        if sender is None or headers != last_headers:
            sender = self._read_sender(headers)
            memory[_SENDER] = headers, sender
        return sender

    def _read_sender(self, headers: RawHeaders) -> tuple[_Head | None, bytes | None]:
        authorization = length = None
        kept: RawHeaders = []
        for header in headers:
            name = header[0]
            if name == b"authorization":
                if authorization is not None:
                    return None, None
                authorization = header[1]
            elif name == b"content-length":
                length = header[1]
            elif name in _UNUSUAL:
                return None, None
            elif name not in _TRACE:
                kept.append(header)
        if length is None or not length.isdigit() or len(length) > MAX_LENGTH_DIGITS or int(length) > self._max_body_bytes:
            return None, None
        key = tuple(kept)
        head = self._heads.get(key)
        if head is None:
            head = self._learn(key)
        if head is None or authorization is None:
            return head, None
        scheme, _, token = authorization.decode("latin-1").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_LENGTH:
            return None, None
        return head, token_hash(token)

    def _learn(self, key: tuple[tuple[bytes, bytes], ...]) -> _Head | None:
        if key in self._heads or sum(len(name) + len(value) for name, value in key) > MAX_HEAD_BYTES:
            return None
        head = self._heads[key] = self._head(Headers(raw=list(key)))
        if len(self._heads) > MAX_HEADS:
            self._heads.popitem(last=False)
        return head

    def _head(self, headers: Headers) -> _Head | None:
        """What headers without a token say; None if the application has to read them."""
        try:
            check_body_type(headers)
        except HttpError:
            return None
        media_type = Accept(", ".join(headers.getlist("accept"))).json
        if media_type is None:
            return None
        texts = [*result_headers(media_type).items(), *self._security_headers]
        raw = [(name.lower().encode(), value.encode()) for name, value in texts]
        return _Head(media_type, raw, _lines(raw), headers.get("user-agent"), headers.get("host"), {})

    def _services(self, head: _Head, address: str | None) -> RequestServices:
        services = head.services.get(address)
        if services is None:
            if len(head.services) >= MAX_ADDRESSES:
                head.services.clear()
            client = ClientInfo(address, head.user_agent, head.host)
            services = head.services[address] = self._view.services(self._state, None, client)
        return services

    def _request(self, message: Message) -> GraphQLRequest | None:
        """The request in a body; None for one that is not complete, not valid, or has more than a query and variables."""
        body: bytes = message.get("body", b"")
        if message["type"] != "http.request" or message.get("more_body") or len(body) > self._max_body_bytes:
            return None
        try:
            graphql_request = GraphQLRequest.from_mapping(json_body.parse_object(body, "The body"))
        except HttpError:
            return None
        return None if graphql_request.extensions is not None else graphql_request

    def _document(self, graphql_request: GraphQLRequest) -> str | None:
        """The document, if it was seen before and a query is meant."""
        name = graphql_request.operation_name
        try:
            text = self._state.gate.documents.sent_or_trusted(graphql_request.query, graphql_request.document_id)
            if not text:
                return None
            if schema.knows_query(text, name, introspection=self._settings.introspection):
                return text
            is_seen = schema.document_validator.has_seen(text)
            return text if is_seen and operation_type(text, name) is OperationType.QUERY else None
        except (DocumentRejected, GraphQLError):
            return None


def _replay(message: Message, receive: Receive) -> Receive:
    """Receive a message again, and then what follows it."""
    is_first = True

    async def replaying_receive() -> Message:
        nonlocal is_first
        if is_first:
            is_first = False
            return message
        return await receive()

    return replaying_receive


def _lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in headers])


async def _send(scope: Scope, send: Send, status: int, head: _Head, added: RawHeaders, body: bytes) -> None:
    added.append((b"content-length", b"%d" % len(body)))
    respond: Callable[[int, bytes, bytes], bool] | None = scope["state"].get(RESPOND)
    if respond is None or not respond(status, head.header_lines + _lines(added), body):
        await send({"type": "http.response.start", "status": status, "headers": head.headers + added})
        await send({"type": "http.response.body", "body": body})
