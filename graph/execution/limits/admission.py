"""Admission of an operation: the shape of its document, the rules of GraphQL, its cost and its viewer's points, checked in this order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from graphql import (
    BooleanValueNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    validate,
)
from graphql.validation.rules import overlapping_fields_can_be_merged as overlapping
from strawberry.extensions import SchemaExtension
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from graph.core.rate_limit import RateLimitStatus, unlimited_status
from graph.execution.document_cache import DocumentCache
from graph.execution.limits.cost_estimator import CostEstimator, introspection_limit
from graph.execution.limits.cost_model import CostModel
from graph.execution.limits.list_lengths import ListLengthRule, list_length_error
from graph.execution.limits.shape import shape_errors
from graph.execution.operations import select_operation
from graph.settings import GraphSettings, graph_settings

if TYPE_CHECKING:
    from graph.execution.context import OperationContext

MAX_KNOWN_COSTS = 64  # of one operation
_MISSING = object()
MAX_ERRORS = 10  # of one document: each is formatted with suggestions and excerpts
_CONDITIONAL_DIRECTIVES = frozenset({"skip", "include"})
MAX_MESSAGE_CHARACTERS = 1_000  # some messages quote the document

# Comparing fields that may overlap grows with the square of their number. The default lets a document of 15 kB take 0.7 s; the largest
# in our clients needs less than a thirtieth of this.
overlapping.MAX_COMPLEXITY_BUDGET = 5_000


@dataclass(slots=True)
class KnownCosts:
    """The costs of one operation by the values of the variables that mattered, as far as costs depend on them."""

    variables: tuple[str, ...] = ()
    costs: dict[tuple[Any, ...], int] = field(default_factory=dict[tuple[Any, ...], int])

    def get(self, variables: Mapping[str, Any]) -> int | None:
        """The cost, if one with equal values was put."""
        return self.costs.get(self._values(variables))

    def put(self, variables: Mapping[str, Any], used: set[str], cost: int) -> None:
        """Keep a cost. Which variables matter can depend on the values of others; costs that were kept without one of them are forgotten."""
        if not used <= set(self.variables) or len(self.costs) >= MAX_KNOWN_COSTS:
            self.variables = tuple(sorted(used.union(self.variables)))
            self.costs.clear()
        self.costs[self._values(variables)] = cost

    def _values(self, variables: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple([_as_costs_see_it(variables[name]) if name in variables else _MISSING for name in self.variables])


def _as_costs_see_it(value: Any) -> Any:
    """A number, a boolean or null with its type, the length of a list; all other values are alike."""
    if isinstance(value, list | tuple):
        return list, len(cast("Sequence[Any]", value))
    return type(value), value if isinstance(value, int | float) else None


@dataclass(slots=True)
class ValidationResult:
    """The cached result of validating a document: its errors, or the costs of its operations."""

    errors: tuple[GraphQLError, ...]
    costs: dict[str | None, KnownCosts] = field(default_factory=dict[str | None, KnownCosts])


class DocumentValidator:
    """Validates documents against one schema."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self.cost_model = CostModel(schema)
        self._introspection_limit = introspection_limit(self.cost_model)
        self._valid: DocumentCache[ValidationResult] = DocumentCache()
        self._invalid: DocumentCache[ValidationResult] = DocumentCache()  # a cache of their own, so that they evict no valid document
        self._seen: DocumentCache[bool] = DocumentCache()

    def has_seen(self, text: str) -> bool:
        """Whether the document was validated before, successfully or not. Validation is charged only once."""
        return self._seen.get(text) is not None

    def validate_document(
        self, text: str | None, document: DocumentNode, rules: tuple[Any, ...], settings: GraphSettings, *, hide_suggestions: bool
    ) -> ValidationResult:
        """Validate the document: first its shape, then GraphQL's rules and the lengths of its lists."""
        cached = self._valid.get(text, (rules, settings)) or self._invalid.get(text, (rules, settings, hide_suggestions))
        if cached is not None:
            return cached
        errors = shape_errors(document, settings)
        if not errors:
            all_rules = (*rules, MaybeNullValidationRule, OneOfInputValidationRule, ListLengthRule)
            errors = validate(self._schema, document, all_rules, max_errors=MAX_ERRORS, hide_suggestions=hide_suggestions)
        validation_result = ValidationResult(tuple(_readable_error(error) for error in errors))
        if validation_result.errors:
            self._invalid.put(text, validation_result, (rules, settings, hide_suggestions))
        else:
            self._valid.put(text, validation_result, (rules, settings))
        self._seen.put(text, value=True)
        return validation_result

    def cost(
        self,
        validation_result: ValidationResult,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        variables: dict[str, Any] | None,
        settings: GraphSettings,
        *,
        is_dry_run: bool = False,
    ) -> int:
        """Return the cost of an operation of a valid document. Raises a GraphQLError past the limits; a dry run may cost any amount."""
        limit = None if is_dry_run else settings.query_max_cost
        name = None if operation.name is None else operation.name.value
        known_costs = validation_result.costs.setdefault(name, KnownCosts())
        cached_cost = known_costs.get(variables or {})
        if cached_cost is not None and (limit is None or cached_cost <= limit):
            return cached_cost
        estimator = CostEstimator(self.cost_model, document, operation, variables)
        if estimator.aliases > settings.query_max_aliases:
            raise GraphQLError(
                f"The operation has {estimator.aliases:,} aliases, with fragments expanded; at most {settings.query_max_aliases:,} are allowed."
                " Select lists, or `nodes` with several ids, instead.",
                operation,
                extensions={"code": "GRAPHQL_VALIDATION_FAILED"},
            )
        if estimator.introspection_size > self._introspection_limit:
            raise GraphQLError(
                "The operation introspects more than twice as much as the standard introspection query, or has more than four introspection fields."
                " Select fewer levels or aliases at and below `__schema` and `__type`.",
                operation,
                extensions={"code": "COST_LIMIT_EXCEEDED"},
            )
        if limit is not None and estimator.cost > limit:
            raise _cost_limit_error(estimator, operation, limit)
        known_costs.put(variables or {}, estimator.used_variables, estimator.cost)
        return estimator.cost

    async def admit(
        self,
        context: OperationContext,
        text: str | None,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        variables: dict[str, Any] | None,
        validation_result: ValidationResult,
        settings: GraphSettings,
        *,
        may_hold_lists: bool = True,
        may_be_dry_run: bool = True,
    ) -> DocumentNode | None:
        """Check the lists and the cost of an operation of a valid document, and take its points. Return what is executed in its place if it is a dry run.

        The flags are False where the operation cannot be so, whatever its variables are. Raises a GraphQLError.
        """
        length_error = list_length_error(self._schema, operation, variables) if may_hold_lists else None
        if length_error is not None:
            raise length_error
        dry_run = _dry_run_of(document, operation, variables) if may_be_dry_run else None
        cost = self.cost(validation_result, document, operation, variables, settings, is_dry_run=dry_run is not None)
        await _charge(context, text, cost, is_dry_run=dry_run is not None)
        return dry_run


