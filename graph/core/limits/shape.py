"""How deep and how wide a document is, found in one walk, before any rule that could take long on a document made for that.

Fragments are tallied once each and added wherever they are spread, so a chain of fragments that doubles at each link takes as many steps
as it has links, and yet counts in full. The numbers are saturated: nobody needs to know how far past a limit they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    IntValueNode,
    ListValueNode,
    Node,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
)

from graph.settings import GraphSettings

DIRECTIVES_IN_ONE_PLACE = 5
VALUES = 2_000  # in one literal: what is wrong with it is reported with the whole of it, once for each thing wrong
ENTRIES = 200  # of one object literal, for the same reason
DIGITS = 20  # of an integer, its sign included; Python reads no more than 4,300, and says so in words of its own
SATURATED = 1_000_000_000
INTROSPECTION = frozenset({"__schema", "__type"})


@dataclass(slots=True)
class Tally:
    """Of a selection set with all below it; with what is spread in it, once that has been added."""

    depth: int = 0
    roots: int = 0  # fields at its first level
    directives: int = 0
    spreads: list[tuple[str, int, bool]] = field(default_factory=list[tuple[str, int, bool]])  # name, how deep, whether its depth counts

    def add(self, spread: Tally, depth: int, *, counts: bool) -> None:
        """What a fragment brings that is spread below `depth` fields."""
        if counts:
            self.depth = max(self.depth, depth + spread.depth)
        if depth == 0:
            self.roots = min(self.roots + spread.roots, SATURATED)
        self.directives = min(self.directives + spread.directives, SATURATED)


class TooMuch(Exception):
    """One place of the document is past its limit by itself."""

    def __init__(self, message: str, node: Node) -> None:
        super().__init__(message)
        self.node = node


def excess(document: DocumentNode, limits: GraphSettings) -> list[GraphQLError]:
    """What of the document is past its limit; nothing for a document that may be validated."""
    operations = [definition for definition in document.definitions if isinstance(definition, OperationDefinitionNode)]
    fragments = [definition for definition in document.definitions if isinstance(definition, FragmentDefinitionNode)]
    for what, found in (("operations", operations), ("fragments", fragments)):
        if len(found) > limits.query_max_fragments:
            return [_error(f"The document defines {len(found)} {what}; at most {limits.query_max_fragments} are allowed.")]
    selections = sum(_selections(definition) for definition in (*operations, *fragments))
    if selections > limits.query_max_selections:
        limit = limits.query_max_selections
        return [
            _error(f"The document names {selections:,} fields and fragments; at most {limit:,} are allowed. Name each once, or split it.")
        ]
    try:
        tallies = {fragment.name.value: _own(fragment) for fragment in fragments}
        _follow(tallies)
        for operation in operations:
            tally = _own(operation)
            for name, depth, counts in tally.spreads:
                if name in tallies:
                    tally.add(tallies[name], depth, counts=counts)
            _compare(operation, tally, limits)
    except TooMuch as past:
        return [_error(str(past), past.node)]
    return []


def _compare(operation: OperationDefinitionNode, tally: Tally, limits: GraphSettings) -> None:
    variables = len(operation.variable_definitions or ())
    for number, limit, what in (
        (variables, limits.query_max_variables, "variables; put values that belong together into one input object or list"),
        (tally.depth, limits.query_max_depth, "levels of fields, which is too deep; fetch the rest by id in a second operation"),
        (tally.roots, limits.query_max_root_fields, "root fields, each time counted that one is named; send several operations instead"),
        (tally.directives, limits.query_max_directives, "directives, fragments followed; put one on a fragment instead of on each field"),
    ):
        if number > limit:
            shown = f"{number:,}" if number < SATURATED else "countless"
            raise TooMuch(f"The operation has {shown} {what}. At most {limit:,} are allowed.", operation)


def _follow(tallies: dict[str, Tally]) -> None:
    """Adds to each fragment what it spreads, the innermost first. A spread that closes a circle adds nothing: validation refuses it by name."""
    done: set[str] = set()
    for root in tallies:
        path: list[tuple[str, Iterator[tuple[str, int, bool]]]] = []
        on_path: set[str] = set()

        def enter(name: str) -> None:
            path.append((name, iter(tallies[name].spreads)))  # noqa: B023 - called in this round alone
            on_path.add(name)  # noqa: B023 - the same

        if root not in done:
            enter(root)
        while path:
            name, rest = path[-1]
            inner = next((spread for spread, _, _ in rest if spread in tallies and spread not in done and spread not in on_path), None)
            if inner is not None:
                enter(inner)
                continue
            path.pop()
            for spread, depth, counts in tallies[name].spreads:
                if spread in done:
                    tallies[name].add(tallies[spread], depth, counts=counts)
            on_path.discard(name)
            done.add(name)


def _selections(definition: OperationDefinitionNode | FragmentDefinitionNode) -> int:
    """How many selections a definition has; counted first, for all else takes time for each of them."""
    stack: list[SelectionSetNode] = [definition.selection_set]
    found = 0
    while stack:
        selections = stack.pop().selections
        found += len(selections)
        stack += [inner for selection in selections if (inner := getattr(selection, "selection_set", None)) is not None]
    return found


def _own(definition: OperationDefinitionNode | FragmentDefinitionNode) -> Tally:
    """The tally of a definition without what it spreads."""
    tally = Tally(directives=_directives(definition.directives, definition))
    for variable in getattr(definition, "variable_definitions", None) or ():
        tally.directives += _directives(variable.directives, variable)
        if variable.default_value is not None:
            _literal(variable.default_value)
    # What is left to be walked, how many fields lie above it, and whether its depth counts.
    stack: list[tuple[SelectionSetNode, int, bool]] = [(definition.selection_set, 0, True)]
    while stack:
        selection_set, depth, counts = stack.pop()
        for selection in selection_set.selections:
            tally.directives += _directives(selection.directives, selection)
            if isinstance(selection, FragmentSpreadNode):
                tally.spreads.append((selection.name.value, depth, counts))
                continue
            below = depth
            inner = counts
            if isinstance(selection, FieldNode):
                below += 1
                if depth == 0:
                    tally.roots += 1
                inner = counts and not (depth == 0 and selection.name.value in INTROSPECTION)
                if counts:
                    tally.depth = max(tally.depth, below)
                for argument in selection.arguments or ():
                    _literal(argument.value)
            found: SelectionSetNode | None = getattr(selection, "selection_set", None)
            if found is not None:
                stack.append((found, below, inner))
    return tally


def _directives(directives: Iterable[DirectiveNode] | None, node: Node) -> int:
    found = list(directives or ())
    if len(found) > DIRECTIVES_IN_ONE_PLACE:
        raise TooMuch(f"{len(found)} directives stand in one place; at most {DIRECTIVES_IN_ONE_PLACE} are allowed.", node)
    for directive in found:
        for argument in directive.arguments or ():
            _literal(argument.value)
    return len(found)


def _literal(value: ValueNode) -> None:
    stack: list[ValueNode] = [value]
    seen = 0
    while stack:
        node = stack.pop()
        seen += 1
        if isinstance(node, IntValueNode) and len(node.value) > DIGITS:
            raise TooMuch(
                f"An integer has {len(node.value):,} characters; those of 64 bits have at most {DIGITS}. Send it as a string.", node
            )
        if isinstance(node, ListValueNode):
            stack += node.values
        elif isinstance(node, ObjectValueNode):
            if len(node.fields) > ENTRIES:
                raise TooMuch(f"An object has {len(node.fields)} fields; at most {ENTRIES} are allowed. Send it as a variable.", node)
            stack += [entry.value for entry in node.fields]
        if seen + len(stack) > VALUES:
            raise TooMuch(f"A literal has more than {VALUES:,} values. Send it as a variable.", value)


def _error(message: str, node: Node | None = None) -> GraphQLError:
    return GraphQLError(message, node, extensions={"code": "GRAPHQL_VALIDATION_FAILED"})
