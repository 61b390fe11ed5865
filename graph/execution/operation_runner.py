"""Runs queries and mutations: from the text of a document to the result.

What Strawberry and graphql-core do around an execution took several times as long as the plan of a small one. So whatever does not change
from one execution of an operation to the next is found out once, and the phases are steps of one function. Subscriptions, and the streams of a
websocket, are run by Strawberry's own runner with the extensions of `graph.execution.extensions`; the checks are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import isawaitable
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    default_field_resolver,  # pyright: ignore[reportUnknownVariableType] - generics that graphql-core leaves open
    default_type_resolver,  # pyright: ignore[reportUnknownVariableType] - the same
    specified_rules,
)
from graphql import ExecutionResult as CoreResult
from graphql.execution.collect_fields import FragmentDetails
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType as StrawberryOperationType

from graph.execution.document_cache import DocumentCache
from graph.execution.limits.admission import DocumentValidator, ValidationResult, cost_extension, may_be_dry_run
from graph.execution.observation import Observation, current_observation, document_hash
from graph.execution.operations import select_operation
from graph.execution.timeout import TimedExecutionContext
from graph.execution.variables import Variables
from graph.settings import GraphSettings, graph_settings

if TYPE_CHECKING:
    from graph.execution.context import OperationContext

_RESOLVERS: Any = (default_field_resolver, default_type_resolver, default_field_resolver)
_RULES = tuple(specified_rules)
_RULES_WITHOUT_INTROSPECTION = (*_RULES, NoSchemaIntrospectionCustomRule)


class _Operation:
    """An operation of a valid document."""

    __slots__ = (
        "_executor_arguments",
        "_schema",
        "document",
        "hash",
        "may_be_dry_run",
        "name",
        "node",
        "settings",
        "validation",
        "variables",
    )

    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        node: OperationDefinitionNode,
        text: str,
        name: str | None,
        settings: GraphSettings,
    ) -> None:
        self._schema = schema
        self.document = document
        self.node = node
        self.name = name
        self.settings = settings
        self.hash = document_hash(text)
        self.variables = Variables(schema, node)
        self.may_be_dry_run = node.operation is OperationType.QUERY and may_be_dry_run(document, node)
        fragments = {
            definition.name.value: definition for definition in document.definitions if isinstance(definition, FragmentDefinitionNode)
        }
        details = {name: FragmentDetails(fragment, None) for name, fragment in fragments.items()}
        has_fragment_variables = any(fragment.variable_definitions for fragment in fragments.values())
        self._executor_arguments = None if has_fragment_variables else (fragments, details)
        self.validation: ValidationResult

    def executor(self, context: OperationContext, document: DocumentNode, inputs: Mapping[str, Any] | None, extensions: Any) -> Any:
        """Return graphql-core's executor for an execution, or the errors about its variables."""
        hide_suggestions = not context.services.introspection
        if document is not self.document or self._executor_arguments is None:
            return TimedExecutionContext.build(
                self._schema,
                document,
                None,
                context,
                inputs,
                self.name,
                is_awaitable=optimized_is_awaitable,
                operation_extensions=extensions,
            )
        values = self.variables.coerce(inputs or {}, hide_suggestions=hide_suggestions)
        if isinstance(values, list):
            return values
        return TimedExecutionContext(
            self._schema,
            *self._executor_arguments,
            None,
            context,
            self.node,
            values,
            *_RESOLVERS,
            is_awaitable=optimized_is_awaitable,
            hide_suggestions=hide_suggestions,
            operation_extensions=extensions,
        )


