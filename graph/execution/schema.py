"""What surrounds every operation: limits of the parser, documents seen before, loaders of its own, and errors with codes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Any, cast

import strawberry
from graphql import DocumentNode, GraphQLError, GraphQLObjectType, NoSchemaIntrospectionCustomRule, Undefined, parse
from strawberry.extensions import SchemaExtension
from strawberry.types import ExecutionContext, StreamExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from graph.core.context import Context
from graph.execution.document_cache import DocumentCache
from graph.execution.errors import to_client_errors
from graph.execution.limits.admission import DocumentValidator
from graph.execution.operations import select_operation
from graph.execution.streaming import DeliveryPlan, is_subscription, stream
from graph.execution.timeout import TimedExecutionContext
from graph.settings import graph_settings


class Schema(strawberry.Schema):
    """Strawberry's schema, with errors as clients may see them and a memory for documents."""

    def __init__(self, **options: Any) -> None:
        super().__init__(execution_context_class=TimedExecutionContext, **options)  # pyright: ignore[reportUnknownMemberType] - generics that Strawberry leaves open
        self._without_null_defaults()
        self.parsed_documents: DocumentCache[DocumentNode] = DocumentCache()
        self._last_read: tuple[str, DocumentNode | GraphQLError] = "", DocumentNode(definitions=())
        self.document_validator = DocumentValidator(self._schema)
        self.delivery_plans: DocumentCache[DeliveryPlan] = DocumentCache()

    def as_str(self) -> str:
        """The SDL; what GraphQL itself defines has a description there too, since linters of the SDL ask for one."""
        directive_definition = "directive @oneOf on INPUT_OBJECT"
        return (
            super()
            .as_str()
            .replace(
                directive_definition, f'"""Exactly one field of such an input is given, and it is not null."""\n{directive_definition}', 1
            )
        )

    def read(self, text: str) -> DocumentNode:
        """The document, from memory where it was read before. Raises the GraphQLError of a text that is none, or too long."""
        # One operation is read at several places in a row, whether it is worth keeping or not.
        last_text, document_or_error = self._last_read
        if last_text is not text:
            document_or_error = self.parsed_documents.get(text) or self._parse(text)
            self._last_read = text, document_or_error
        if isinstance(document_or_error, GraphQLError):
            raise document_or_error.with_traceback(None)
        return document_or_error

    def _parse(self, text: str) -> DocumentNode | GraphQLError:
        limits = graph_settings()
        if len(text) > limits.query_max_bytes or len(text.encode("utf-8", "surrogatepass")) > limits.query_max_bytes:
            return GraphQLError(
                f"The document is longer than {limits.query_max_bytes:,} bytes. Move values into variables, and split what is left.",
                extensions={"code": "PAYLOAD_TOO_LARGE"},
            )
        try:
            document = parse(text, max_tokens=limits.query_max_tokens)
        except GraphQLError as error:
            return error
        self.parsed_documents.put(text, document)
        return document

    async def _prepare_operation_async(self, context: ExecutionContext, extensions_runner: Any) -> PreExecutionError | None:
        """Reads the document first, by our limits, so that Strawberry has nothing left to parse."""
        if context.query and context.graphql_document is None:
            try:
                context.graphql_document = self.read(context.query)
            except GraphQLError as error:
                context.pre_execution_errors = [error]
                return PreExecutionError(data=None, errors=[error])
        return await super()._prepare_operation_async(context, extensions_runner)

    async def execute(
        self, query: str | None, *args: Any, allowed_operation_types: Iterable[OperationType] | None = None, **options: Any
    ) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - the rest is handed on
        """One answer, so a subscription is refused here: it would run as a query whose only field has no value."""
        allowed = set(allowed_operation_types or OperationType) - {OperationType.SUBSCRIPTION}
        return await super().execute(query, *args, allowed_operation_types=allowed, **options)

    def _stream(
        self, execution_context: ExecutionContext, extensions_runner: Any, middleware_manager: Any, *args: Any, **options: Any
    ) -> AsyncGenerator[Any, None]:  # pyright: ignore[reportIncompatibleMethodOverride] - the rest is handed on
        """Strawberry's, but that subscriptions run as `streaming` says."""
        if is_subscription(self, execution_context):
            return stream(self, execution_context, extensions_runner, middleware_manager)
        return super()._stream(execution_context, extensions_runner, middleware_manager, *args, **options)  # pyright: ignore[reportUnknownMemberType] - generics that Strawberry leaves open

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
        errors[:] = to_client_errors(errors, phase=phase, request_id=request_id)
        if isinstance(context, Context) and context.observation is not None:
            context.observation.error_codes += [str((error.extensions or {}).get("code")) for error in errors]


class OperationExtension(SchemaExtension):
    """Gives an operation its context, follows its phases, and forgets what was loaded after each event of a subscription."""

    @property
    def context(self) -> Context:
        return self.execution_context.context

    @property
    def schema(self) -> Schema:
        return cast("Schema", self.execution_context.schema)

    def on_operation(self) -> Iterator[None]:
        self.execution_context.context = self.context.for_operation()
        if not self.context.introspection:
            self.execution_context.validation_rules += (NoSchemaIntrospectionCustomRule,)
        yield

    def on_parse(self) -> Iterator[None]:
        operation = self.execution_context
        operation.graphql_document = operation.graphql_document or self.schema.parsed_documents.get(operation.query)
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
        # The next event is executed only after this one was taken, so it finds nothing of the present one.
        self.context.reset_loaders()
        yield
