"""The timeout of one execution: of a query, of a mutation, or of one event of a subscription, over every transport."""

import asyncio
from collections.abc import Awaitable
from inspect import isawaitable
from typing import Any, cast

from graphql import ExecutionResult, GraphQLError, OperationType
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from graph.execution.context import OperationContext
from graph.execution.planning.builder import Unplannable
from graph.execution.planning.plan import Planner
from graph.execution.planning.trace import ExecutionTrace
from graph.execution.scopes import field_error
from graph.execution.variables import MAX_COERCION_ERRORS

PLANNER = Planner()


class TimedExecutionContext(StrawberryGraphQLCoreExecutionContext):
    """Cancels an execution after `RequestServices.execution_timeout`, together with the statements that it and its loaders have sent.

    A source of events may be silent for any time: only the result of an event has a timeout.
    """

    checks_fields = False  # whether the viewer lacks a scope that the operation needs

    @classmethod
    def build(
        cls,
        schema: Any,
        document: Any,
        root_value: Any = None,
        context_value: Any = None,
        variables: Any = None,
        operation_name: str | None = None,
        field_resolver: Any = None,
        type_resolver: Any = None,
        subscribe_field_resolver: Any = None,
        _max_coercion_errors: int = 0,
        *rest: Any,
        **options: Any,
    ) -> Any:
        """Limit the errors about variables: each repeats the value, which may have a megabyte.

        Where introspection is off, errors suggest no names of the schema.
        """
        options["hide_suggestions"] = isinstance(context_value, OperationContext) and not context_value.services.introspection
        resolvers = field_resolver, type_resolver, subscribe_field_resolver
        return cast("Any", super()).build(
            schema, document, root_value, context_value, variables, operation_name, *resolvers, MAX_COERCION_ERRORS, *rest, **options
        )

    def execute_operation(self, serially: bool | None = None) -> Any:
        """Run the operation's plan or, where it has none, execute it as graphql-core does."""
        context: OperationContext = self.context_value
        trace = self._trace()
        try:
            plan = PLANNER.plan(self)
            if not plan.needs.are_granted(context.viewer):
                raise Unplannable("scopes")  # noqa: TRY301 - as the planner does
            result: Any = plan.execute(self) if trace is None else trace.execute(plan.execute(self, trace))
        except Unplannable as unplannable:
            if context.observation is not None:
                context.observation.unplanned_reason = unplannable.reason
            if trace is not None:
                trace.unplanned_reason = unplannable.reason
            self.checks_fields = not PLANNER.needs(self).are_granted(context.viewer)
            result = super().execute_operation(serially)
            if trace is not None and isawaitable(result):
                result = trace.execute(_completed(result))
        return self._with_timeout(result) if isawaitable(result) else result

    def execute_field(self, parent_type: Any, source: Any, field_details_list: Any, path: Any, position_context: Any) -> Any:
        """Execute a field as graphql-core does, if the viewer may select it."""
        if self.checks_fields:
            error = field_error(self, parent_type, field_details_list)
            if error is not None:
                definition: Any = self.schema.get_field(parent_type, field_details_list[0].node.name.value)
                cast("Any", self).handle_field_error(error, definition.type, field_details_list, path)
                return None
        return super().execute_field(parent_type, source, field_details_list, path, position_context)

    def _trace(self) -> ExecutionTrace | None:
        """The trace to fill in; of a subscription none is made, since its results are shared."""
        context: OperationContext = self.context_value
        if not context.shows_plan or context.observation is None or self.operation.operation is OperationType.SUBSCRIPTION:
            return None
        trace = context.observation.trace = ExecutionTrace()
        return trace

    async def _with_timeout(self, result: Awaitable[Any]) -> Any:
        context: OperationContext = self.context_value
        deadlines = context.services.deadlines
        try:
            if deadlines is not None:
                with deadlines.limit():
                    return await result
            async with asyncio.timeout(context.services.execution_timeout):
                return await result
        except TimeoutError:
            # What a resolver raises became an error of its field before it came here, so this is our own deadline. A loader's batch ends by
            # itself when nobody waits for it any more; cancelled a second time, its driver could not cancel the statement in PostgreSQL.
            return timeout_result(context)


async def _completed(result: Awaitable[Any]) -> Any:
    return await result


def timeout_result(context: OperationContext) -> ExecutionResult:
    """Return the result of an operation, or of a subscription whose source does not open, that timed out."""
    message = (
        f"The operation exceeded its timeout of {context.services.execution_timeout:g} s. Request less at once: shorter pages, fewer levels, a narrower filter."
        " If it was a mutation, check whether it took effect before you retry it."
    )
    return ExecutionResult(None, [GraphQLError(message, extensions={"code": "TIMEOUT"})])
