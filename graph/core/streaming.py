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

from db.stores.tails import Told
from graph.core.context import Context
from graph.core.operations import chosen
from graph.core.patience import given_up
from graph.core.sharing import Sharing, sharing
from graph.core.writers import Unwritten, Writer, writer

if TYPE_CHECKING:
    from graph.core.extensions import Schema


UNWRITTEN = object()


@dataclass(frozen=True, slots=True)
class Manner:
    """How the events of a subscription are answered: shared or not, and by a writer or by an executor."""

    sharing: Sharing | None = None
    writer: Writer | None = None


@dataclass
class Answer(ExecutionResult):
    """An answer without errors that is shared by equal selections; `text` is what a transport sends as its payload."""

    text: str = ""


def is_stream(schema: Schema, operation: ExecutionContext) -> bool:
    """Whether this is for `stream`: a subscription, where one may come."""
    if operation.query is None or OperationType.SUBSCRIPTION not in operation.allowed_operations:
        return False
    try:
        meant = chosen(schema.read(operation.query), operation._provided_operation_name)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public name is the guess
    except GraphQLError:
        return False
    return meant.operation.value == OperationType.SUBSCRIPTION.value


async def stream(schema: Schema, operation: ExecutionContext, runner: Any, middleware: Any) -> AsyncGenerator[ExecutionResult, None]:
    """The answers of a subscription, for as long as its viewer is signed in. What goes wrong is the last of them."""
    held: ExitStack | None = None
    try:
        async with runner.operation():
            refused = await schema._prepare_operation_async(operation, runner)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - parses and validates, as for every operation
            if refused is not None:
                yield await _finished(schema, operation, runner, refused)
                return
            _keep_declared(operation)
            context: Context = operation.context
            if context.viewer is not None and context.session is None:  # a socket has one, for all of its operations
                held = ExitStack()
                context.session = held.enter_context(context.feed.sessions.attend(context.viewer))
            async with runner.executing():
                executor, source = await _begin(schema, operation, middleware)
            if executor is None or isinstance(source, CoreResult):
                errors = source.errors if isinstance(source, CoreResult) else None
                yield await _finished(schema, operation, runner, PreExecutionError(data=None, errors=errors))
                return
            context.progress.begin()
            run = _Run(schema, operation, runner, middleware, executor)
            del executor  # it is only kept where events need one
            try:
                async with aclosing(cast("AsyncGenerator[Any, None]", source)):
                    async for event in source:
                        answer = run.answer(event)
                        del event  # it would be kept until the next
                        yield await answer
            except Exception as error:  # noqa: BLE001 - whatever a source raises is told, masked where it was not meant for clients
                yield await _finished(schema, operation, runner, _failure(error))
    except Exception as error:  # noqa: BLE001 - the same, of what surrounds the operation
        yield await _finished(schema, operation, runner, _failure(error))
    finally:
        if held is not None:
            held.close()


def _keep_declared(operation: ExecutionContext) -> None:
    """Forget the variables that the operation does not know, in place: whoever brought them holds them for as long as the stream lasts."""
    document, variables = operation.graphql_document, operation.variables
    if document is None or not variables:
        return
    definitions = chosen(document, operation._provided_operation_name).variable_definitions or ()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public name is the guess
    for name in variables.keys() - {definition.variable.name.value for definition in definitions}:
        del variables[name]


def _manner(schema: Schema, document: DocumentNode, text: str, executor: Any, variables: dict[str, Any] | None) -> Manner:
    """The same object for all who ask the same: there may be thousands."""
    core = schema._schema  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - Strawberry has no public way to it
    how = sharing(core, document, text, executor.operation, variables)
    if how is None:
        return Manner()
    known = schema.manners.get(text, how)
    if known is None:
        known = Manner(how, None if how.by_viewer else writer(core, executor))
        schema.manners.keep(text, known, how, characters=how.length)
    return known


def _failure(error: Exception) -> CoreResult:
    return CoreResult(None, [error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)])


def _executor(schema: Schema, operation: ExecutionContext, middleware: Any) -> Any:
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


async def _begin(schema: Schema, operation: ExecutionContext, middleware: Any) -> tuple[Any, AsyncIterable[Any] | CoreResult]:
    executor = _executor(schema, operation, middleware)
    if isinstance(executor, list):
        return None, CoreResult(None, errors=cast("list[GraphQLError]", executor))
    source: Any = create_source_event_stream(executor)
    try:
        async with asyncio.timeout(operation.context.patience):
            return executor, await source if isawaitable(source) else source
    except TimeoutError:  # what a source raises became an error of its field, so this is our own deadline
        return executor, given_up(operation.context)


