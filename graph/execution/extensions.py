"""Extensions of subscriptions and of a websocket's operations: their phases, their observation, and loaders that live for one event.

Admission is in `limits.admission`. What comes by a request of its own is run by `graph.execution.operation_runner`.
"""

import time
from collections.abc import Iterator
from typing import Any

from graphql import GraphQLError, NoSchemaIntrospectionCustomRule
from strawberry.extensions import SchemaExtension
from strawberry.types import StreamExecutionResult

from graph.execution.context import OperationContext
from graph.execution.observation import Observation, current_observation
from graph.execution.operations import select_operation


class OperationExtension(SchemaExtension):
    """Tracks the phase of an operation, and resets the loaders after each event of a subscription."""

    @property
    def context(self) -> OperationContext:
        return self.execution_context.context

    def on_operation(self) -> Iterator[None]:
        if not self.context.services.introspection:
            self.execution_context.validation_rules += (NoSchemaIntrospectionCustomRule,)
        yield

    def on_validate(self) -> Iterator[None]:
        self.context.phase = "validate"
        operation = self.execution_context
        assert operation.graphql_document is not None
        try:
            select_operation(operation.graphql_document, operation._provided_operation_name)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the public name is the guess
        except GraphQLError as error:
            operation.pre_execution_errors = [error]
            yield
            return
        yield

    def on_execute(self) -> Iterator[None]:
        self.context.phase = "execute"
        yield

    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:  # noqa: ARG002 - the signature is Strawberry's
        # The next event is executed only after this result was taken, so it shares no loader cache with this one.
        self.context.reset_loaders()
        yield


class ObservationExtension(SchemaExtension):
    """Observes one operation for the observer of its request."""

    observation: Observation

    def on_operation(self) -> Iterator[None]:
        context: OperationContext = self.execution_context.context
        viewer, observer = context.viewer, context.observer
        observation = Observation.of(context.request_id, viewer, context.services.client)
        observation.request_bytes = context.request_bytes
        self.observation = context.observation = observation
        current_observation.set(observation)
        if observer is not None:
            observer.operation_received(observation)
        try:
            yield
        finally:
            if not observation.hash:  # it was never executed
                self._identify(observation)
            observation.seconds = time.perf_counter() - observation.started_at
            if context.rate_limit_status is not None:
                observation.cost = context.rate_limit_status.cost
            if observer is not None:
                observer.operation_ended(observation)

    def _identify(self, observation: Observation) -> None:
        operation = self.execution_context
        observation.identify(operation.query, operation.graphql_document, operation._provided_operation_name)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the public name is the guess

    def get_results(self) -> dict[str, Any]:
        trace = self.observation.trace
        return {} if trace is None else {"plan": trace.report()}

    def on_parse(self) -> Iterator[None]:
        with self.observation.phase("parse"):
            yield

    def on_validate(self) -> Iterator[None]:
        with self.observation.phase("validate"):
            yield

    def on_execute(self) -> Iterator[None]:
        context: OperationContext = self.execution_context.context
        self._identify(self.observation)
        if context.observer is not None:
            context.observer.execution_started(self.observation)
        with self.observation.phase("execute"):
            yield

    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:  # noqa: ARG002 - the signature is Strawberry's
        self.observation.events += 1
        yield
