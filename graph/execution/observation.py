"""What is known of an operation once it has ended, for whoever keeps logs and numbers. The document and its variables are not part of it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from strawberry.extensions import SchemaExtension
from strawberry.types import ExecutionContext, StreamExecutionResult

if TYPE_CHECKING:
    from graph.core.context import Context

HASH_LENGTH = 16
SERVER_ERROR_CODES = frozenset({"INTERNAL_SERVER_ERROR"})  # the codes of errors that are no client's fault


@dataclass(slots=True)
class Observation:
    """Of one operation, filled in while it runs. Times are in seconds; `phases` are parse, validate and execute.

    `hash` is the first 16 hex digits of the document's SHA-256. `cost` stays None where nobody worked it out. A subscription counts `events`.
    """

    request_id: str
    viewer_id: UUID | None
    name: str | None = None
    type: str = "unknown"
    hash: str = ""
    cost: int | None = None
    error_codes: list[str] = field(default_factory=list[str])
    phases: dict[str, float] = field(default_factory=dict[str, float])
    events: int = 0
    statements: int = 0
    database_seconds: float = 0.0
    started_at: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    span: Any = None  # the observer's own, if it traces

    @property
    def is_server_error(self) -> bool:
        """Whether something of ours went wrong."""
        return not SERVER_ERROR_CODES.isdisjoint(self.error_codes)

    def identify(self, operation: ExecutionContext) -> None:
        """Which operation it is, as far as its document tells."""
        if operation.query:
            self.hash = hashlib.sha256(operation.query.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_LENGTH]
        if operation.graphql_document is not None:
            self.name = operation.operation_name
            try:
                self.type = operation.operation_type.value
            except RuntimeError:  # it names an operation that the document does not have
                self.type = "unknown"

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Time a phase."""
        started_at = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - started_at


class Observer(Protocol):
    """Hears of the operations of one request or one socket."""

    def operation_received(self, observation: Observation) -> None:
        """It has come in; nothing is known of it yet."""
        ...

    def execution_started(self, observation: Observation) -> None:
        """It is parsed and validated, and now runs."""
        ...

    def operation_ended(self, observation: Observation) -> None:
        """Its last result was made, or it was given up; also for one that never ran."""
        ...


# The operation that the present task works for; the loads that it starts inherit it.
current_observation: ContextVar[Observation | None] = ContextVar("observation", default=None)


class ObservationExtension(SchemaExtension):
    """Watches one operation on behalf of its context's observer. Stands after the extension that gives the operation its context."""

    observation: Observation

    def on_operation(self) -> Iterator[None]:
        context: Context = self.execution_context.context
        viewer = context.viewer
        observation = Observation(context.request_id, None if viewer is None else viewer.id)
        self.observation = context.observation = observation
        current_observation.set(observation)
        if context.observer is not None:
            context.observer.operation_received(observation)
        try:
            yield
        finally:
            if not observation.hash:  # it never came to run
                observation.identify(self.execution_context)
            observation.seconds = time.perf_counter() - observation.started_at
            if context.rate_limit_status is not None:
                observation.cost = context.rate_limit_status.cost
            if context.observer is not None:
                context.observer.operation_ended(observation)

    def on_parse(self) -> Iterator[None]:
        with self.observation.phase("parse"):
            yield

    def on_validate(self) -> Iterator[None]:
        with self.observation.phase("validate"):
            yield

    def on_execute(self) -> Iterator[None]:
        context: Context = self.execution_context.context
        self.observation.identify(self.execution_context)
        if context.observer is not None:
            context.observer.execution_started(self.observation)
        with self.observation.phase("execute"):
            yield

    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:  # noqa: ARG002 - the signature is Strawberry's
        self.observation.events += 1
        yield
