"""graphql-transport-ws: Strawberry's handler with limits, sessions that end with their token, and validation of every message.

https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, aclosing, suppress
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import uuid4

import orjson
import structlog
from graphql import GraphQLError, OperationType
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler, Operation
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ConnectionInitMessage, Message, SubscribeMessage
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError

from db.errors import DatabaseNotMigrated, Unavailable
from graph.execution.context import OperationContext, RequestServices
from graph.execution.errors import to_client_errors
from graph.execution.subscriptions import SharedResult
from server.auth import InvalidToken, authenticate, bearer_token, sole_authorization
from server.observability import record_rejection
from server.protocol import responses
from server.protocol.documents import operation_type, resolve_document
from server.protocol.graphql_request import GraphQLRequest
from server.protocol.http_errors import HttpError
from server.protocol.session_cookie import TWO_CREDENTIALS, CookieSite
from server.protocol.websocket_protocol import ON_IDENTIFIED, SEND_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.core.viewer import Viewer
    from db.streams.sessions import Session
    from server.observability import OperationRecorder
    from server.protocol.connection_quota import ConnectionQuota
    from server.settings import ServerSettings
    from server.token_usage import TokenUsage

log: structlog.stdlib.BoundLogger = structlog.get_logger()

BAD_REQUEST = 4400
FORBIDDEN = 4403  # upon 4403 clients may reconnect with another token, upon 4401 they do not
TOO_MANY_REQUESTS = 4429
GOING_AWAY = 1001
TRY_AGAIN = 1013
MAX_REASON_BYTES = 123  # longest reason of a close frame (RFC 6455, 5.5)
MAX_ID_LENGTH = 255  # characters
MAX_RUNNING_BYTES = 1024 * 1024  # total size of the requests whose operations a socket runs: they are kept until the operation ends
MAX_MISSED_PINGS = 2  # pings without a response after which the client is considered gone


class SocketView(Protocol):
    """What a websocket needs of the view that accepted it."""

    settings: ServerSettings
    socket_quota: ConnectionQuota

    def cookie_site(self, connection: HTTPConnection) -> CookieSite: ...


class _Operation(Operation[RequestServices, None]):
    """Strawberry's operation, with its request until its execution starts."""

    __slots__ = ("context", "graphql_request", "is_mutation", "request_id", "size")

    def __init__(self, handler: WebSocketHandler, operation_id: str, graphql_request: GraphQLRequest, size: int) -> None:
        super().__init__(handler, operation_id, "", None, None)
        self.graphql_request: GraphQLRequest | None = graphql_request
        self.size = size
        self.context: OperationContext | None = None
        self.request_id = uuid4().hex
        self.is_mutation = False


