"""Logs and metrics of `/graphql`: one log line for each operation, and for each request rejected before it became one.

Documents, variables and tokens are never logged. Errors of clients are logged as `info`, never as `error`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import event
from sqlalchemy.engine import Engine
from starlette.requests import ClientDisconnect

from db.queries.accounts import token_hash
from graph.execution.observation import Observation, current_observation
from server import metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from db.core.networks import ClientInfo
    from db.core.viewer import Viewer
    from server.api_usage import ApiUsage
    from server.tracing import Spans

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_SERVICE_ERROR_CODES = frozenset({"UNAVAILABLE", "TIMEOUT"})  # not a bug, but of interest to the operator: logged as warnings
CLIENT_CLOSED_REQUEST = 499  # logged for a client that disconnected before its response; never sent
_PHASES = ("parse", "validate", "execute")


class OperationRecorder:
    """Records the operations of one HTTP request, which are logged with the response's status, or of one websocket, logged at once."""

    def __init__(self, transport: str, headers: Mapping[str, str], spans: Spans | None, usage: ApiUsage | None = None) -> None:
        self._headers = headers
        self._usage = usage
        self._spans = spans
        self.transport = transport
        self.rejection_code: str | None = None  # error code of a request that was rejected before it became an operation
        self._sender: Observation | None = None  # who sent the request, once that is known
        self._refused_token: bytes | None = None  # the SHA-256 of a token that was not valid
        self._waits_for_status = transport == "http"
        self._ended_operations: list[Observation] = []

    def identified(self, viewer: Viewer | None, client: ClientInfo) -> None:
        """The request is this viewer's: it counts in their usage even if it is rejected."""
        self._sender = None if viewer is None else Observation.of("", viewer, client)

    def token_refused(self, token: str | None, client: ClientInfo) -> None:
        """The request came with a token that is not valid; whoever had it sees that it is still used."""
        if token is not None:
            self._refused_token, self._sender = token_hash(token), Observation.of("", None, client)

    def rejected(self, code: str, seconds: float = 0.0, received_bytes: int = 0, sent_bytes: int = 0) -> None:
        """Count a request that never became an operation in the usage of who sent it, if that is known."""
        sender = self._sender
        if self._usage is None or sender is None:
            return
        sender.seconds, sender.request_bytes, sender.response_bytes = seconds, received_bytes, sent_bytes
        sender.error_codes.append(code)
        if self._refused_token is None:
            self._usage.note(sender)
        else:
            self._usage.note_refused(self._refused_token, sender)

    def operation_received(self, observation: Observation) -> None:
        if self._spans is not None:
            observation.span = self._spans.begin_operation(observation, self._headers)

    def execution_started(self, observation: Observation) -> None:
        if observation.type == "subscription":
            metrics.SUBSCRIPTIONS.inc()
            log.info("subscription_started", **self._log_fields(observation))

    def operation_ended(self, observation: Observation) -> None:
        if self._spans is not None:
            self._spans.end_operation(observation.span, observation)
        if observation.type == "subscription" and "execute" in observation.phases:
            metrics.SUBSCRIPTIONS.dec()
        if self._waits_for_status:
            self._ended_operations.append(observation)
        else:
            self._log_operation(observation)

    def response_sent(self, request_id: str, status: int, sent_bytes: int, seconds: float, received_bytes: int = 0) -> None:
        """Count the response and log its operations."""
        metrics.record_response(status, sent_bytes)
        for observation in self._ended_operations:
            if self.rejection_code is not None and not observation.error_codes:  # an operation that its transport does not allow
                observation.error_codes.append(self.rejection_code)
            observation.request_bytes, observation.response_bytes = received_bytes, sent_bytes
            self._log_operation(observation, status=status, bytes=sent_bytes)
        if not self._ended_operations and (self.rejection_code is not None or status >= 400):
            code = self.rejection_code or ("INTERNAL_SERVER_ERROR" if status >= 500 else "BAD_REQUEST")
            record_rejection(request_id, status, code, ms=_ms(seconds))
            self.rejected(code, seconds, received_bytes, sent_bytes)

    def server_timing_header(self) -> str:
        """The value of the `Server-Timing` header; empty without operations."""
        parts: list[str] = []
        for observation in self._ended_operations:
            parts += [f"{name};dur={_ms(observation.phases[name])}" for name in _PHASES if name in observation.phases]
            parts.append(f'db;dur={_ms(observation.database_seconds)};desc="{observation.statements} statements"')
        return ", ".join(parts)

    def _log_fields(self, observation: Observation) -> dict[str, Any]:
        return {
            "request_id": observation.request_id,
            "operation": observation.name,
            "hash": observation.hash,
            "type": observation.type,
            "viewer": None if observation.viewer_id is None else f"user_{observation.viewer_id.hex}",
            "transport": self.transport,
        }

    def _log_operation(self, observation: Observation, **fields: Any) -> None:
        metrics.record_operation(observation)
        if self._usage is not None:
            self._usage.note(observation)
        codes = sorted(set(observation.error_codes)) if observation.error_codes else []
        fields = {
            **self._log_fields(observation),
            **fields,
            "cost": observation.cost,
            "ms": round(observation.seconds * 1000, 2),
            "db_ms": round(observation.database_seconds * 1000, 2),
            "statements": observation.statements,
            "codes": codes,
        }
        if observation.type == "subscription" and "execute" in observation.phases:
            fields["events"] = observation.events
            name = "subscription_ended"
        else:
            name = "operation"
        if not codes:
            log.info(name, **fields)
        elif observation.is_server_error:  # its traceback was logged under the same request id when it was raised
            log.error(name, **fields)
        elif not _SERVICE_ERROR_CODES.isdisjoint(observation.error_codes):
            log.warning(name, **fields)
        else:
            log.info(name, **fields)


