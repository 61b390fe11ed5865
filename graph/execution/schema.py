"""Strawberry's schema, with our limits for the parser, a cache of parsed documents, our subscriptions, and errors with codes."""

from collections.abc import AsyncGenerator
from typing import Any

import strawberry
from graphql import DocumentNode, GraphQLError, GraphQLObjectType, Undefined, parse
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.execution import PreExecutionError

from graph.execution.context import OperationContext
from graph.execution.document_cache import DocumentCache
from graph.execution.errors import to_client_errors
from graph.execution.limits.admission import DocumentValidator
from graph.execution.operation_runner import OperationRunner
from graph.execution.phases import PhaseRunner
from graph.execution.subscriptions import SubscriptionRunner
from graph.execution.timeout import TimedExecutionContext
from graph.settings import graph_settings


class Schema(strawberry.Schema):
    """Executes operations in the `OperationContext` that each is given."""

    def __init__(self, **options: Any) -> None:
        super().__init__(execution_context_class=TimedExecutionContext, **options)  # pyright: ignore[reportUnknownMemberType] - generics that Strawberry leaves open
        self._without_null_defaults()
        self._parsed_documents: DocumentCache[DocumentNode] = DocumentCache()
        self._last_read: tuple[str, DocumentNode | GraphQLError] = "", DocumentNode(definitions=())
        self.document_validator = DocumentValidator(self._schema)
        self._subscriptions = SubscriptionRunner(self, self.read)
        self._operations = OperationRunner(self._schema, self.document_validator, self.read, self.process_context_errors)

    def as_str(self) -> str:
        """Return the SDL; what GraphQL itself defines has a description there too, since linters of the SDL require one."""
        directive_definition = "directive @oneOf on INPUT_OBJECT"
        return (
            super()
            .as_str()
            .replace(
                directive_definition, f'"""Exactly one field of such an input is given, and it is not null."""\n{directive_definition}', 1
            )
        )

    def read(self, text: str) -> DocumentNode:
        """Return the document, parsed or from the cache. Raises a GraphQLError for a text that cannot be parsed or is too long."""
        # One operation is read at several places in a row, whether it is worth caching or not.
        last_text, document_or_error = self._last_read
        if last_text is not text:
            document_or_error = self._parsed_documents.get(text) or self._parse(text)
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
        self._parsed_documents.put(text, document)
        return document

    def create_extensions_runner(self, execution_context: ExecutionContext, extensions: list[Any]) -> PhaseRunner:
        return PhaseRunner(execution_context, extensions)

    async def _prepare_operation_async(self, context: ExecutionContext, extensions_runner: Any) -> PreExecutionError | None:
        """Read the document first, under our limits, so that Strawberry has nothing left to parse."""
        if context.query and context.graphql_document is None:
            try:
                context.graphql_document = self.read(context.query)
            except GraphQLError as error:
                context.pre_execution_errors = [error]
                return PreExecutionError(data=None, errors=[error])
        return await super()._prepare_operation_async(context, extensions_runner)

    async def execute(  # pyright: ignore[reportIncompatibleMethodOverride] - what we do not use is left out
        self,
        query: str,
        variable_values: dict[str, Any] | None = None,
        context_value: Any = None,
        *,
        operation_name: str | None = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> ExecutionResult:
        """Return the result of a query or a mutation. Raises `InvalidOperationTypeError` for a subscription."""
        return await self._operations.run(query, variable_values, context_value, operation_name, operation_extensions)

    def knows_query(self, text: str, operation_name: str | None, *, introspection: bool) -> bool:
        """Whether the operation was executed before, so that its document is valid and paid for, and is a query."""
        return self._operations.knows_query(text, operation_name, introspection=introspection)

    def _stream(
        self, execution_context: ExecutionContext, extensions_runner: Any, middleware_manager: Any, *args: Any, **options: Any
    ) -> AsyncGenerator[Any, None]:  # pyright: ignore[reportIncompatibleMethodOverride] - the rest is passed on
        """Run subscriptions by our own runner and everything else as Strawberry does."""
        if self._subscriptions.runs(execution_context):
            return self._subscriptions.stream(execution_context, extensions_runner, middleware_manager)
        return super()._stream(execution_context, extensions_runner, middleware_manager, *args, **options)  # pyright: ignore[reportUnknownMemberType] - generics that Strawberry leaves open

    def _without_null_defaults(self) -> None:
        """Remove the default of arguments that are None in Python when left out: `= null` in the schema would promise what nobody needs."""
        for type_ in self._schema.type_map.values():
            if isinstance(type_, GraphQLObjectType):
                for argument in (argument for field in type_.fields.values() for argument in field.args.values()):
                    if argument.default_value is None:
                        argument.default_value = Undefined

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Replace the errors of a result, wherever they arose, by what clients may see. Strawberry sends the same list."""
        context = None if execution_context is None else execution_context.context
        self.process_context_errors(errors, context if isinstance(context, OperationContext) else None)

    def process_context_errors(self, errors: list[GraphQLError], context: OperationContext | None) -> None:
        """`process_errors` for the errors of an operation."""
        phase, request_id = ("parse", "") if context is None else (context.phase, context.request_id)
        errors[:] = to_client_errors(errors, phase=phase, request_id=request_id)
        if context is not None and context.observation is not None:
            context.observation.error_codes += [str((error.extensions or {}).get("code")) for error in errors]
