"""Observation of operations for logs and metrics. It excludes the document and its variables."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self
from uuid import UUID

from graphql import OperationDefinitionNode

from db.core.networks import NO_CLIENT, ClientInfo

if TYPE_CHECKING:
    from graphql import DocumentNode

    from db.core.viewer import Viewer
    from graph.execution.planning.trace import ExecutionTrace

HASH_LENGTH = 16
SERVER_ERROR_CODES = frozenset({"INTERNAL_SERVER_ERROR"})  # the codes of errors that are no client's fault


@dataclass(slots=True)
class Observation:
    """The record of one operation, filled in while it runs. Times are in seconds; `phases` are parse, validate and execute.

    `hash` is the first 16 hex digits of the document's SHA-256. `cost` stays None where it was not estimated. A subscription counts `events`.
    """

    request_id: str
    viewer_id: UUID | None
    api_key_id: UUID | None = None
    session_id: UUID | None = None
    client: ClientInfo = NO_CLIENT
    name: str | None = None
    type: str = "unknown"
    hash: str = ""
    cost: int | None = None
    unplanned_reason: str | None = None  # why graphql-core executed it
    error_codes: list[str] = field(default_factory=list[str])
    phases: dict[str, float] = field(default_factory=dict[str, float])
    events: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    statements: int = 0
    database_seconds: float = 0.0
    started_at: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    span: Any = None  # the observer's own, if it traces
    trace: ExecutionTrace | None = None  # if the client asked for it and may see it

    @classmethod
    def of(cls, request_id: str, viewer: Viewer | None, client: ClientInfo) -> Self:
        """The record of an operation that this viewer sends, or of a request of theirs that becomes none."""
        if viewer is None:
            return cls(request_id, None, client=client)
        session_id, api_key_id = (viewer.key_id, None) if viewer.is_session else (None, viewer.key_id)
        return cls(request_id, viewer.id, api_key_id, session_id, client)

    def add_statement(self, seconds: float, rows: int) -> None:
        """Count a statement that the operation sent."""
        self.statements += 1
        self.database_seconds += seconds
        if self.trace is not None:
            self.trace.add_statement(seconds, rows)

    @property
    def is_server_error(self) -> bool:
        """Whether an error is the server's fault."""
        return not SERVER_ERROR_CODES.isdisjoint(self.error_codes)

    def identify(self, text: str | None, document: DocumentNode | None, name: str | None) -> None:
        """Record the hash, name and type of the operation, as far as its document tells them. `name` is the one that the request has."""
        if text:
            self.hash = document_hash(text)
        if document is not None:
            operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
            named = [node for node in operations if node.name is not None and node.name.value == name] if name is not None else operations
            first = named[0] if named else None
            self.name = name if name is not None or first is None or first.name is None else first.name.value
            self.type = "unknown" if first is None else first.operation.value

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Time a phase."""
        started_at = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - started_at


def document_hash(text: str) -> str:
    """The start of the SHA-256 of a document, in hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_LENGTH]


class Observer(Protocol):
    """Receives the operations of one request or one websocket."""

    def operation_received(self, observation: Observation) -> None:
        """The operation has arrived; nothing is known of it yet."""
        ...

    def execution_started(self, observation: Observation) -> None:
        """The operation is parsed and validated, and is now executed."""
        ...

    def operation_ended(self, observation: Observation) -> None:
        """The operation has produced its last result or was abandoned; also called for one that was never executed."""
        ...


# The operation that the present task works for; the loads that it starts inherit it.
current_observation: ContextVar[Observation | None] = ContextVar("observation", default=None)
