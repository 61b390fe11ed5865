"""The cost of an operation before it is executed: the objects that it may read, page sizes multiplied down the path, weighted fields.

The cost is an upper bound: a field that is selected twice counts twice, and of the types that a value may have the most expensive counts.
Each selection is estimated once for each type that it can stand on, so the time grows with the document and not with its expansion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, TypeAlias, cast

from graphql import (
    BooleanValueNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLNamedType,
    GraphQLObjectType,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_introspection_query,
    parse,
)

from db.core.page import DEFAULT_SIZE, MAX_SIZE
from graph.execution.limits.cost_model import CostModel, FieldCost

SATURATED = 1_000_000_000_000
MAX_INTROSPECTION_FIELDS = 4  # introspection fields that one operation may have
INTROSPECTION_FIELDS_PER_POINT = 100  # introspection fields that cost a point: they are read from memory

# Of a selection: the points that count once, those that count for each entry of a page it stands on, and the number of aliases.
Points: TypeAlias = tuple[int, int, int]
ZERO_POINTS: Points = (0, 0, 0)


class CostEstimator:
    """Estimates one operation of a valid document with its variables. `used_variables` are those that mattered."""

    def __init__(
        self, cost_model: CostModel, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any] | None
    ) -> None:
        self._cost_model = cost_model
        self._fragments = {
            definition.name.value: definition for definition in document.definitions if isinstance(definition, FragmentDefinitionNode)
        }
        self._variables = variables or {}
        self._defaults = {definition.variable.name.value: definition.default_value for definition in operation.variable_definitions or ()}
        self._points_cache: dict[tuple[int, str], Points] = {}
        self._selection_set = operation.selection_set
        root = cost_model.schema.get_root_type(operation.operation)
        assert root is not None, "validation refuses an operation that the schema does not have"
        self._root = root
        self.used_variables: set[str] = set()
        self.introspection_size = 0
        self._introspection_count = 0
        once, _, self.aliases = self._type_points(self._selection_set, root)
        self.cost = max(1, once)

    def most_expensive_path(self) -> str:
        """Return the path that costs most, with its page sizes."""
        names: list[str] = []
        selection_set: SelectionSetNode | None = self._selection_set
        type_: GraphQLNamedType | None = self._root
        size = 0  # of the page that the selection stands on
        while selection_set is not None and type_ is not None:
            best: tuple[int, SelectionNode, GraphQLObjectType] | None = None
            for possible in self._cost_model.possible_types(type_):
                for selection in selection_set.selections:
                    once, each, _ = self._selection_points(selection, possible)
                    points = once + size * each
                    if points > 0 and (best is None or points > best[0]):
                        best = (points, selection, possible)
            if best is None:
                break
            _, selection, type_ = best
            if not isinstance(selection, FieldNode):
                selection_set = self._nested_selection_set(selection)
                continue
            field_cost = self._cost_model.field_cost(type_, selection.name.value)
            assert field_cost is not None
            entries = self._entry_count(selection, field_cost)
            if field_cost.is_page_edges or (field_cost.entries == 1 and selection.name.value == "node" and names):
                size = 0
            else:
                name = selection.name.value if selection.alias is None else f"{selection.alias.value}: {selection.name.value}"
                names.append(f"{name} × {entries}" if entries != 1 else name)
                size = entries if field_cost.is_paged else 0
            selection_set, type_ = selection.selection_set, field_cost.type
        return " > ".join(names)

    def _type_points(self, selection_set: SelectionSetNode | None, type_: GraphQLNamedType) -> Points:
        """Return the cost for this type: that of its most expensive object type."""
        if selection_set is None:
            return ZERO_POINTS
        candidates = [self._selection_set_points(selection_set, possible) for possible in self._cost_model.possible_types(type_)] or [
            ZERO_POINTS
        ]
        return max(one[0] for one in candidates), max(one[1] for one in candidates), max(one[2] for one in candidates)

    def _selection_set_points(self, selection_set: SelectionSetNode, type_: GraphQLObjectType) -> Points:
        key = (id(selection_set), type_.name)
        cached = self._points_cache.get(key)
        if cached is not None:
            return cached
        once = each = aliases = 0
        for selection in selection_set.selections:
            selection_points = self._selection_points(selection, type_)
            once, each, aliases = once + selection_points[0], each + selection_points[1], aliases + selection_points[2]
        points = self._points_cache[key] = (min(once, SATURATED), min(each, SATURATED), min(aliases, SATURATED))
        return points

    def _selection_points(self, selection: SelectionNode, type_: GraphQLObjectType) -> Points:
        if selection.directives and not self._is_included(selection):
            return ZERO_POINTS
        if isinstance(selection, FieldNode):
            return self._field_points(selection, type_)
        condition = self._type_condition(selection)
        if condition is not None and not self._cost_model.fragment_applies(condition, type_):
            return ZERO_POINTS
        nested = self._nested_selection_set(selection)
        return ZERO_POINTS if nested is None else self._selection_set_points(nested, type_)

    def _field_points(self, field: FieldNode, type_: GraphQLObjectType) -> Points:
        field_cost = self._cost_model.field_cost(type_, field.name.value)
        alias = int(field.alias is not None and field.alias.value != field.name.value)
        if field_cost is None or field_cost.type is None:
            return (0 if field_cost is None else field_cost.weight), 0, alias
        once, each, aliases = self._type_points(field.selection_set, field_cost.type)
        aliases += alias
        if field_cost.is_page_edges:
            return field_cost.weight, once, aliases
        if field_cost.is_introspection:
            self._introspection_count += 1
            self.introspection_size += once if self._introspection_count <= MAX_INTROSPECTION_FIELDS else SATURATED
            return once // INTROSPECTION_FIELDS_PER_POINT, 0, aliases
        entries = self._entry_count(field, field_cost)
        if field_cost.is_paged:
            return field_cost.weight + once + entries * each, 0, aliases
        return field_cost.weight + entries * (field_cost.entry_weight + once), 0, aliases

    def _type_condition(self, selection: SelectionNode) -> str | None:
        if isinstance(selection, FragmentSpreadNode):
            fragment = self._fragments.get(selection.name.value)
            return None if fragment is None else fragment.type_condition.name.value
        condition = cast("InlineFragmentNode", selection).type_condition
        return None if condition is None else condition.name.value

    def _nested_selection_set(self, selection: SelectionNode) -> SelectionSetNode | None:
        if isinstance(selection, FragmentSpreadNode):
            fragment = self._fragments.get(selection.name.value)
            return None if fragment is None else fragment.selection_set
        return cast("InlineFragmentNode", selection).selection_set

    def _entry_count(self, field: FieldNode, field_cost: FieldCost) -> int:
        if field_cost.is_paged:
            page_arguments = [self._page_argument(field, name) for name in ("first", "last")]
            sizes = [size for size in page_arguments if size is not None]
            return min(max([*sizes, 0]), MAX_SIZE) if sizes else DEFAULT_SIZE
        entries = field_cost.entries if isinstance(field_cost.entries, int) else self._list_length(field, field_cost.entries)
        return entries if field_cost.scaled is None else entries * self._scale_factor(field, *field_cost.scaled)

    def _scale_factor(self, field: FieldNode, name: str, unit: int, default: int) -> int:
        value = self._argument_value(field, name)
        # What is not a number, or one past its limit, is refused during execution.
        return max(1, ceil((value if isinstance(value, int | float) and abs(value) < SATURATED else default) / unit))

    def _page_argument(self, field: FieldNode, name: str) -> int | None:
        value = self._argument_value(field, name)
        # What is not a number is refused during execution; here it counts as the largest.
        return value if value is None else int(value) if isinstance(value, int | float) and abs(value) <= MAX_SIZE else MAX_SIZE

    def _list_length(self, field: FieldNode, name: str) -> int:
        value = self._argument_value(field, name)
        return 0 if value is None else len(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else 1

    def _is_included(self, selection: SelectionNode) -> bool:
        for directive in selection.directives or ():
            name = directive.name.value
            if name in {"skip", "include"} and directive.arguments and self._evaluate(directive.arguments[0].value) is (name == "skip"):
                return False
        return True

    def _argument_value(self, field: FieldNode, name: str) -> Any:
        return next((self._evaluate(argument.value) for argument in field.arguments or () if argument.name.value == name), None)

    def _evaluate(self, value: ValueNode | None) -> Any:
        """Return a literal or a variable as far as costs depend on it: numbers, booleans, and lists by their length; None for null or nothing."""
        match value:
            case VariableNode():
                name = value.name.value
                self.used_variables.add(name)
                return self._variables[name] if name in self._variables else self._evaluate(self._defaults.get(name))
            case IntValueNode():
                return int(value.value)
            case BooleanValueNode():
                return value.value
            case ListValueNode():
                return value.values
            case None | NullValueNode():
                return None
            case _:
                return value


def introspection_limit(cost_model: CostModel) -> int:
    """Return twice the size of the standard introspection query with all of its options."""
    document = parse(
        get_introspection_query(specified_by_url=True, directive_is_repeatable=True, schema_description=True, input_value_deprecation=True)
    )
    operation = next(definition for definition in document.definitions if isinstance(definition, OperationDefinitionNode))
    return 2 * CostEstimator(cost_model, document, operation, None).introspection_size