class AdmissionExtension(SchemaExtension):
    """Admits an operation after validation, and reports its cost in `extensions`. Runs after OperationExtension."""

    async def on_validate(self) -> AsyncIterator[None]:
        operation = self.execution_context
        if not operation.pre_execution_errors:
            try:
                operation.pre_execution_errors = list(await self._admit())
            except GraphQLError as error:
                operation.pre_execution_errors = [error]
        yield

    async def _admit(self) -> Iterable[GraphQLError]:
        execution = self.execution_context
        context: OperationContext = execution.context
        document = execution.graphql_document
        assert document is not None
        validator: DocumentValidator = cast("Any", execution.schema).document_validator
        settings = graph_settings() if context.services.gate is None else context.services.gate.settings
        validation_result = validator.validate_document(
            execution.query, document, execution.validation_rules, settings, hide_suggestions=not context.services.introspection
        )
        if validation_result.errors:
            return validation_result.errors
        operation = select_operation(document, execution._provided_operation_name)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public name is a guess
        dry_run = await validator.admit(context, execution.query, document, operation, execution.variables, validation_result, settings)
        if dry_run is not None:
            execution.graphql_document = dry_run
        return ()

    def get_results(self) -> dict[str, Any]:
        context: OperationContext = self.execution_context.context
        return (
            {"cost": cost_extension(context.rate_limit_status, context)}
            if context.services.shows_cost and context.rate_limit_status is not None
            else {}
        )


async def _charge(context: OperationContext, text: str | None, cost: int, *, is_dry_run: bool) -> None:
    """Take the points of an admitted operation, and register its document if the request asked for that. Raises a GraphQLError, RATE_LIMITED."""
    if context.observation is not None:
        context.observation.cost = cost
    gate = context.services.gate
    if gate is None:
        context.rate_limit_status = unlimited_status(cost)
        return
    context.rate_limit_status = await gate.take_points(
        context.viewer, context.services.address, cost, is_dry_run=is_dry_run, prepaid_points=context.prepaid_points
    )
    if context.hash_to_register is not None and context.viewer is not None and text:
        await gate.documents.register(context.hash_to_register, text, context.viewer.id)