class WebSocketHandler(BaseGraphQLTransportWSHandler[RequestServices, None]):
    """One websocket. Its viewer is that of the token in `connection_init`, or else in the handshake, as long as the token is valid."""

    def __init__(self, view: SocketView, *arguments: Any, **options: Any) -> None:
        super().__init__(cast("Any", view), *arguments, **options)
        settings = view.settings
        self._view = view
        self._max_operations = settings.operations_per_socket
        self._ping_interval = settings.socket_ping_interval
        self._rate_limiter = MessageRateLimiter(settings.messages_per_second)
        self._viewer: Viewer | None = None
        self._session: Session | None = None
        self._last_received_at = time.monotonic()
        self._exit_stack = ExitStack()
        self._finishing_mutations: set[_Operation] = set()
        self._is_closed = False
        self._write_text: Callable[[str], bool] | None = None
        self._sign_out_task: asyncio.Task[None] | None = None
        self._ping_task: asyncio.Task[None] | None = None
        self._ping_timer: asyncio.TimerHandle | None = None

    @property
    def _socket(self) -> WebSocket:
        return cast("ASGIWebSocketAdapter", self.websocket).ws

    async def handle(self) -> None:
        self._write_text = self._socket.scope["state"].get(SEND_TEXT)
        self._schedule_ping()
        try:
            with self._exit_stack:
                await super().handle()
        finally:
            self._is_closed = True
            if self._ping_timer is not None:
                self._ping_timer.cancel()
            tasks = [task for task in (self._ping_task, self._sign_out_task) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def handle_message(self, message: Message) -> None:
        self._last_received_at = time.monotonic()
        fields = cast("dict[str, Any]", message)
        operation_id, payload = fields.get("id", ""), fields.get("payload")
        if not self._rate_limiter.allow(self._last_received_at):
            await self._close(TOO_MANY_REQUESTS, "Too many messages: send fewer a second.")
        elif not isinstance(operation_id, str) or len(operation_id) > MAX_ID_LENGTH:
            await self.handle_invalid_message(f"An operation's id must be a string of at most {MAX_ID_LENGTH} characters.")
        elif payload is not None and not isinstance(payload, dict):
            await self.handle_invalid_message("The payload of a message must be an object.")
        else:
            await super().handle_message(message)
        fields.clear()  # Strawberry's read loop references this message until the next one, which may never come

    async def handle_invalid_message(self, error_message: str) -> None:
        await self._close(BAD_REQUEST, error_message)

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        """Authenticate. Browsers send the token here or the cookie, since they cannot set headers on a websocket; others may use the header."""
        payload: dict[str, object] = message.get("payload") or {}
        if self.connection_timed_out:
            return
        if self.connection_init_received:
            await self._close(TOO_MANY_REQUESTS, "Too many initialisation requests")
            return
        self.connection_init_received = True
        cast("asyncio.Task[None]", self.connection_init_timeout_task).cancel()  # pyright: ignore[reportUnknownMemberType] - Strawberry leaves it open
        self.connection_init_timeout_task = None
        recorder: OperationRecorder = self._socket.scope["state"]["recorder"]
        token: str | None = None
        try:
            # If both have a token, the one in the message counts. A handshake with two is refused all the same.
            sole_authorization(self._socket.headers)
            token = bearer_token(payload) or bearer_token(self._socket.headers)
            site = self._view.cookie_site(self._socket)
            cookie_token = site.token(self._socket.headers) if site.is_own(self._socket.headers) else None
            if token is not None and cookie_token is not None:
                await self._close(BAD_REQUEST, TWO_CREDENTIALS)
                return
            viewers, timeout = self.context.feed.viewers, self.context.execution_timeout
            usage: TokenUsage = self._socket.app.state.token_usage
            token = token or cookie_token
            viewer = await authenticate(viewers, usage, token, timeout, is_long_lived=True)
            recorder.identified(viewer, self.context.client)
            self._exit_stack.enter_context(self._view.socket_quota.acquire(viewer.id if viewer else self.context.address))
        except InvalidToken:
            recorder.token_refused(token, self.context.client)
            recorder.rejected("UNAUTHENTICATED")
            await self._close(FORBIDDEN, "Forbidden")
        except HttpError as error:
            recorder.rejected(error.code)
            await self._close(TOO_MANY_REQUESTS, str(error))
        except (Unavailable, DatabaseNotMigrated):
            await self._close(TRY_AGAIN, "Try again later")
        else:
            self._viewer = viewer
            if viewer is not None:
                session = self._session = self._exit_stack.enter_context(self.context.feed.sessions.acquire(viewer))
                self._exit_stack.enter_context(session.on_end(self._sign_out))
            on_identified = self._socket.scope["state"].get(ON_IDENTIFIED)
            if on_identified is not None:
                on_identified()
            await self.send_message({"type": "connection_ack"})
            self.connection_acknowledged = True

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        operation_id, payload = message["id"], cast("object", message["payload"])
        if not self.connection_acknowledged:
            await self._close(4401, "Unauthorized")
            return
        if operation_id in self.operations:
            await self._close(4409, f"Subscriber for {operation_id} already exists")
            return
        if not isinstance(payload, dict):
            await self.handle_invalid_message("The payload of subscribe must be an object.")
            return
        try:
            graphql_request = GraphQLRequest.from_mapping(cast("dict[str, Any]", payload))
        except HttpError as error:
            await self.handle_invalid_message(str(error))
            return
        running = [*cast("dict[str, _Operation]", self.operations).values(), *self._finishing_mutations]
        if len(running) >= self._max_operations:
            reason = (
                f"This socket already runs {self._max_operations} operations, which is the limit. Complete one, or open another socket."
            )
            await self._send_rate_limited(operation_id, reason)
            return
        size = len(orjson.dumps(payload))
        if sum(operation.size for operation in running) + size > MAX_RUNNING_BYTES:
            reason = f"The requests of this socket's running operations would exceed {MAX_RUNNING_BYTES:,} bytes. Complete one, or send shorter ones."
            await self._send_rate_limited(operation_id, reason)
            return
        operation = _Operation(self, operation_id, graphql_request, size)
        self.operations[operation_id] = operation
        operation.task = asyncio.create_task(self.run_operation(operation), name=f"websocket operation {operation_id[:40]}")

    async def _send_rate_limited(self, operation_id: str, message: str) -> None:
        request_error = _request_error(GraphQLError(message, extensions={"code": "RATE_LIMITED"}), uuid4().hex)
        await self.send_message({"id": operation_id, "type": "error", "payload": [request_error.formatted]})

    def forget_id(self, id: str) -> None:  # noqa: A002 - Strawberry's signature
        self.operations.pop(id, None)

    async def cleanup_operation(self, operation_id: str) -> None:
        """Do not cancel a mutation that has started, even if the client is gone: it may be committing."""
        operation = cast("_Operation | None", self.operations.get(operation_id))
        if operation is None or not operation.is_mutation:
            await super().cleanup_operation(operation_id)
            return
        del self.operations[operation_id]
        operation.completed = True
        self._finishing_mutations.add(operation)

    async def run_operation(self, operation: Operation[RequestServices, None]) -> None:
        """Run an operation; an error ends only this operation, not the socket."""
        operation = cast("_Operation", operation)
        session = self._session
        viewer = self._viewer if session is None else session.viewer
        context = operation.context = self.context.for_operation(viewer, session=session, request_id=operation.request_id)
        context.request_bytes = operation.size
        try:
            try:
                results = await self._start_execution(operation, context)
            except HttpError as error:
                graphql_error = GraphQLError(str(error), extensions={"code": error.code})
                await operation.send_initial_errors([_request_error(graphql_error, context.request_id)])
                return
            except GraphQLError as error:
                await operation.send_initial_errors([_request_error(error, context.request_id)])
                return
            async with aclosing(results):
                await self._send_result_stream(operation, results)
            await operation.send_operation_message({"id": operation.id, "type": "complete"})
        except (WebSocketDisconnected, WebSocketDisconnect):
            return
        except Exception:  # errors of operations are in their results, so this is a bug of ours; its text is not for clients
            log.exception("websocket_operation_failed", request_id=context.request_id)
            masked = GraphQLError("Internal error", extensions={"code": "INTERNAL_SERVER_ERROR", "requestId": context.request_id})
            with suppress(WebSocketDisconnected):
                await operation.send_initial_errors([masked])
        finally:
            self._finishing_mutations.discard(operation)

    async def _start_execution(self, operation: _Operation, context: OperationContext) -> Any:
        """Its answers. What was asked for is not kept any longer: most of it is needed no more."""
        graphql_request, operation.graphql_request = operation.graphql_request, None
        assert graphql_request is not None
        text = await resolve_document(graphql_request, context)
        operation.is_mutation = _is_mutation(text, graphql_request.operation_name)
        return await self.schema.stream(
            text,
            variable_values=graphql_request.variables,
            context_value=context,
            operation_name=graphql_request.operation_name,
            operation_extensions=graphql_request.extensions,
        )

    async def _send_result_stream(self, operation: Operation[RequestServices, None], result_source: Any) -> None:
        """What is sent is text that is made once: an answer that many share differs in the operation's id alone."""
        operation = cast("_Operation", operation)
        prefix = '{"id":' + orjson.dumps(operation.id).decode() + ',"type":"next","payload":'
        first = True
        async for result in result_source:
            if operation.completed:
                return
            if first and isinstance(result, PreExecutionError):
                await operation.send_initial_errors(result.errors or [])
                return
            assert isinstance(result, ExecutionResult)
            text = prefix + self._encode_result(result, operation.request_id) + "}"
            await self._send_text(text)
            if operation.context is not None and operation.context.observation is not None:
                operation.context.observation.response_bytes += len(text) if text.isascii() else len(text.encode())
            first = False
            del result  # or it would stay referenced until the next result

    def _encode_result(self, result: ExecutionResult, request_id: str) -> str:
        limit = self._view.settings.max_response_bytes
        if isinstance(result, SharedResult) and len(result.text) <= limit // 4:  # a character has at most four bytes
            return result.text
        return responses.encode(result, request_id=request_id, limit=limit).decode()

    async def send_message(self, message: Message) -> None:
        await self._send_text(orjson.dumps(message).decode())

    async def _send_text(self, text: str) -> None:
        """Raises `WebSocketDisconnected` where the socket is closed, by whichever side."""
        socket = self._socket
        if self._write_text is not None and socket.application_state is WebSocketState.CONNECTED and self._write_text(text):
            return
        try:
            await socket.send({"type": "websocket.send", "text": text})
        except WebSocketDisconnect as error:
            raise WebSocketDisconnected from error
        except RuntimeError as error:
            if socket.application_state is WebSocketState.DISCONNECTED:  # we closed it while a message was being sent
                raise WebSocketDisconnected from error
            raise

    def _sign_out(self) -> None:
        if self._sign_out_task is None:
            self._sign_out_task = asyncio.create_task(self._close(FORBIDDEN, "Signed out: the token was revoked or has expired."))

    def _schedule_ping(self) -> None:
        # A timer takes less memory than a sleeping task, and there may be thousands of idle sockets.
        self._ping_timer = asyncio.get_running_loop().call_later(self._ping_interval, self._start_ping)

    def _start_ping(self) -> None:
        self._ping_task = asyncio.create_task(self._ping(), name="websocket ping")

    async def _ping(self) -> None:
        """Keep proxies from closing an idle socket, and detect a client that vanished."""
        try:
            if self.connection_acknowledged and time.monotonic() - self._last_received_at > MAX_MISSED_PINGS * self._ping_interval + 1:
                await self._close(GOING_AWAY, "No message was received, not even a pong.")
                return
            if self.connection_acknowledged:
                async with asyncio.timeout(self._ping_interval):  # a client that does not read blocks sending
                    await self.send_message({"type": "ping"})
        except (TimeoutError, WebSocketDisconnected):
            log.debug("websocket_ping_failed")
        self._ping_task = None
        if not self._is_closed:
            self._schedule_ping()

    async def _close(self, code: int, reason: str) -> None:
        try:
            await self.websocket.close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
        except (RuntimeError, WebSocketDisconnect):  # the other side has closed it already
            log.debug("websocket_already_closed", code=code)


def _is_mutation(text: str, name: str | None) -> bool:
    try:
        return operation_type(text, name) is OperationType.MUTATION
    except GraphQLError:  # which its execution will report
        return False


def _request_error(error: GraphQLError, request_id: str) -> GraphQLError:
    """The error for a message that never became an operation; logged and counted here, since no operation's end will be."""
    (request_error,) = to_client_errors([error], phase="parse", request_id=request_id)
    record_rejection(request_id, None, str((request_error.extensions or {})["code"]), transport="websocket")
    return request_error


class MessageRateLimiter:
    """Limits messages a second, with a burst of as many: a leaky bucket (GCRA)."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._next_due = 0.0

    def allow(self, now: float) -> bool:
        """Whether one more message is within the limit; counts it if so."""
        due = max(self._next_due, now) + self._interval
        if due - now > 1.0 + self._interval / 2:
            return False
        self._next_due = due
        return True
