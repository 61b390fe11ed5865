"""Around `/graphql`: a line of the log and a place in the numbers for every operation, and for every request that was refused before it was one.

No document, no variable and no token gets into the log; what a client did wrong is never logged as an error of ours.
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

from graph.core.observing import Observation, current
from server import metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from server.tracing import Spans

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_SERVICES = frozenset({"UNAVAILABLE", "TIMEOUT"})  # no fault in the code, but something for whoever runs it to look at
GONE = 499  # what is noted for a client that did not stay for its answer; nobody is sent it
_PHASES = ("parse", "validate", "execute")


class Journal:
    """Hears of the operations of one HTTP request, whose lines wait for the answer's status, or of one socket, whose lines do not wait."""

    def __init__(self, transport: str, headers: Mapping[str, str], spans: Spans | None) -> None:
        self._headers = headers
        self._spans = spans
        self.transport = transport
        self.refusal: str | None = None  # the code with which a request was refused before it was an operation
        self._waits = transport == "http"
        self._ended: list[Observation] = []

    def opened(self, observation: Observation) -> None:
        if self._spans is not None:
            observation.span = self._spans.begin_operation(observation, self._headers)

    def began(self, observation: Observation) -> None:
        if observation.type == "subscription":
            metrics.SUBSCRIPTIONS.inc()
            log.info("subscription_began", **self._facts(observation))

    def ended(self, observation: Observation) -> None:
        if self._spans is not None:
            self._spans.end_operation(observation.span, observation)
        if observation.type == "subscription" and "execute" in observation.phases:
            metrics.SUBSCRIPTIONS.dec()
        if self._waits:
            self._ended.append(observation)
        else:
            self._write(observation)

    def answered(self, request_id: str, status: int, sent: int, seconds: float) -> None:
        """The whole answer has left."""
        metrics.RESPONSES.labels(str(status)).inc()
        metrics.SENT.inc(sent)
        for observation in self._ended:
            if self.refusal is not None and not observation.codes:  # an operation that its transport does not carry
                observation.codes.append(self.refusal)
            self._write(observation, status=status, bytes=sent)
        if not self._ended and (self.refusal is not None or status >= 400):
            code = self.refusal or ("INTERNAL_SERVER_ERROR" if status >= 500 else "BAD_REQUEST")
            note_refusal(request_id, status, code, ms=_ms(seconds))

    def timing(self) -> str:
        """What the `Server-Timing` header says of the operations so far; empty where there was none."""
        parts: list[str] = []
        for observation in self._ended:
            parts += [f"{name};dur={_ms(observation.phases[name])}" for name in _PHASES if name in observation.phases]
            parts.append(f'db;dur={_ms(observation.in_database)};desc="{observation.statements} statements"')
        return ", ".join(parts)

    def _facts(self, observation: Observation) -> dict[str, Any]:
        return {
            "request_id": observation.request_id,
            "operation": observation.name,
            "hash": observation.hash,
            "type": observation.type,
            "viewer": None if observation.viewer_id is None else f"user_{observation.viewer_id.hex}",
            "transport": self.transport,
        }

    def _write(self, observation: Observation, **facts: Any) -> None:
        metrics.count(observation)
        facts = {
            **self._facts(observation),
            **facts,
            "cost": observation.cost,
            "ms": _ms(observation.seconds),
            "db_ms": _ms(observation.in_database),
            "statements": observation.statements,
            "codes": sorted(set(observation.codes)),
        }
        if observation.type == "subscription" and "execute" in observation.phases:
            facts["events"] = observation.events
            name = "subscription_ended"
        else:
            name = "operation"
        if observation.ours:  # the traceback stands in the line of the same request id that was written when it happened
            log.error(name, **facts)
        elif not _SERVICES.isdisjoint(observation.codes):
            log.warning(name, **facts)
        else:
            log.info(name, **facts)


def note_refusal(request_id: str, status: int | None, code: str, **facts: Any) -> None:
    """What never became an operation gets a line of the log and a place in the numbers too. `status` is None within a websocket."""
    metrics.ERRORS.labels(code).inc()
    facts = {"request_id": request_id, "status": status, "codes": [code], **facts}
    if status is not None and status >= 500:
        log.warning("request_refused", **facts)
    else:
        log.info("request_refused", **facts)


class Observed:
    """The endpoint, observed. `scope["state"]["journal"]` is the journal of the request or the socket."""

    def __init__(self, app: ASGIApp, *, server_timing: bool, spans: Spans | None = None) -> None:
        self._app = app
        self._spans = spans
        self._server_timing = server_timing
        count_statements()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: dict[str, Any] = scope.setdefault("state", {})
        if scope["type"] == "websocket":
            state["journal"] = Journal("websocket", _traced(scope), self._spans)
            with metrics.SOCKETS.track_inprogress():
                await self._app(scope, receive, send)
            return
        journal = state["journal"] = Journal("http", _traced(scope), self._spans)
        began = time.perf_counter()
        status, sent = 0, 0

        async def counting(message: MutableMapping[str, Any]) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._server_timing and (timing := journal.timing()):
                    message["headers"] = [*message.get("headers", ()), (b"server-timing", timing.encode())]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counting)
            status = status or GONE
        except (asyncio.CancelledError, ClientDisconnect):
            status = status or GONE
            raise
        finally:
            status = status or 500
            journal.answered(state.get("request_id", ""), status, sent, time.perf_counter() - began)


def _traced(scope: Scope) -> dict[str, str]:
    """The headers that say of which trace the request is a part."""
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in {b"traceparent", b"tracestate"}}


_BEGAN = "trellis_began"


def count_statements() -> None:
    """Let every SQL statement of this process count for the operation it is sent for. Said twice, it holds once."""
    if not event.contains(Engine, "before_cursor_execute", _before):
        event.listen(Engine, "before_cursor_execute", _before)
        event.listen(Engine, "after_cursor_execute", _after)


def _before(_connection: object, _cursor: object, _statement: object, _parameters: object, context: Any, _many: object) -> None:
    if context is not None and current.get() is not None:
        setattr(context, _BEGAN, time.perf_counter())


def _after(_connection: object, _cursor: object, _statement: object, _parameters: object, context: Any, _many: object) -> None:
    began = getattr(context, _BEGAN, None)
    observation = current.get()
    if began is not None and observation is not None:
        observation.statements += 1
        observation.in_database += time.perf_counter() - began


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
