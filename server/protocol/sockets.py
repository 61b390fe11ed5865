"""graphql-transport-ws: Strawberry's handler with limits, with sessions that end, and with every message looked at before it is used.

https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, aclosing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import orjson
import structlog
from graphql import GraphQLError, OperationType
from starlette.websockets import WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler, Operation
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ConnectionInitMessage, Message, SubscribeMessage
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError

from db.errors import Unavailable
from graph.core.context import Context
from graph.core.failures import coded
from graph.core.operations import chosen
from graph.core.streaming import Answer
from graph.schema import schema
from server.auth import BadToken, viewer_of
from server.observing import note_refusal
from server.protocol import answers
from server.protocol.asked import Asked
from server.protocol.frames import SETTLED
from server.protocol.refusals import Refused

if TYPE_CHECKING:
    from server.graphql import GraphQLView

log: structlog.stdlib.BoundLogger = structlog.get_logger()

BAD_REQUEST = 4400
FORBIDDEN = 4403  # clients may come back with another token, which after 4401 they do not
TOO_MANY = 4429
GOING_AWAY = 1001
TRY_AGAIN = 1013
REASON = 123  # bytes of a close frame's reason (RFC 6455, 5.5)
LONGEST_ID = 255  # characters
BUDGET = 1024 * 1024  # bytes of the messages whose operations a socket runs at once: what they carry is kept for as long
MISSED = 2  # pings without any sign of life after which a client has gone


class _Operation(Operation[Context, None]):
    """Strawberry's, with all that its message asked for until it has begun."""

    __slots__ = ("asked", "is_mutation", "request_id", "size")

    def __init__(self, handler: SocketHandler, key: str, asked: Asked, size: int) -> None:
        super().__init__(handler, key, "", None, None)
        self.asked: Asked | None = asked
        self.size = size
        self.request_id = uuid4().hex
        self.is_mutation = False


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """One socket. It belongs to whom its `connection_init` or else its handshake names, for as long as that token is good."""

    def __init__(self, view: GraphQLView, *arguments: Any, **options: Any) -> None:
        super().__init__(view, *arguments, **options)
        settings = view.settings
        self._view = view
        self._most_operations = settings.operations_per_socket
        self._ping_every = settings.socket_ping_every
        self._pace = Pace(settings.messages_per_second)
        self._headers = self.context.connection_params or {}
        self._heard = time.monotonic()
        self._held = ExitStack()
        self._finishing: set[_Operation] = set()
        self._is_over = False
        self._farewell: asyncio.Task[None] | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._next_ping: asyncio.TimerHandle | None = None

    async def handle(self) -> None:
        self._ping_later()
        try:
            with self._held:
                await super().handle()
        finally:
            self._is_over = True
            if self._next_ping is not None:
                self._next_ping.cancel()
            tasks = [task for task in (self._pinging, self._farewell) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def handle_message(self, message: Message) -> None:
        self._heard = time.monotonic()
        found = cast("dict[str, Any]", message)
        key, payload = found.get("id", ""), found.get("payload")
        if not self._pace.keeps(self._heard):
            await self._close(TOO_MANY, "Too many messages: send fewer a second.")
        elif not isinstance(key, str) or len(key) > LONGEST_ID:
            await self.handle_invalid_message(f"An operation's id must be a string of at most {LONGEST_ID} characters.")
        elif payload is not None and not isinstance(payload, dict):
            await self.handle_invalid_message("The payload of a message must be an object.")
        else:
            await super().handle_message(message)
        found.clear()  # whoever reads messages holds this one until the next, which may be for ever

    async def handle_invalid_message(self, error_message: str) -> None:
        await self._close(BAD_REQUEST, error_message)

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        """The token comes here, since a browser cannot set headers on a websocket; other clients may use the header."""
        payload: dict[str, object] = message.get("payload") or {}
        if self.connection_timed_out:
            return
        if self.connection_init_received:
            await self._close(TOO_MANY, "Too many initialisation requests")
            return
        self.connection_init_received = True
        cast("asyncio.Task[None]", self.connection_init_timeout_task).cancel()  # pyright: ignore[reportUnknownMemberType] - Strawberry leaves it open
        self.connection_init_timeout_task = None
        try:
            # Where both name somebody, the message counts: it is the later word.
            database, patience = self.context.database, self.context.patience
            said = await viewer_of(database, payload, patience)
            viewer = said or await viewer_of(database, self._headers, patience)
            self._held.enter_context(self._view.sockets.enter(viewer.id if viewer else self.context.address))
        except BadToken:
            await self._close(FORBIDDEN, "Forbidden")
        except Refused as error:
            await self._close(TOO_MANY, str(error))
        except Unavailable:
            await self._close(TRY_AGAIN, "Try again later")
        else:
            self.context.viewer = viewer
            if viewer is not None:
                session = self.context.session = self._held.enter_context(self.context.feed.sessions.attend(viewer))
                self._held.enter_context(session.tells(self._sign_out))
            settled = cast("ASGIWebSocketAdapter", self.websocket).ws.scope["state"].get(SETTLED)
            if settled is not None:
                settled()
            await self.send_message({"type": "connection_ack"})
            self.connection_acknowledged = True

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        key, payload = message["id"], cast("object", message["payload"])
        if not self.connection_acknowledged:
            await self._close(4401, "Unauthorized")
            return
        if key in self.operations:
            await self._close(4409, f"Subscriber for {key} already exists")
            return
        if not isinstance(payload, dict):
            await self.handle_invalid_message("The payload of subscribe must be an object.")
            return
        try:
            asked = Asked.of(cast("dict[str, Any]", payload))
        except Refused as error:
            await self.handle_invalid_message(str(error))
            return
        running = [*cast("dict[str, _Operation]", self.operations).values(), *self._finishing]
        if len(running) >= self._most_operations:
            told = f"This socket runs {self._most_operations} operations, and no more at a time. Complete one, or open another socket."
            await self._refuse(key, told)
            return
        size = len(orjson.dumps(payload))
        if sum(operation.size for operation in running) + size > BUDGET:
            told = (
                f"The operations that this socket runs came in {BUDGET:,} bytes, and no more are kept. Complete one, or send shorter ones."
            )
            await self._refuse(key, told)
            return
        operation = _Operation(self, key, asked, size)
        self.operations[key] = operation
        operation.task = asyncio.create_task(self.run_operation(operation), name=f"socket operation {key[:40]}")

    async def _refuse(self, key: str, message: str) -> None:
        refused = _refusal(GraphQLError(message, extensions={"code": "RATE_LIMITED"}), uuid4().hex)
        await self.send_message({"id": key, "type": "error", "payload": [refused.formatted]})

    def forget_id(self, id: str) -> None:  # noqa: A002 - Strawberry's signature
        self.operations.pop(id, None)

    async def cleanup_operation(self, operation_id: str) -> None:
        """A mutation that has begun is finished, whoever is still there to hear of it: it might be at its commit."""
        operation = cast("_Operation | None", self.operations.get(operation_id))
        if operation is None or not operation.is_mutation:
            await super().cleanup_operation(operation_id)
            return
        del self.operations[operation_id]
        operation.completed = True
        self._finishing.add(operation)

    async def run_operation(self, operation: Operation[Context, None]) -> None:
        """Nothing that goes wrong here ends more than this operation."""
        operation = cast("_Operation", operation)
        session = self.context.session
        viewer = self.context.viewer if session is None else session.viewer
        context = replace(self.context.for_operation(), viewer=viewer, request_id=operation.request_id)
        try:
            try:
                results = await self._begun(operation, context)
            except Refused as error:
                refused = GraphQLError(str(error), extensions={"code": error.code})
                await operation.send_initial_errors([_refusal(refused, context.request_id)])
                return
            except GraphQLError as error:
                await operation.send_initial_errors([_refusal(error, context.request_id)])
                return
            async with aclosing(results):
                await self._send_result_stream(operation, results)
            await operation.send_operation_message({"id": operation.id, "type": "complete"})
        except (WebSocketDisconnected, WebSocketDisconnect):
            return
        except Exception:  # results are made to carry errors, so whatever comes here is ours; its words are not for clients
            log.exception("socket_operation_failed", request_id=context.request_id)
            masked = GraphQLError("Internal error", extensions={"code": "INTERNAL_SERVER_ERROR", "requestId": context.request_id})
            with suppress(WebSocketDisconnected):
                await operation.send_initial_errors([masked])
        finally:
            self._finishing.discard(operation)

    async def _begun(self, operation: _Operation, context: Context) -> Any:
        """Its answers. What was asked for is not kept any longer: most of it is needed no more."""
        asked, operation.asked = operation.asked, None
        assert asked is not None
        text = await self._view.resolve(asked, context)
        operation.is_mutation = _is_mutation(text, asked.operation_name)
        return await self.schema.stream(
            text,
            variable_values=asked.variables,
            context_value=context,
            operation_name=asked.operation_name,
            operation_extensions=asked.extensions,
        )

    async def _send_result_stream(self, operation: Operation[Context, None], result_source: Any) -> None:
        """What is sent is text that is made once: an answer that many share differs in the operation's id alone."""
        head = '{"id":' + orjson.dumps(operation.id).decode() + ',"type":"next","payload":'
        first = True
        async for result in result_source:
            if operation.completed:
                return
            if first and isinstance(result, PreExecutionError):
                await operation.send_initial_errors(result.errors or [])
                return
            assert isinstance(result, ExecutionResult)
            await self._send_text(head + self._encoded(result, cast("_Operation", operation).request_id) + "}")
            first = False
            del result  # it would be kept until the next

    def _encoded(self, result: ExecutionResult, request_id: str) -> str:
        limit = self._view.settings.max_response_bytes
        if isinstance(result, Answer) and len(result.text) <= limit // 4:  # no character takes more than four bytes
            return result.text
        return answers.encoded(result, request_id=request_id, limit=limit).decode()

    async def send_message(self, message: Message) -> None:
        await self._send_text(self._view.encode_json(message))

    async def _send_text(self, text: str) -> None:
        """Raises `WebSocketDisconnected` where the socket is closed, by whichever side."""
        socket = cast("ASGIWebSocketAdapter", self.websocket).ws
        try:
            await socket.send({"type": "websocket.send", "text": text})
        except WebSocketDisconnect as error:
            raise WebSocketDisconnected from error
        except RuntimeError as error:
            if socket.application_state is WebSocketState.DISCONNECTED:  # we have closed it, while an answer was on its way
                raise WebSocketDisconnected from error
            raise

    def _sign_out(self) -> None:
        if self._farewell is None:
            self._farewell = asyncio.create_task(self._close(FORBIDDEN, "Signed out: the token was revoked or has expired."))

    def _ping_later(self) -> None:
        # A timer takes less memory than a task that sleeps, and there may be thousands of quiet sockets.
        self._next_ping = asyncio.get_running_loop().call_later(self._ping_every, self._begin_ping)

    def _begin_ping(self) -> None:
        self._pinging = asyncio.create_task(self._ping(), name="socket ping")

    async def _ping(self) -> None:
        """Keeps proxies from closing a quiet socket, and notices a client that vanished without a word."""
        try:
            if self.connection_acknowledged and time.monotonic() - self._heard > MISSED * self._ping_every + 1:
                await self._close(GOING_AWAY, "Nothing was heard from you, not even a pong.")
                return
            if self.connection_acknowledged:
                async with asyncio.timeout(self._ping_every):  # a client that does not read holds back what is sent
                    await self.send_message({"type": "ping"})
        except (TimeoutError, WebSocketDisconnected):
            log.debug("socket_not_pinged")
        self._pinging = None
        if not self._is_over:
            self._ping_later()

    async def _close(self, code: int, reason: str) -> None:
        try:
            await self.websocket.close(code, reason.encode()[:REASON].decode(errors="ignore"))
        except (RuntimeError, WebSocketDisconnect):  # it is closed already: the other side was faster
            log.debug("socket_closed_before", code=code)


def _is_mutation(text: str, name: str | None) -> bool:
    try:
        return chosen(schema.read(text), name).operation is OperationType.MUTATION
    except (GraphQLError, RecursionError):  # which its execution will say
        return False


def _refusal(error: GraphQLError, request_id: str) -> GraphQLError:
    """What is sent for a message that never became an operation. It is noted here, since no operation ends that would be."""
    (told,) = coded([error], phase="parse", request_id=request_id)
    note_refusal(request_id, None, str((told.extensions or {})["code"]), transport="websocket")
    return told


class Pace:
    """At most so many messages a second, with as many at once: a bucket that leaks (GCRA)."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._due = 0.0

    def keeps(self, now: float) -> bool:
        """Whether one more may come now."""
        due = max(self._due, now) + self._interval
        if due - now > 1.0 + self._interval / 2:
            return False
        self._due = due
        return True
