"""Execution of subscriptions: equal selections of an event share one result, and permissions are checked for each event.

Strawberry's own path from an event to its result took a third of the cost of a delivery, and ran once per subscriber.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Hashable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, cast

import strawberry
from graphql import DocumentNode, GraphQLError
from graphql import ExecutionResult as CoreResult
from graphql.execution import create_source_event_stream  # pyright: ignore[reportUnknownVariableType] - generics that graphql-core leaves open
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from db.errors import Forbidden
from db.streams.job_tail import StreamEvent
from graph.core.scalars import encode_json
from graph.execution.context import OperationContext
from graph.execution.document_cache import DocumentCache
from graph.execution.operations import select_operation
from graph.execution.planning.builder import Unplannable
from graph.execution.planning.plan import EventWriter
from graph.execution.result_sharing import Sharing, plan_sharing
from graph.execution.timeout import PLANNER, timeout_result

NOT_WRITTEN = object()


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """How the results of a subscription are computed: shared or not, and written at once or by an execution of the plan."""

    sharing: Sharing | None = None
    writer: EventWriter | None = None


@dataclass
class SharedResult(ExecutionResult):
    """A result without errors that equal selections share; `text` is what a transport sends as its payload."""

    text: str = ""


class SubscriptionRunner:
    """Runs the subscriptions of one schema. `read` parses a document, or finds it parsed."""

    def __init__(self, schema: strawberry.Schema, read: Callable[[str], DocumentNode]) -> None:
        self._schema = schema
        self._core_schema = schema._schema  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - Strawberry has no public way to it
        self._read = read
        self._delivery_plans: DocumentCache[DeliveryPlan] = DocumentCache()

    def runs(self, operation: ExecutionContext) -> bool:
        """Whether the operation is a subscription, and one is allowed."""
        if operation.query is None or OperationType.SUBSCRIPTION not in operation.allowed_operations:
            return False
        try:
            definition = select_operation(self._read(operation.query), operation._provided_operation_name)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public name is the guess
        except GraphQLError:
            return False
        return definition.operation.value == OperationType.SUBSCRIPTION.value

    async def stream(self, operation: ExecutionContext, extensions: Any, middleware: Any) -> AsyncGenerator[ExecutionResult, None]:
        """Yield the results of a subscription while its viewer is signed in. A failure is the last of them."""
        stack: ExitStack | None = None
        try:
            async with extensions.operation():
                preparation_error = await self._schema._prepare_operation_async(operation, extensions)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - parses and validates, as for every operation
                if preparation_error is not None:
                    yield await self.finalize(operation, extensions, preparation_error)
                    return
                _drop_undeclared_variables(operation)
                context: OperationContext = operation.context
                if context.viewer is not None and context.session is None:  # a websocket has one, for all of its operations
                    stack = ExitStack()
                    context.session = stack.enter_context(context.feed.sessions.acquire(context.viewer))
                async with extensions.executing():
                    executor, source = await self._open_source(operation, middleware)
                if executor is None or isinstance(source, CoreResult):
                    errors = source.errors if isinstance(source, CoreResult) else None
                    yield await self.finalize(operation, extensions, PreExecutionError(data=None, errors=errors))
                    return
                context.progress.mark_started()
                subscription = _ActiveSubscription(self, operation, extensions, middleware, executor)
                del executor  # kept only where events need one
                try:
                    async with aclosing(cast("AsyncGenerator[Any, None]", source)):
                        async for event in source:
                            pending_result = subscription.result_for(event)
                            del event  # it would be kept until the next
                            yield await pending_result
                except Exception as error:  # noqa: BLE001 - whatever a source raises becomes a result, masked where it was not meant for clients
                    yield await self.finalize(operation, extensions, _error_result(error))
        except Exception as error:  # noqa: BLE001 - the same, for what surrounds the operation
            yield await self.finalize(operation, extensions, _error_result(error))
        finally:
            if stack is not None:
                stack.close()

    async def finalize(self, operation: ExecutionContext, extensions: Any, result: Any) -> ExecutionResult:
        """Make the result that Strawberry would: errors with their codes, and what the extensions add."""
        final_result = await self._schema._handle_execution_result(operation, result, extensions)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its one place for this
        async with extensions.on_stream_result(final_result):
            return final_result

    def build_executor(self, operation: ExecutionContext, middleware: Any) -> Any:
        """Return graphql-core's executor, or a list of errors where the variables are wrong."""
        assert operation.graphql_document is not None
        return cast("Any", self._schema).execution_context_class.build(
            self._core_schema,
            operation.graphql_document,
            operation.root_value,
            operation.context,
            operation.variables,
            operation.operation_name,
            middleware=middleware,
        )

    def delivery_plan(self, operation: ExecutionContext, executor: Any) -> DeliveryPlan:
        """Return the plan of the subscription. Equal subscriptions get the same object: there may be thousands of them."""
        document, text, variables = operation.graphql_document, operation.query, operation.variables
        if document is None or text is None:
            return DeliveryPlan()
        sharing = plan_sharing(self._core_schema, document, text, executor.operation, variables)
        if sharing is None:
            return DeliveryPlan()
        plan = self._delivery_plans.get(text, sharing)
        if plan is None:
            plan = DeliveryPlan(sharing, None if sharing.per_viewer else _event_writer(executor))
            self._delivery_plans.put(text, plan, sharing, characters=sharing.length)
        return plan

    async def _open_source(self, operation: ExecutionContext, middleware: Any) -> tuple[Any, AsyncIterable[Any] | CoreResult]:
        executor = self.build_executor(operation, middleware)
        if isinstance(executor, list):
            return None, CoreResult(None, errors=cast("list[GraphQLError]", executor))
        context: OperationContext = operation.context
        if context.viewer is not None:
            try:
                PLANNER.needs(executor).require(context.viewer)
            except Forbidden as error:  # else each event would be an error
                return None, CoreResult(None, [GraphQLError(str(error), executor.operation, original_error=error)])
        source: Any = create_source_event_stream(executor)
        try:
            async with asyncio.timeout(context.services.execution_timeout):
                return executor, await source if isawaitable(source) else source
        except TimeoutError:  # what a source raises became an error of its field, so this is our own deadline
            return executor, timeout_result(context)