async def _finished(schema: Schema, operation: ExecutionContext, runner: Any, result: Any) -> ExecutionResult:
    """An answer as Strawberry would have it: errors with their codes, extensions asked for what they add."""
    finished = await schema._handle_execution_result(operation, result, runner)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its one place for this
    async with runner.on_stream_result(finished):
        return finished


class _Run:
    """One subscription under way. `executor` is kept only where each event needs one."""

    def __init__(self, schema: Schema, operation: ExecutionContext, runner: Any, middleware: Any, executor: Any) -> None:
        self._schema = schema
        self._operation = operation
        self._runner = runner
        self._middleware = middleware
        self._context: Context = operation.context
        self._manner = Manner()
        document = operation.graphql_document
        if document is not None and operation.query is not None:
            self._manner = _manner(schema, document, operation.query, executor, operation.variables)
        self._executor: Any = executor if self._manner.writer is None else None

    async def answer(self, event: Any) -> ExecutionResult:
        """What is said of an event: what was said of it before, where the same was asked; else worked out."""
        context = self._context
        if context.session is not None:
            context.viewer = context.session.viewer
        if not isinstance(event, Told):
            return await self._own(event)
        context.progress.reached = event.cursor
        sharing, writer = self._manner.sharing, self._manner.writer
        if sharing is None:
            return await self._own(event.source)
        if writer is not None:
            known: Any = event.answers.get(sharing.key)
            if known is None:
                known = event.answers[sharing.key] = _of(writer, event.source)
            if known is not UNWRITTEN:
                if self._context.observation is not None:
                    self._context.observation.events += 1
                return known
            return await self._own(event.source)
        return await self._shared(event, sharing)

    async def _shared(self, told: Told, sharing: Sharing) -> ExecutionResult:
        key = (sharing.key, self._context.viewer) if sharing.by_viewer else sharing.key
        while True:
            known: Answer | asyncio.Future[Answer | None] | None = told.answers.get(key)
            if known is None:
                return await self._led(told, key, sharing)
            if isinstance(known, asyncio.Future):
                await asyncio.wait((known,))
                if known.cancelled():
                    continue  # whoever was waited for has left, and somebody else begins
                known = known.result()
            if known is None:
                # There is nothing to share. Were they to wait for each other again, the last of many would wait for all of them.
                return await self._own(told.source)
            if self._context.observation is not None:
                self._context.observation.events += 1
            return known

    async def _led(self, told: Told, key: Hashable, sharing: Sharing) -> ExecutionResult:
        """Worked out here, while all who want the same wait for it."""
        waiting: asyncio.Future[Answer | None]
        waiting = told.answers[key] = asyncio.get_running_loop().create_future()
        answer: Answer | None = None
        try:
            finished = await self._own(told.source)
            answer = _written(finished)
        except asyncio.CancelledError:
            waiting.cancel()
            raise
        finally:
            # Kept is only what can never be said differently. What depends on rows is shared by those who ask while it is read.
            del told.answers[key]
            if answer is not None and not sharing.by_viewer:
                told.answers[key] = answer
            if not waiting.done():
                waiting.set_result(answer)
        return answer or finished

    async def _own(self, source: Any) -> ExecutionResult:
        if self._executor is None:
            self._executor = _executor(self._schema, self._operation, self._middleware)
        self._context.refresh()
        result = self._executor.build_per_event_executor(source).execute_operation(serially=False)
        finished = await result if isawaitable(result) else result
        return await _finished(self._schema, self._operation, self._runner, finished)


def _of(writer: Writer, source: Any) -> Answer | object:
    """What the writer says; UNWRITTEN where graphql-core is to."""
    try:
        data = writer.write(source)
        return Answer(data, None, None, orjson.dumps({"data": data}).decode())
    except (Unwritten, TypeError):
        return UNWRITTEN


def _written(result: ExecutionResult) -> Answer | None:
    """The answer with its text; None for one with errors, which name a request and so are each subscriber's own."""
    if result.errors or result.extensions:
        return None
    try:
        return Answer(result.data, None, None, orjson.dumps({"data": result.data}).decode())
    except TypeError:
        return None
