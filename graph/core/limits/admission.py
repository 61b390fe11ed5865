"""Whether an operation may run: its shape, the rules of GraphQL, its cost, and its viewer's points, in this order, each before the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
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

from graph.core.documents import Documents
from graph.core.limits.cost import Reckoning, introspection_limit
from graph.core.limits.gate import Spent, unlimited
from graph.core.limits.lists import ShortLists, too_long
from graph.core.limits.prices import Prices
from graph.core.limits.shape import excess
from graph.core.operations import chosen
from graph.settings import GraphSettings, graph_settings

if TYPE_CHECKING:
    from graph.core.context import Context

MAX_ERRORS = 10  # of one document: each is worked out with suggestions and excerpts, and nobody reads the eleventh
_CONDITIONS = frozenset({"skip", "include"})
MAX_MESSAGE = 1_000  # characters: some quote the document

# Comparing fields that may overlap grows with the square of their number. The default lets a document of 15 kB take 0.7 s; the largest
# in our clients needs less than a thirtieth of this.
overlapping.MAX_COMPLEXITY_BUDGET = 5_000


@dataclass(slots=True)
class Appraisal:
    """What is known of a document that was read before: what is wrong with it, or what its operations cost if no variable matters."""

    errors: tuple[GraphQLError, ...]
    costs: dict[str | None, int] = field(default_factory=dict[str | None, int])


class Appraiser:
    """Reads documents against one schema."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self.prices = Prices(schema)
        self._introspection = introspection_limit(self.prices)
        self._known: Documents[Appraisal] = Documents()
        self._refused: Documents[Appraisal] = Documents()  # by themselves, so that they push out nothing that runs
        self._seen: Documents[bool] = Documents()

    def knows(self, text: str) -> bool:
        """Whether it was looked at before, whatever came of it: then it takes no time worth paying for."""
        return self._seen.get(text) is not None

    def appraise(
        self, text: str | None, document: DocumentNode, rules: tuple[Any, ...], settings: GraphSettings, *, hide_suggestions: bool
    ) -> Appraisal:
        """Whether the document may run at all."""
        known = self._known.get(text, (rules, settings)) or self._refused.get(text, (rules, settings, hide_suggestions))
        if known is not None:
            return known
        errors = excess(document, settings)
        if not errors:
            strict = (*rules, MaybeNullValidationRule, OneOfInputValidationRule, ShortLists)
            errors = validate(self._schema, document, strict, max_errors=MAX_ERRORS, hide_suggestions=hide_suggestions)
        appraisal = Appraisal(tuple(_readable(error) for error in errors))
        if appraisal.errors:
            self._refused.keep(text, appraisal, (rules, settings, hide_suggestions))
        else:
            self._known.keep(text, appraisal, (rules, settings))
        self._seen.keep(text, value=True)
        return appraisal

    def cost(
        self,
        appraisal: Appraisal,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        variables: dict[str, Any] | None,
        settings: GraphSettings,
        *,
        dry: bool = False,
    ) -> int:
        """The cost of an operation of a document without errors. Raises a GraphQLError for one past its limits; `dry` whatever it costs."""
        limit = None if dry else settings.query_max_cost
        name = None if operation.name is None else operation.name.value
        known = appraisal.costs.get(name)
        if known is not None and (limit is None or known <= limit):
            return known
        reckoning = Reckoning(self.prices, document, operation, variables)
        if reckoning.aliases > settings.query_max_aliases:
            raise GraphQLError(
                f"The operation has {reckoning.aliases:,} aliases, fragments followed; at most {settings.query_max_aliases:,} are allowed. Ask for"
                " lists, or for `nodes` by their ids, instead.",
                operation,
                extensions={"code": "GRAPHQL_VALIDATION_FAILED"},
            )
        if reckoning.introspection > self._introspection:
            raise GraphQLError(
                "This asks for more of the schema at once than the standard introspection query does twice over, or more than four times."
                " Ask for fewer levels or aliases at and below `__schema`.",
                operation,
                extensions={"code": "COST_LIMIT_EXCEEDED"},
            )
        if limit is not None and reckoning.cost > limit:
            raise _too_dear(reckoning, operation, limit)
        if not reckoning.asked:
            appraisal.costs[name] = reckoning.cost
        return reckoning.cost


