"""Limits the depth and width of a document in one walk, before validation rules that an adversarial document could make slow.

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

MAX_DIRECTIVES_PER_LOCATION = 5
MAX_LITERAL_VALUES = 2_000  # in one literal: an error about it quotes the whole literal, once for each fault
MAX_OBJECT_FIELDS = 200  # of one object literal, for the same reason
MAX_INTEGER_CHARACTERS = 20  # of an integer, its sign included; Python's own limit is 4,300 digits
SATURATED = 1_000_000_000
INTROSPECTION_FIELDS = frozenset({"__schema", "__type"})


@dataclass(slots=True)
class Tally:
    """The counts of a selection set and all below it; of the fragments spread in it, once they have been added."""

    depth: int = 0
    roots: int = 0  # fields at its first level
    directives: int = 0
    spreads: list[tuple[str, int, bool]] = field(default_factory=list[tuple[str, int, bool]])  # name, how deep, whether its depth counts

    def add(self, fragment_tally: Tally, depth: int, *, counts_depth: bool) -> None:
        """Add the tally of a fragment that is spread below `depth` fields."""
        if counts_depth:
            self.depth = max(self.depth, depth + fragment_tally.depth)
        if depth == 0:
            self.roots = min(self.roots + fragment_tally.roots, SATURATED)
        self.directives = min(self.directives + fragment_tally.directives, SATURATED)


class LimitExceeded(Exception):
    """A node of the document exceeds a limit."""

    def __init__(self, message: str, node: Node) -> None:
        super().__init__(message)
        self.node = node


def shape_errors(document: DocumentNode, limits: GraphSettings) -> list[GraphQLError]:
    """Return the first limit that the document exceeds; nothing for one that may be validated."""
    operations = [definition for definition in document.definitions if isinstance(definition, OperationDefinitionNode)]
    fragments = [definition for definition in document.definitions if isinstance(definition, FragmentDefinitionNode)]
    for what, definitions in (("operations", operations), ("fragments", fragments)):
        if len(definitions) > limits.query_max_fragments:
            return [_error(f"The document defines {len(definitions)} {what}; at most {limits.query_max_fragments} are allowed.")]
    selections = sum(_count_selections(definition) for definition in (*operations, *fragments))
    if selections > limits.query_max_selections:
        limit = limits.query_max_selections
        return [
            _error(
                f"The document selects {selections:,} fields and fragments; at most {limit:,} are allowed. Select each once, or split it."
            )
        ]
    try:
        tallies = {fragment.name.value: _tally_definition(fragment) for fragment in fragments}
        _add_spreads(tallies)
        for operation in operations:
            tally = _tally_definition(operation)
            for name, depth, counts_depth in tally.spreads:
                if name in tallies:
                    tally.add(tallies[name], depth, counts_depth=counts_depth)
            _check_limits(operation, tally, limits)
    except LimitExceeded as error:
        return [_error(str(error), error.node)]
    return []


def _check_limits(operation: OperationDefinitionNode, tally: Tally, limits: GraphSettings) -> None:
    variables = len(operation.variable_definitions or ())
    for count, limit, what in (
        (variables, limits.query_max_variables, "variables; put values that belong together into one input object or list"),
        (tally.depth, limits.query_max_depth, "levels of fields, which is too deep; fetch the rest by id in a second operation"),
        (tally.roots, limits.query_max_root_fields, "root fields, each time counted that one is named; send several operations instead"),
        (tally.directives, limits.query_max_directives, "directives, fragments followed; put one on a fragment instead of on each field"),
    ):
        if count > limit:
            count_text = f"{count:,}" if count < SATURATED else "countless"
            raise LimitExceeded(f"The operation has {count_text} {what}. At most {limit:,} are allowed.", operation)


def _add_spreads(tallies: dict[str, Tally]) -> None:
    """Add to each fragment the tallies of what it spreads, the innermost first. A spread that closes a cycle adds nothing: validation reports it."""
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
            name, remaining_spreads = path[-1]
            inner = next(
                (spread for spread, _, _ in remaining_spreads if spread in tallies and spread not in done and spread not in on_path), None
            )
            if inner is not None:
                enter(inner)
                continue
            path.pop()
            for spread, depth, counts_depth in tallies[name].spreads:
                if spread in done:
                    tallies[name].add(tallies[spread], depth, counts_depth=counts_depth)
            on_path.discard(name)
            done.add(name)


def _count_selections(definition: OperationDefinitionNode | FragmentDefinitionNode) -> int:
    """Return the number of selections of a definition; checked first, since everything else takes time for each."""
    stack: list[SelectionSetNode] = [definition.selection_set]
    count = 0
    while stack:
        selections = stack.pop().selections
        count += len(selections)
        stack += [inner for selection in selections if (inner := getattr(selection, "selection_set", None)) is not None]
    return count


def _tally_definition(definition: OperationDefinitionNode | FragmentDefinitionNode) -> Tally:
    """Return the tally of a definition without what it spreads."""
    tally = Tally(directives=_check_directives(definition.directives, definition))
    for variable in getattr(definition, "variable_definitions", None) or ():
        tally.directives += _check_directives(variable.directives, variable)
        if variable.default_value is not None:
            _check_literal(variable.default_value)
    # Selection sets to be walked, the number of fields above each, and whether its depth counts.
    stack: list[tuple[SelectionSetNode, int, bool]] = [(definition.selection_set, 0, True)]
    while stack:
        selection_set, depth, counts_depth = stack.pop()
        for selection in selection_set.selections:
            tally.directives += _check_directives(selection.directives, selection)
            if isinstance(selection, FragmentSpreadNode):
                tally.spreads.append((selection.name.value, depth, counts_depth))
                continue
            inner_depth = depth
            inner_counts_depth = counts_depth
            if isinstance(selection, FieldNode):
                inner_depth += 1
                if depth == 0:
                    tally.roots += 1
                inner_counts_depth = counts_depth and not (depth == 0 and selection.name.value in INTROSPECTION_FIELDS)
                if counts_depth:
                    tally.depth = max(tally.depth, inner_depth)
                for argument in selection.arguments or ():
                    _check_literal(argument.value)
            inner_selection_set: SelectionSetNode | None = getattr(selection, "selection_set", None)
            if inner_selection_set is not None:
                stack.append((inner_selection_set, inner_depth, inner_counts_depth))
    return tally


def _check_directives(directives: Iterable[DirectiveNode] | None, node: Node) -> int:
    directive_list = list(directives or ())
    if len(directive_list) > MAX_DIRECTIVES_PER_LOCATION:
        raise LimitExceeded(
            f"{len(directive_list)} directives stand in one place; at most {MAX_DIRECTIVES_PER_LOCATION} are allowed.", node
        )
    for directive in directive_list:
        for argument in directive.arguments or ():
            _check_literal(argument.value)
    return len(directive_list)


def _check_literal(value: ValueNode) -> None:
    stack: list[ValueNode] = [value]
    value_count = 0
    while stack:
        node = stack.pop()
        value_count += 1
        if isinstance(node, IntValueNode) and len(node.value) > MAX_INTEGER_CHARACTERS:
            raise LimitExceeded(
                f"An integer has {len(node.value):,} characters; those of 64 bits have at most {MAX_INTEGER_CHARACTERS}. Send it as a string.",
                node,
            )
        if isinstance(node, ListValueNode):
            stack += node.values
        elif isinstance(node, ObjectValueNode):
            if len(node.fields) > MAX_OBJECT_FIELDS:
                raise LimitExceeded(
                    f"An object has {len(node.fields)} fields; at most {MAX_OBJECT_FIELDS} are allowed. Send it as a variable.", node
                )
            stack += [entry.value for entry in node.fields]
        if value_count + len(stack) > MAX_LITERAL_VALUES:
            raise LimitExceeded(f"A literal has more than {MAX_LITERAL_VALUES:,} values. Send it as a variable.", value)


def _error(message: str, node: Node | None = None) -> GraphQLError:
    return GraphQLError(message, node, extensions={"code": "GRAPHQL_VALIDATION_FAILED"})