def record_rejection(request_id: str, status: int | None, code: str, **fields: Any) -> None:
    """Log and count a request that never became an operation. `status` is None within a websocket."""
    metrics.ERRORS.labels(code).inc()
    fields = {"request_id": request_id, "status": None if status is None else int(status), "codes": [code], **fields}
    if status is not None and status >= 500:
        log.warning("request_rejected", **fields)
    else:
        log.info("request_rejected", **fields)


class ObservabilityMiddleware:
    """Observes the endpoint; puts the `OperationRecorder` of the request or websocket into `scope["state"]["recorder"]`."""

    def __init__(self, app: ASGIApp, *, server_timing: bool, spans: Spans | None = None) -> None:
        self._app = app
        self._spans = spans
        self._server_timing = server_timing
        count_statements()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: dict[str, Any] = scope.setdefault("state", {})
        usage: ApiUsage | None = getattr(scope["app"].state, "api_usage", None)
        if scope["type"] == "websocket":
            state["recorder"] = OperationRecorder("websocket", _trace_headers(scope), self._spans, usage)
            with metrics.SOCKETS.track_inprogress():
                await self._app(scope, receive, send)
            return
        recorder = state["recorder"] = OperationRecorder("http", _trace_headers(scope), self._spans, usage)
        started_at = time.perf_counter()
        status, sent_bytes, received_bytes = 0, 0, len(scope["query_string"])

        async def counting_receive() -> MutableMapping[str, Any]:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            return message

        async def counting_send(message: MutableMapping[str, Any]) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._server_timing and (timing := recorder.server_timing_header()):
                    message["headers"] = [*message.get("headers", ()), (b"server-timing", timing.encode())]
            elif message["type"] == "http.response.body":
                sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, counting_receive, counting_send)
            status = status or CLIENT_CLOSED_REQUEST
        except (asyncio.CancelledError, ClientDisconnect):
            status = status or CLIENT_CLOSED_REQUEST
            raise
        finally:
            status = status or 500
            recorder.response_sent(state.get("request_id", ""), status, sent_bytes, time.perf_counter() - started_at, received_bytes)


def _trace_headers(scope: Scope) -> dict[str, str]:
    """The headers of W3C trace context."""
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in {b"traceparent", b"tracestate"}}


_STARTED_AT = "trellis_started_at"


def count_statements() -> None:
    """Count every SQL statement of this process for the operation that sends it. Idempotent."""
    if not event.contains(Engine, "before_cursor_execute", _before_cursor_execute):
        event.listen(Engine, "before_cursor_execute", _before_cursor_execute)
        event.listen(Engine, "after_cursor_execute", _after_cursor_execute)


def _before_cursor_execute(
    _connection: object, _cursor: object, _statement: object, _parameters: object, context: Any, _many: object
) -> None:
    if context is not None and current_observation.get() is not None:
        setattr(context, _STARTED_AT, time.perf_counter())


def _after_cursor_execute(
    _connection: object, _cursor: object, _statement: object, _parameters: object, context: Any, _many: object
) -> None:
    started_at = getattr(context, _STARTED_AT, None)
    observation = current_observation.get()
    if started_at is not None and observation is not None:
        observation.add_statement(time.perf_counter() - started_at, max(context.rowcount, 0))


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
