"""Subscriptions as they run: each event is answered once for all who select the same of it, each viewer is who they are by now.

Strawberry's own way from an event to its answer was a third of the cost of a delivery, and ran once for every subscriber.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Hashable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, cast

import orjson
from graphql import DocumentNode, GraphQLError
from graphql import ExecutionResult as CoreResult
from graphql.execution import create_source_event_stream  # pyright: ignore[reportUnknownVariableType] - generics that graphql-core leaves open
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from db.streams.job_tail import StreamEvent
from graph.core.context import Context
from graph.execution.leaf_serializer import LeafSerializer, NotSerializable, build_leaf_serializer
from graph.execution.operations import select_operation
from graph.execution.result_sharing import Sharing, plan_sharing
from graph.execution.timeout import timeout_result

if TYPE_CHECKING:
    from graph.execution.schema import Schema


NOT_SERIALIZABLE = object()


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """How the events of a subscription are answered: shared or not, and by a writer or by an executor."""

    sharing: Sharing | None = None
    serializer: LeafSerializer | None = None


@dataclass
class SharedResult(ExecutionResult):
    """An answer without errors that is shared by equal selections; `text` is what a transport sends as its payload."""

    text: str = ""


def is_subscription(schema: Schema, operation: ExecutionContext) -> bool:
    """Whether this is for `stream`: a subscription, where one may come."""
    if operation.query is None or OperationType.SUBSCRIPTION not in operation.allowed_operations:
        return False
    try:
        definition = select_operation(schema.read(operation.query), operation._provided_operation_name)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public name is the guess
    except GraphQLError:
        return False
    return definition.operation.value == OperationType.SUBSCRIPTION.value


async def stream(schema: Schema, operation: ExecutionContext, runner: Any, middleware: Any) -> AsyncGenerator[ExecutionResult, None]:
    """The answers of a subscription, for as long as its viewer is signed in. What goes wrong is the last of them."""
    stack: ExitStack | None = None
    try:
        async with runner.operation():
            preparation_error = await schema._prepare_operation_async(operation, runner)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - parses and validates, as for every operation
            if preparation_error is not None:
                yield await _finalize_result(schema, operation, runner, preparation_error)
                return
            _drop_undeclared_variables(operation)
            context: Context = operation.context
            if context.viewer is not None and context.session is None:  # a socket has one, for all of its operations
                stack = ExitStack()
                context.session = stack.enter_context(context.feed.sessions.acquire(context.viewer))
            async with runner.executing():
                executor, source = await _open_source(schema, operation, middleware)
            if executor is None or isinstance(source, CoreResult):
                errors = source.errors if isinstance(source, CoreResult) else None
                yield await _finalize_result(schema, operation, runner, PreExecutionError(data=None, errors=errors))
                return
            context.progress.mark_started()
            subscription = _ActiveSubscription(schema, operation, runner, middleware, executor)
            del executor  # it is only kept where events need one
            try:
                async with aclosing(cast("AsyncGenerator[Any, None]", source)):
                    async for event in source:
                        pending_result = subscription.result_for(event)
                        del event  # it would be kept until the next
                        yield await pending_result
            except Exception as error:  # noqa: BLE001 - whatever a source raises is told, masked where it was not meant for clients
                yield await _finalize_result(schema, operation, runner, _error_result(error))
    except Exception as error:  # noqa: BLE001 - the same, of what surrounds the operation
        yield await _finalize_result(schema, operation, runner, _error_result(error))
    finally:
        if stack is not None:
            stack.close()


def _drop_undeclared_variables(operation: ExecutionContext) -> None:
    """Forget the variables that the operation does not know, in place: whoever brought them holds them for as long as the stream lasts."""
    document, variables = operation.graphql_document, operation.variables
    if document is None or not variables:
        return
    definitions = select_operation(document, operation._provided_operation_name).variable_definitions or ()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public name is the guess
    for name in variables.keys() - {definition.variable.name.value for definition in definitions}:
        del variables[name]


def _delivery_plan(schema: Schema, document: DocumentNode, text: str, executor: Any, variables: dict[str, Any] | None) -> DeliveryPlan:
    """The same object for all who ask the same: there may be thousands."""
    core_schema = schema._schema  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - Strawberry has no public way to it
    result_sharing = plan_sharing(core_schema, document, text, executor.operation, variables)
    if result_sharing is None:
        return DeliveryPlan()
    plan = schema.delivery_plans.get(text, result_sharing)
    if plan is None:
        plan = DeliveryPlan(result_sharing, None if result_sharing.per_viewer else build_leaf_serializer(core_schema, executor))
        schema.delivery_plans.put(text, plan, result_sharing, characters=result_sharing.length)
    return plan


def _error_result(error: Exception) -> CoreResult:
    return CoreResult(None, [error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)])


def _build_executor(schema: Schema, operation: ExecutionContext, middleware: Any) -> Any:
    """A list of errors where the variables are wrong."""
    assert operation.graphql_document is not None
    return cast("Any", schema).execution_context_class.build(
        schema._schema,  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - Strawberry has no public way to it
        operation.graphql_document,
        operation.root_value,
        operation.context,
        operation.variables,
        operation.operation_name,
        middleware=middleware,
    )


async def _open_source(schema: Schema, operation: ExecutionContext, middleware: Any) -> tuple[Any, AsyncIterable[Any] | CoreResult]:
    executor = _build_executor(schema, operation, middleware)
    if isinstance(executor, list):
        return None, CoreResult(None, errors=cast("list[GraphQLError]", executor))
    source: Any = create_source_event_stream(executor)
    try:
        async with asyncio.timeout(operation.context.execution_timeout):
            return executor, await source if isawaitable(source) else source
    except TimeoutError:  # what a source raises became an error of its field, so this is our own deadline
        return executor, timeout_result(operation.context)


async def _finalize_result(schema: Schema, operation: ExecutionContext, runner: Any, result: Any) -> ExecutionResult:
    """An answer as Strawberry would have it: errors with their codes, extensions asked for what they add."""
    final_result = await schema._handle_execution_result(operation, result, runner)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its one place for this
    async with runner.on_stream_result(final_result):
        return final_result


class _ActiveSubscription:
    """One subscription under way. `executor` is kept only where each event needs one."""

    def __init__(self, schema: Schema, operation: ExecutionContext, runner: Any, middleware: Any, executor: Any) -> None:
        self._schema = schema
        self._operation = operation
        self._runner = runner
        self._middleware = middleware
        self._context: Context = operation.context
        self._plan = DeliveryPlan()
        document = operation.graphql_document
        if document is not None and operation.query is not None:
            self._plan = _delivery_plan(schema, document, operation.query, executor, operation.variables)
        self._executor: Any = executor if self._plan.serializer is None else None

    async def result_for(self, event: Any) -> ExecutionResult:
        """What is said of an event: what was said of it before, where the same was asked; else worked out."""
        context = self._context
        if context.session is not None:
            context.viewer = context.session.viewer
        if not isinstance(event, StreamEvent):
            return await self._execute(event)
        context.progress.last_cursor = event.cursor
        sharing, serializer = self._plan.sharing, self._plan.serializer
        if sharing is None:
            return await self._execute(event.source)
        if serializer is not None:
            cached: Any = event.results.get(sharing.key)
            if cached is None:
                cached = event.results[sharing.key] = _serialize(serializer, event.source)
            if cached is not NOT_SERIALIZABLE:
                if self._context.observation is not None:
                    self._context.observation.events += 1
                return cached
            return await self._execute(event.source)
        return await self._get_shared(event, sharing)

    async def _get_shared(self, event: StreamEvent, sharing: Sharing) -> ExecutionResult:
        key = (sharing.key, self._context.viewer) if sharing.per_viewer else sharing.key
        while True:
            cached: SharedResult | asyncio.Future[SharedResult | None] | None = event.results.get(key)
            if cached is None:
                return await self._execute_as_leader(event, key, sharing)
            if isinstance(cached, asyncio.Future):
                await asyncio.wait((cached,))
                if cached.cancelled():
                    continue  # whoever was waited for has left, and somebody else begins
                cached = cached.result()
            if cached is None:
                # There is nothing to share. Were they to wait for each other again, the last of many would wait for all of them.
                return await self._execute(event.source)
            if self._context.observation is not None:
                self._context.observation.events += 1
            return cached

    async def _execute_as_leader(self, event: StreamEvent, key: Hashable, sharing: Sharing) -> ExecutionResult:
        """Worked out here, while all who want the same wait for it."""
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
            # Kept is only what can never be said differently. What depends on rows is shared by those who ask while it is read.
            del event.results[key]
            if shared_result is not None and not sharing.per_viewer:
                event.results[key] = shared_result
            if not future.done():
                future.set_result(shared_result)
        return shared_result or result

    async def _execute(self, source: Any) -> ExecutionResult:
        if self._executor is None:
            self._executor = _build_executor(self._schema, self._operation, self._middleware)
        self._context.reset_loaders()
        result = self._executor.build_per_event_executor(source).execute_operation(serially=False)
        core_result = await result if isawaitable(result) else result
        return await _finalize_result(self._schema, self._operation, self._runner, core_result)


def _serialize(serializer: LeafSerializer, source: Any) -> SharedResult | object:
    """What the writer says; UNWRITTEN where graphql-core is to."""
    try:
        data = serializer.serialize(source)
        return SharedResult(data, None, None, orjson.dumps({"data": data}).decode())
    except (NotSerializable, TypeError):
        return NOT_SERIALIZABLE


def _to_shared_result(result: ExecutionResult) -> SharedResult | None:
    """The answer with its text; None for one with errors, which name a request and so are each subscriber's own."""
    if result.errors or result.extensions:
        return None
    try:
        return SharedResult(result.data, None, None, orjson.dumps({"data": result.data}).decode())
    except TypeError:
        return None
