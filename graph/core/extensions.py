"""What surrounds every operation: limits of the parser, documents seen before, loaders of its own, and errors with codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import strawberry
from graphql import DocumentNode, GraphQLError, GraphQLObjectType, NoSchemaIntrospectionCustomRule, Undefined
from strawberry.extensions import SchemaExtension
from strawberry.types import ExecutionContext, StreamExecutionResult
from strawberry.types.graphql import OperationType

from graph.core.context import Context
from graph.core.documents import Documents
from graph.core.failures import coded

MAX_TOKENS = 5_000


class Schema(strawberry.Schema):
    """Strawberry's schema, with errors as clients may see them and a memory for documents."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType] - generics that Strawberry leaves open
        self._without_null_defaults()
        self.parsed: Documents[DocumentNode] = Documents()
        self.validated: Documents[tuple[GraphQLError, ...]] = Documents()

    async def execute(
        self, query: str | None, *args: Any, allowed_operation_types: Iterable[OperationType] | None = None, **options: Any
    ) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - the rest is handed on
        """One answer, so a subscription is refused here: it would run as a query whose only field has no value."""
        allowed = set(allowed_operation_types or OperationType) - {OperationType.SUBSCRIPTION}
        return await super().execute(query, *args, allowed_operation_types=allowed, **options)

    def _without_null_defaults(self) -> None:
        """An argument that is None in Python when left out has no default in the schema: `= null` would promise what nobody needs."""
        for type_ in self._schema.type_map.values():
            if isinstance(type_, GraphQLObjectType):
                for argument in (argument for field in type_.fields.values() for argument in field.args.values()):
                    if argument.default_value is None:
                        argument.default_value = Undefined

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Called once for the errors of each result, wherever they arose; the list is the one that is answered."""
        context = None if execution_context is None else execution_context.context
        phase = context.phase if isinstance(context, Context) else "parse"
        request_id = context.request_id if isinstance(context, Context) else ""
        errors[:] = coded(errors, phase=phase, request_id=request_id)


class Operation(SchemaExtension):
    """Gives an operation its context, follows its phases, and forgets what was loaded after each event of a subscription."""

    @property
    def context(self) -> Context:
        return self.execution_context.context

    @property
    def schema(self) -> Schema:
        return cast("Schema", self.execution_context.schema)

    def on_operation(self) -> Iterator[None]:
        self.execution_context.context = self.context.for_operation()
        self.execution_context.parse_options["max_tokens"] = MAX_TOKENS
        if not self.context.introspection:
            self.execution_context.validation_rules += (NoSchemaIntrospectionCustomRule,)
        yield

    def on_parse(self) -> Iterator[None]:
        operation = self.execution_context
        operation.graphql_document = operation.graphql_document or self.schema.parsed.get(operation.query)
        yield
        if operation.graphql_document is not None:
            self.schema.parsed.keep(operation.query, operation.graphql_document)

    def on_validate(self) -> Iterator[None]:
        self.context.phase = "validate"
        operation = self.execution_context
        found = self.schema.validated.get(operation.query, operation.validation_rules)
        if found is not None:
            operation.pre_execution_errors = list(found)
        yield
        self.schema.validated.keep(operation.query, tuple(operation.pre_execution_errors or ()), operation.validation_rules)

    def on_execute(self) -> Iterator[None]:
        self.context.phase = "execute"
        yield

    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:  # noqa: ARG002 - the signature is Strawberry's
        # The next event is executed only after this one was taken, so it finds nothing of the present one.
        self.context.refresh()
        yield
