"""Whether two subscriptions want the same answer of one event, so that it is worked out and written once."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    Visitor,
    get_named_type,
    visit,
)
from strawberry.types.field import StrawberryField

_UNDERSTOOD = frozenset({"skip", "include"})


@dataclass(frozen=True, slots=True)
class Sharing:
    """Answers with one `key` are the same for everybody or, `by_viewer`, for those who may see the same at the same moment.

    `length` is that of the texts in the key.
    """

    key: Hashable
    by_viewer: bool
    length: int = field(default=0, compare=False)


def sharing(
    schema: GraphQLSchema, document: DocumentNode, text: str, operation: OperationDefinitionNode, variables: Mapping[str, Any] | None
) -> Sharing | None:
    """How the answers to this subscription's events may be shared; None for one that is left alone.

    The arguments of the root field choose which events there are, never what is said of one: only what stands below it counts.
    """
    root, selections = schema.subscription_type, operation.selection_set.selections
    if root is None or len(selections) != 1 or not isinstance(asked := selections[0], FieldNode) or asked.selection_set is None:
        return None
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    said = _Said(fragments)
    for directive in (*(operation.directives or ()), *(asked.directives or ())):
        visit(directive, said)
    visit(asked.selection_set, said)
    if not said.is_understood:
        return None
    known = {name: value for name, value in (variables or {}).items() if name in said.variables}
    try:
        values = orjson.dumps(known, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return None
    type_ = cast("object", get_named_type(root.fields[asked.name.value].type))
    plain = isinstance(type_, GraphQLObjectType) and all(_plain(type_, asked.selection_set, fragments))
    name = None if operation.name is None else operation.name.value
    return Sharing((text, name, values), by_viewer=not plain, length=len(text) + len(values))


class _Said(Visitor):
    """Collects the variables that a part of a document uses, in whatever depth of fragments, and whether its directives are known."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        super().__init__()
        self.variables: set[str] = set()
        self.is_understood = True
        self._fragments = fragments
        self._spread: set[str] = set()

    def enter_variable(self, node: VariableNode, *_rest: Any) -> None:
        self.variables.add(node.name.value)

    def enter_directive(self, node: DirectiveNode, *_rest: Any) -> None:
        self.is_understood = self.is_understood and node.name.value in _UNDERSTOOD

    def enter_fragment_spread(self, node: FragmentSpreadNode, *_rest: Any) -> None:
        name = node.name.value
        if name not in self._spread:
            self._spread.add(name)
            visit(self._fragments[name], self)


def _plain(type_: GraphQLObjectType, selected: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]) -> Iterator[bool]:
    """Field by field, whether it says of its object what it would say to anybody."""
    for node in selected.selections:
        inner: Node | None = node
        if isinstance(node, FragmentSpreadNode):
            inner = fragments[node.name.value]
        if isinstance(inner, InlineFragmentNode | FragmentDefinitionNode):
            yield from _plain(type_, inner.selection_set, fragments)
        elif isinstance(inner, FieldNode) and inner.name.value != "__typename":
            field = type_.fields.get(inner.name.value)
            below = None if field is None else cast("object", get_named_type(field.type))
            yield field is not None and _is_of_its_object(field.extensions.get("strawberry-definition"))
            if inner.selection_set is not None:
                if isinstance(below, GraphQLObjectType):
                    yield from _plain(below, inner.selection_set, fragments)
                else:
                    yield False


def _is_of_its_object(field: object) -> bool:
    """Whether nothing but the object goes into it: no context, and so no viewer, no clock of a loader and no row read later."""
    if type(field) is not StrawberryField or field.extensions or field.permission_classes:
        return False
    resolver: Any = cast("Any", field).base_resolver
    return resolver is None or (not resolver.is_async and resolver.info_parameter is None)