def cost_extension(rate_limit_status: RateLimitStatus, context: OperationContext) -> dict[str, Any]:
    settings = graph_settings() if context.services.gate is None else context.services.gate.settings
    return {
        "requested": rate_limit_status.cost,
        "maximum": settings.query_max_cost,
        "limit": rate_limit_status.limit,
        "remaining": rate_limit_status.remaining,
        "resetAt": rate_limit_status.reset_at.isoformat(),
    }


def _cost_limit_error(estimator: CostEstimator, operation: OperationDefinitionNode, limit: int) -> GraphQLError:
    most_expensive_path = estimator.most_expensive_path()
    return GraphQLError(
        f"This operation costs {estimator.cost:,} points, and one may cost at most {limit:,}. The most expensive path is {most_expensive_path}. Request"
        " shorter pages there (`first`, `last`), or fetch the inner list in separate operations for the entries that need it.",
        operation,
        extensions={"code": "COST_LIMIT_EXCEEDED", "cost": estimator.cost, "limit": limit, "dearestPath": most_expensive_path},
    )


def _readable_error(error: GraphQLError) -> GraphQLError:
    """Return the error with a short message, and with a reason where graphql-core gives none."""
    message = error.message
    if message == "Validation aborted.":
        message = (
            "Too many fields with the same name in one selection to be validated, or fragments are nested too deeply. Select each field"
            " once, or split the document."
        )
    elif len(message) > MAX_MESSAGE_CHARACTERS:
        message = message[:MAX_MESSAGE_CHARACTERS] + "…"
    else:
        return error
    return GraphQLError(message, error.nodes, error.source, error.positions, extensions=error.extensions)


def _dry_run_of(document: DocumentNode, operation: OperationDefinitionNode, variables: dict[str, Any] | None) -> DocumentNode | None:
    """Return the operation reduced to `rateLimit`, if it selects `rateLimit(dryRun: true)` and does not skip it; else None."""
    if operation.operation is not OperationType.QUERY:
        return None
    fragments = {fragment.name.value: fragment for fragment in document.definitions if isinstance(fragment, FragmentDefinitionNode)}

    def is_true(value: ValueNode | None) -> bool:
        return _is_true(value, operation, variables or {})

    fields = [field for field in _root_fields(operation.selection_set, fragments, set(), is_true) if field.name.value == "rateLimit"]
    if not any(is_true(_argument_value(field, "dryRun")) for field in fields):
        return None
    rate_limit_operation = OperationDefinitionNode(
        operation=operation.operation,
        name=operation.name,
        variable_definitions=operation.variable_definitions,
        directives=operation.directives,
        selection_set=SelectionSetNode(selections=tuple(fields)),
    )
    return DocumentNode(definitions=(rate_limit_operation, *fragments.values()))


def may_be_dry_run(document: DocumentNode, operation: OperationDefinitionNode) -> bool:
    """Whether the operation selects `rateLimit` with `dryRun`, for some values of its variables."""
    fragments = {fragment.name.value: fragment for fragment in document.definitions if isinstance(fragment, FragmentDefinitionNode)}
    fields = _root_fields(operation.selection_set, fragments, set(), lambda _: None)
    return any(field.name.value == "rateLimit" and field.arguments for field in fields)


def _root_fields(
    selection_set: SelectionSetNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    visited: set[str],
    is_true: Callable[[ValueNode | None], bool | None],
) -> Iterator[FieldNode]:
    """Yield the root fields that are not left out by @skip or @include, each fragment once."""
    for selection in selection_set.selections:
        if any(
            is_true(_argument_value(directive, "if")) is (directive.name.value == "skip")
            for directive in selection.directives or ()
            if directive.name.value in _CONDITIONAL_DIRECTIVES
        ):
            continue
        if isinstance(selection, FieldNode):
            yield selection
        elif isinstance(selection, FragmentSpreadNode):
            name = selection.name.value
            if name not in visited:
                visited.add(name)
                yield from _root_fields(fragments[name].selection_set, fragments, visited, is_true)
        elif isinstance(selection, InlineFragmentNode):
            yield from _root_fields(selection.selection_set, fragments, visited, is_true)


def _argument_value(node: FieldNode | DirectiveNode, name: str) -> ValueNode | None:
    return next((argument.value for argument in node.arguments or () if argument.name.value == name), None)


def _is_true(value: ValueNode | None, operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> bool:
    """Whether a literal, a variable or its default is true."""
    if isinstance(value, VariableNode):
        name = value.name.value
        if name in variables:
            return variables[name] is True
        value = next(
            (definition.default_value for definition in operation.variable_definitions or () if definition.variable.name.value == name),
            None,
        )
    return isinstance(value, BooleanValueNode) and value.value