class Admission(SchemaExtension):
    """Stands after the extension that gives the operation its context."""

    async def on_validate(self) -> AsyncIterator[None]:
        operation = self.execution_context
        if not operation.pre_execution_errors:
            try:
                operation.pre_execution_errors = list(await self._admit())
            except GraphQLError as error:
                operation.pre_execution_errors = [error]
        yield

    async def _admit(self) -> Iterable[GraphQLError]:
        running = self.execution_context
        context: Context = running.context
        document = running.graphql_document
        assert document is not None
        appraiser: Appraiser = cast("Any", running.schema).appraiser
        settings = graph_settings() if context.gate is None else context.gate.settings
        appraisal = appraiser.appraise(
            running.query, document, running.validation_rules, settings, hide_suggestions=not context.introspection
        )
        if appraisal.errors:
            return appraisal.errors
        operation = chosen(document, running._provided_operation_name)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public name is a guess
        long = too_long(cast("Any", running.schema)._schema, operation, running.variables)  # noqa: SLF001 - Strawberry has no public way to it
        if long is not None:
            return [long]
        dry_run = _dry_run(document, operation, running.variables)
        cost = appraiser.cost(appraisal, document, operation, running.variables, settings, dry=dry_run is not None)
        if context.observation is not None:
            context.observation.cost = cost
        gate = context.gate
        dry = dry_run is not None
        if gate is None:
            context.spent = unlimited(cost)
        else:
            context.spent = await gate.spend(context.viewer, context.address, cost, dry=dry, paid=context.paid)
            if context.registers is not None and context.viewer is not None and running.query:
                await gate.documents.register(context.registers, running.query, context.viewer.id)
        if dry_run is not None:
            running.graphql_document = dry_run
        return ()

    def get_results(self) -> dict[str, Any]:
        context: Context = self.execution_context.context
        return {"cost": _shown(context.spent, context)} if context.shows_cost and context.spent is not None else {}


def _shown(spent: Spent, context: Context) -> dict[str, Any]:
    settings = graph_settings() if context.gate is None else context.gate.settings
    return {
        "requested": spent.cost,
        "maximum": settings.query_max_cost,
        "limit": spent.limit,
        "remaining": spent.remaining,
        "resetAt": spent.reset_at.isoformat(),
    }


def _too_dear(reckoning: Reckoning, operation: OperationDefinitionNode, limit: int) -> GraphQLError:
    dearest = reckoning.dearest()
    return GraphQLError(
        f"This operation costs {reckoning.cost:,} points, and one may cost at most {limit:,}. Most of it goes to {dearest}. Ask for shorter"
        " pages there (`first`, `last`), or fetch the inner list in operations of its own for the entries that need it.",
        operation,
        extensions={"code": "COST_LIMIT_EXCEEDED", "cost": reckoning.cost, "limit": limit, "dearestPath": dearest},
    )


def _readable(error: GraphQLError) -> GraphQLError:
    """The same error; short, and with a reason where graphql-core gives none."""
    message = error.message
    if message == "Validation aborted.":
        message = (
            "Too many fields of one name stand in the same selections to be compared, or fragments are nested too deeply. Name each field"
            " once, or split the document."
        )
    elif len(message) > MAX_MESSAGE:
        message = message[:MAX_MESSAGE] + "…"
    else:
        return error
    return GraphQLError(message, error.nodes, error.source, error.positions, extensions=error.extensions)


def _dry_run(document: DocumentNode, operation: OperationDefinitionNode, variables: dict[str, Any] | None) -> DocumentNode | None:
    """The operation with `rateLimit` alone, if it says `rateLimit(dryRun: true)` where that is not skipped: what else it asks for is not run."""
    if operation.operation is not OperationType.QUERY:
        return None
    fragments = {one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)}

    def holds(value: ValueNode | None) -> bool:
        return _holds(value, operation, variables or {})

    fields = [field for field in _root_fields(operation.selection_set, fragments, set(), holds) if field.name.value == "rateLimit"]
    if not any(holds(_given(field, "dryRun")) for field in fields):
        return None
    alone = OperationDefinitionNode(
        operation=operation.operation,
        name=operation.name,
        variable_definitions=operation.variable_definitions,
        directives=operation.directives,
        selection_set=SelectionSetNode(selections=tuple(fields)),
    )
    return DocumentNode(definitions=(alone, *fragments.values()))


def _root_fields(
    selection_set: SelectionSetNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    seen: set[str],
    holds: Callable[[ValueNode | None], bool],
) -> Iterator[FieldNode]:
    """Those that are not left out by @skip or @include, each fragment once."""
    for selection in selection_set.selections:
        if any(
            holds(_given(one, "if")) is (one.name.value == "skip") for one in selection.directives or () if one.name.value in _CONDITIONS
        ):
            continue
        if isinstance(selection, FieldNode):
            yield selection
        elif isinstance(selection, FragmentSpreadNode):
            name = selection.name.value
            if name not in seen:
                seen.add(name)
                yield from _root_fields(fragments[name].selection_set, fragments, seen, holds)
        elif isinstance(selection, InlineFragmentNode):
            yield from _root_fields(selection.selection_set, fragments, seen, holds)


def _given(node: FieldNode | DirectiveNode, name: str) -> ValueNode | None:
    return next((argument.value for argument in node.arguments or () if argument.name.value == name), None)


def _holds(value: ValueNode | None, operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> bool:
    """A literal, a variable or its default: whether it is true."""
    if isinstance(value, VariableNode):
        name = value.name.value
        if name in variables:
            return variables[name] is True
        value = next((one.default_value for one in operation.variable_definitions or () if one.variable.name.value == name), None)
    return isinstance(value, BooleanValueNode) and value.value
