"""What an operation costs, known before it runs: the things that it may read, page sizes multiplied down the path, dear fields weighted.

It is an upper bound: a field that is named twice counts twice, and of the types that an answer may have the dearest counts. Each selection
is reckoned once for each type that it can stand on, so the time grows with the document and not with what the document unfolds to.
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
from graph.core.limits.prices import Price, Prices

SATURATED = 1_000_000_000_000
INTROSPECTED = 4  # times that one operation may ask about the schema
INTROSPECTION = 100  # fields of introspection that make a point: they are read from memory

# Of a selection: what is paid once and, where it stands on a connection, for each entry of the page; and how many aliases it holds.
Points: TypeAlias = tuple[int, int, int]
NOTHING: Points = (0, 0, 0)


class Reckoning:
    """The cost of one operation with its variables, which must be of a valid document. `asked` becomes true if a variable mattered."""

    def __init__(
        self, prices: Prices, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any] | None
    ) -> None:
        self._prices = prices
        self._fragments = {
            definition.name.value: definition for definition in document.definitions if isinstance(definition, FragmentDefinitionNode)
        }
        self._given = variables or {}
        self._defaults = {definition.variable.name.value: definition.default_value for definition in operation.variable_definitions or ()}
        self._known: dict[tuple[int, str], Points] = {}
        self._selected = operation.selection_set
        root = prices.schema.get_root_type(operation.operation)
        assert root is not None, "validation refuses an operation that the schema does not have"
        self._root = root
        self.asked = False
        self.introspection = 0
        self._introspected = 0
        once, _, self.aliases = self._above(self._selected, root)
        self.cost = max(1, once)

    def dearest(self) -> str:
        """The path on which most is spent, with its page sizes."""
        names: list[str] = []
        selection_set: SelectionSetNode | None = self._selected
        type_: GraphQLNamedType | None = self._root
        size = 0  # of the page that the selection stands on
        while selection_set is not None and type_ is not None:
            best: tuple[int, SelectionNode, GraphQLObjectType] | None = None
            for possible in self._prices.possible(type_):
                for selection in selection_set.selections:
                    once, each, _ = self._of(selection, possible)
                    worth = once + size * each
                    if worth > 0 and (best is None or worth > best[0]):
                        best = (worth, selection, possible)
            if best is None:
                break
            _, selection, type_ = best
            if not isinstance(selection, FieldNode):
                selection_set = self._inside(selection)
                continue
            price = self._prices.of(type_, selection.name.value)
            assert price is not None
            entries = self._entries(selection, price)
            if price.of_page or (price.entries == 1 and selection.name.value == "node" and names):
                size = 0
            else:
                name = selection.name.value if selection.alias is None else f"{selection.alias.value}: {selection.name.value}"
                names.append(f"{name} × {entries}" if entries != 1 else name)
                size = entries if price.paged else 0
            selection_set, type_ = selection.selection_set, price.type
        return " > ".join(names)

    def _above(self, selection_set: SelectionSetNode | None, type_: GraphQLNamedType) -> Points:
        """Of an answer of this type: the dearest of the object types that it may have."""
        if selection_set is None:
            return NOTHING
        found = [self._selection(selection_set, possible) for possible in self._prices.possible(type_)] or [NOTHING]
        return max(one[0] for one in found), max(one[1] for one in found), max(one[2] for one in found)

    def _selection(self, selection_set: SelectionSetNode, type_: GraphQLObjectType) -> Points:
        key = (id(selection_set), type_.name)
        known = self._known.get(key)
        if known is not None:
            return known
        once = each = aliases = 0
        for selection in selection_set.selections:
            found = self._of(selection, type_)
            once, each, aliases = once + found[0], each + found[1], aliases + found[2]
        points = self._known[key] = (min(once, SATURATED), min(each, SATURATED), min(aliases, SATURATED))
        return points

    def _of(self, selection: SelectionNode, type_: GraphQLObjectType) -> Points:
        if selection.directives and not self._included(selection):
            return NOTHING
        if isinstance(selection, FieldNode):
            return self._field(selection, type_)
        condition = self._condition(selection)
        if condition is not None and not self._prices.applies(condition, type_):
            return NOTHING
        inside = self._inside(selection)
        return NOTHING if inside is None else self._selection(inside, type_)

    def _field(self, field: FieldNode, type_: GraphQLObjectType) -> Points:
        price = self._prices.of(type_, field.name.value)
        alias = int(field.alias is not None and field.alias.value != field.name.value)
        if price is None or price.type is None:
            return (0 if price is None else price.weight), 0, alias
        once, each, aliases = self._above(field.selection_set, price.type)
        aliases += alias
        if price.of_page:
            return price.weight, once, aliases
        if price.introspective:
            self._introspected += 1
            self.introspection += once if self._introspected <= INTROSPECTED else SATURATED
            return once // INTROSPECTION, 0, aliases
        entries = self._entries(field, price)
        if price.paged:
            return price.weight + once + entries * each, 0, aliases
        return price.weight + entries * (price.entry + once), 0, aliases

    def _condition(self, selection: SelectionNode) -> str | None:
        if isinstance(selection, FragmentSpreadNode):
            fragment = self._fragments.get(selection.name.value)
            return None if fragment is None else fragment.type_condition.name.value
        condition = cast("InlineFragmentNode", selection).type_condition
        return None if condition is None else condition.name.value

    def _inside(self, selection: SelectionNode) -> SelectionSetNode | None:
        if isinstance(selection, FragmentSpreadNode):
            fragment = self._fragments.get(selection.name.value)
            return None if fragment is None else fragment.selection_set
        return cast("InlineFragmentNode", selection).selection_set

    def _entries(self, field: FieldNode, price: Price) -> int:
        if price.paged:
            given = [self._number(field, name) for name in ("first", "last")]
            sizes = [size for size in given if size is not None]
            return min(max([*sizes, 0]), MAX_SIZE) if sizes else DEFAULT_SIZE
        entries = price.entries if isinstance(price.entries, int) else self._length(field, price.entries)
        return entries if price.scaled is None else entries * self._scale(field, *price.scaled)

    def _scale(self, field: FieldNode, name: str, unit: int, default: int) -> int:
        given = self._argument(field, name)
        # What is no number, or one past its limit, is refused when it runs.
        return max(1, ceil((given if isinstance(given, int | float) and abs(given) < SATURATED else default) / unit))

    def _number(self, field: FieldNode, name: str) -> int | None:
        value = self._argument(field, name)
        # What is no number is refused when it runs; until then it is taken for the largest.
        return value if value is None else int(value) if isinstance(value, int | float) and abs(value) <= MAX_SIZE else MAX_SIZE

    def _length(self, field: FieldNode, name: str) -> int:
        value = self._argument(field, name)
        return 0 if value is None else len(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else 1

    def _included(self, selection: SelectionNode) -> bool:
        for directive in selection.directives or ():
            name = directive.name.value
            if name in {"skip", "include"} and directive.arguments and self._plain(directive.arguments[0].value) is (name == "skip"):
                return False
        return True

    def _argument(self, field: FieldNode, name: str) -> Any:
        return next((self._plain(argument.value) for argument in field.arguments or () if argument.name.value == name), None)

    def _plain(self, value: ValueNode | None) -> Any:
        """A literal or a variable as far as costs look at it: numbers, booleans, and lists by their length; None for null and nothing."""
        match value:
            case VariableNode():
                self.asked = True
                name = value.name.value
                return self._given[name] if name in self._given else self._plain(self._defaults.get(name))
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


def introspection_limit(prices: Prices) -> int:
    """Twice what tools ask of the schema: `get_introspection_query` with everything."""
    document = parse(
        get_introspection_query(specified_by_url=True, directive_is_repeatable=True, schema_description=True, input_value_deprecation=True)
    )
    operation = next(definition for definition in document.definitions if isinstance(definition, OperationDefinitionNode))
    return 2 * Reckoning(prices, document, operation, None).introspection