def _event_writer(executor: Any) -> EventWriter | None:
    try:
        return PLANNER.plan(executor).event_writer()
    except Unplannable:
        return None


def _drop_undeclared_variables(operation: ExecutionContext) -> None:
    """Remove the variables that the operation does not declare, in place: the transport keeps them for as long as the stream lasts."""
    document, variables = operation.graphql_document, operation.variables
    if document is None or not variables:
        return
    definitions = select_operation(document, operation._provided_operation_name).variable_definitions or ()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public name is the guess
    for name in variables.keys() - {definition.variable.name.value for definition in definitions}:
        del variables[name]


def _error_result(error: Exception) -> CoreResult:
    return CoreResult(None, [error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)])


class _ActiveSubscription:
    """One subscription that runs. `executor` is kept only where each event needs one."""

    def __init__(self, runner: SubscriptionRunner, operation: ExecutionContext, extensions: Any, middleware: Any, executor: Any) -> None:
        self._runner = runner
        self._operation = operation
        self._extensions = extensions
        self._middleware = middleware
        self._context: OperationContext = operation.context
        self._plan = runner.delivery_plan(operation, executor)
        self._needs = PLANNER.needs(executor)
        self._granted_viewer = self._context.viewer
        self._executor: Any = executor if self._plan.writer is None else None

    async def result_for(self, event: Any) -> ExecutionResult:
        """Return the result for an event: the one that an equal selection got, or a new one."""
        context = self._context
        if context.session is not None:
            context.viewer = context.session.viewer
        if not isinstance(event, StreamEvent):
            return await self._execute(event)
        context.progress.last_cursor = event.cursor
        sharing, writer = self._plan.sharing, self._plan.writer
        if sharing is None or not self._is_granted():
            return await self._execute(event.source)
        if writer is not None:
            cached: Any = event.results.get(sharing.key)
            if cached is None:
                cached = event.results[sharing.key] = _write(writer, event.source)
            if cached is not NOT_WRITTEN:
                if self._context.observation is not None:
                    self._context.observation.events += 1
                return cached
            return await self._execute(event.source)
        return await self._get_shared(event, sharing)

    def _is_granted(self) -> bool:
        """Whether the viewer, as of the last revalidation, may select all fields. Otherwise no result may be shared with them."""
        viewer = self._context.viewer
        if viewer is self._granted_viewer:
            return True
        if not self._needs.are_granted(viewer):
            return False
        self._granted_viewer = viewer
        return True

    async def _get_shared(self, event: StreamEvent, sharing: Sharing) -> ExecutionResult:
        key = (sharing.key, self._context.viewer) if sharing.per_viewer else sharing.key
        while True:
            cached: SharedResult | asyncio.Future[SharedResult | None] | None = event.results.get(key)
            if cached is None:
                return await self._execute_as_leader(event, key, sharing)
            if isinstance(cached, asyncio.Future):
                await asyncio.wait((cached,))
                if cached.cancelled():
                    continue  # the leader's client has gone, and another subscriber becomes the leader
                cached = cached.result()
            if cached is None:
                # There is nothing to share. If they waited for each other again, the last of many would wait for all of them.
                return await self._execute(event.source)
            if self._context.observation is not None:
                self._context.observation.events += 1
            return cached

    async def _execute_as_leader(self, event: StreamEvent, key: Hashable, sharing: Sharing) -> ExecutionResult:
        """Execute the event here, while all who select the same wait for the result."""
        future: asyncio.Future[SharedResult | None]
        future = event.results[key] = asyncio.get_running_loop().create_future()
        shared_result: SharedResult | None = None
        try:
            result = await self._execute(event.source)
            shared_result = _to_shared_result(result)
        except asyncio.CancelledError:
            future.cancel()
            raise
        finally:
            # Only what depends on nothing but the event is kept. What depends on rows is shared by those who ask while it is read.
            del event.results[key]
            if shared_result is not None and not sharing.per_viewer:
                event.results[key] = shared_result
            if not future.done():
                future.set_result(shared_result)
        return shared_result or result

    async def _execute(self, source: Any) -> ExecutionResult:
        if self._executor is None:
            self._executor = self._runner.build_executor(self._operation, self._middleware)
        self._context.reset_loaders()
        result = self._executor.build_per_event_executor(source).execute_operation(serially=False)
        core_result = await result if isawaitable(result) else result
        return await self._runner.finalize(self._operation, self._extensions, core_result)


def _write(writer: EventWriter, source: Any) -> SharedResult | object:
    """Return what the writer makes of the event; NOT_WRITTEN where it has to be executed."""
    data = writer.write(source)
    try:
        return NOT_WRITTEN if data is None else SharedResult(data, None, None, encode_json({"data": data}).decode())
    except TypeError:
        return NOT_WRITTEN


def _to_shared_result(result: ExecutionResult) -> SharedResult | None:
    """Return the result with its text; None for one with errors, which name a request and so are each subscriber's own."""
    if result.errors or result.extensions:
        return None
    try:
        return SharedResult(result.data, None, None, encode_json({"data": result.data}).decode())
    except TypeError:
        return None