class OperationRunner:
    """Runs the queries and mutations of one schema."""

    def __init__(
        self,
        core_schema: GraphQLSchema,
        validator: DocumentValidator,
        read: Callable[[str], DocumentNode],
        process_errors: Callable[[list[GraphQLError], OperationContext], None],
    ) -> None:
        self._core_schema = core_schema
        self._validator = validator
        self._read = read
        self._process_errors = process_errors
        self._operations: DocumentCache[_Operation] = DocumentCache()

    async def run(
        self, text: str, inputs: dict[str, Any] | None, context: OperationContext, name: str | None, extensions: dict[str, Any] | None
    ) -> ExecutionResult:
        """Return the result, with all errors as clients see them. `name` is that of the operation if the document has several.

        Raises `InvalidOperationTypeError` for a subscription: it would run as a query whose only field has no value.
        """
        observer = context.observer
        observation = context.observation = Observation.of(context.request_id, context.viewer, context.services.client)
        observation.request_bytes = context.request_bytes
        current_observation.set(observation)
        if observer is not None:
            observer.operation_received(observation)
        try:
            try:
                result = await self._run(text, inputs, context, observation, name, extensions)
            except InvalidOperationTypeError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever surrounds the execution raises becomes its result, masked where it is no client's
                result = PreExecutionError(
                    None, [error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)]
                )
            if result.errors:
                self._process_errors(result.errors, context)
        finally:
            if not observation.hash:
                self._identify(observation, text, name)
            observation.seconds = perf_counter() - observation.started_at
            if context.rate_limit_status is not None:
                observation.cost = context.rate_limit_status.cost
            if observer is not None:
                observer.operation_ended(observation)
        if observation.trace is not None:
            result.extensions = {"plan": observation.trace.report()}
        if context.services.shows_cost and context.rate_limit_status is not None:
            result.extensions = {**(result.extensions or {}), "cost": cost_extension(context.rate_limit_status, context)}
        return result

    async def _run(
        self,
        text: str,
        inputs: dict[str, Any] | None,
        context: OperationContext,
        observation: Observation,
        name: str | None,
        extensions: dict[str, Any] | None,
    ) -> ExecutionResult:
        phases = observation.phases
        document = self._read(text)
        began_at = perf_counter()
        phases["parse"] = began_at - observation.started_at
        context.phase = "validate"
        try:
            operation = self._operation(text, document, name, context)
            if isinstance(operation, ValidationResult):
                return PreExecutionError(None, list(operation.errors))
            dry_run = await self._validator.admit(
                context,
                text,
                document,
                operation.node,
                inputs,
                operation.validation,
                operation.settings,
                may_hold_lists=operation.variables.may_hold_lists,
                may_be_dry_run=operation.may_be_dry_run,
            )
        except GraphQLError as error:
            return PreExecutionError(None, [error])
        finally:
            validated_at = perf_counter()
            phases["validate"] = validated_at - began_at
        context.phase = "execute"
        observation.hash, observation.name, observation.type = operation.hash, operation.name, operation.node.operation.value
        if context.observer is not None:
            context.observer.execution_started(observation)
        try:
            executor = operation.executor(context, dry_run or operation.document, inputs, extensions)
            if isinstance(executor, list):
                return ExecutionResult(None, cast("list[GraphQLError]", executor))
            result: CoreResult | Any = executor.execute_operation()
            if isawaitable(result):
                result = await result
            return ExecutionResult(result.data, result.errors)
        finally:
            phases["execute"] = perf_counter() - validated_at

    def knows_query(self, text: str, name: str | None, *, introspection: bool) -> bool:
        """Whether the operation was executed before, and is a query."""
        known = self._operations.get(text, (name, introspection))
        return known is not None and known.node.operation is OperationType.QUERY

    def _operation(self, text: str, document: DocumentNode, name: str | None, context: OperationContext) -> _Operation | ValidationResult:
        """Return the operation that is meant, or the errors of its document. Raises a GraphQLError if the document has no such operation."""
        services = context.services
        settings = graph_settings() if services.gate is None else services.gate.settings
        known = self._operations.get(text, (name, services.introspection))
        if known is not None and known.settings is settings and known.document is document:
            return known
        node = select_operation(document, name)
        if node.operation is OperationType.SUBSCRIPTION:
            raise InvalidOperationTypeError(StrawberryOperationType.SUBSCRIPTION)
        rules = _RULES if services.introspection else _RULES_WITHOUT_INTROSPECTION
        validation = self._validator.validate_document(text, document, rules, settings, hide_suggestions=not services.introspection)
        if validation.errors:
            return validation
        its_name = name if name is not None or node.name is None else node.name.value
        operation = _Operation(self._core_schema, document, node, text, its_name, settings)
        operation.validation = validation
        self._operations.put(text, operation, (name, services.introspection))
        return operation

    def _identify(self, observation: Observation, text: str, name: str | None) -> None:
        """Record what is known of an operation that was not executed."""
        try:
            document: DocumentNode | None = self._read(text)
        except (GraphQLError, RecursionError):
            document = None
        observation.identify(text, document, name)
