"""Whether two subscriptions select the same result of an event, so that it is computed and serialized once."""

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

_SUPPORTED_DIRECTIVES = frozenset({"skip", "include"})


@dataclass(frozen=True, slots=True)
class Sharing:
    """Results with one `key` are the same for all viewers or, if `per_viewer`, for equal viewers at the same moment.

    `length` is that of the texts in the key.
    """

    key: Hashable
    per_viewer: bool
    length: int = field(default=0, compare=False)


def plan_sharing(
    schema: GraphQLSchema, document: DocumentNode, text: str, operation: OperationDefinitionNode, variables: Mapping[str, Any] | None
) -> Sharing | None:
    """Return how the results of this subscription may be shared; None where they may not.

    The arguments of the root field choose the events, never the result of one: only the selection below it counts.
    """
    root, selections = schema.subscription_type, operation.selection_set.selections
    if root is None or len(selections) != 1 or not isinstance(root_field := selections[0], FieldNode) or root_field.selection_set is None:
        return None
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    usage = _UsageCollector(fragments)
    for directive in (*(operation.directives or ()), *(root_field.directives or ())):
        visit(directive, usage)
    visit(root_field.selection_set, usage)
    if not usage.supported:
        return None
    used_variables = {name: value for name, value in (variables or {}).items() if name in usage.variables}
    try:
        serialized_variables = orjson.dumps(used_variables, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return None
    type_ = cast("object", get_named_type(root.fields[root_field.name.value].type))
    object_only = isinstance(type_, GraphQLObjectType) and all(_object_only_selections(type_, root_field.selection_set, fragments))
    name = None if operation.name is None else operation.name.value
    return Sharing((text, name, serialized_variables), per_viewer=not object_only, length=len(text) + len(serialized_variables))


class _UsageCollector(Visitor):
    """Collects the variables that a part of a document uses, fragments followed, and whether its directives are supported."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        super().__init__()
        self.variables: set[str] = set()
        self.supported = True
        self._fragments = fragments
        self._visited_fragments: set[str] = set()

    def enter_variable(self, node: VariableNode, *_rest: Any) -> None:
        self.variables.add(node.name.value)

    def enter_directive(self, node: DirectiveNode, *_rest: Any) -> None:
        self.supported = self.supported and node.name.value in _SUPPORTED_DIRECTIVES

    def enter_fragment_spread(self, node: FragmentSpreadNode, *_rest: Any) -> None:
        name = node.name.value
        if name not in self._visited_fragments:
            self._visited_fragments.add(name)
            visit(self._fragments[name], self)


def _object_only_selections(
    type_: GraphQLObjectType, selection_set: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]
) -> Iterator[bool]:
    """Yield for each field whether its value depends on its object alone."""
    for node in selection_set.selections:
        selection: Node | None = node
        if isinstance(node, FragmentSpreadNode):
            selection = fragments[node.name.value]
        if isinstance(selection, InlineFragmentNode | FragmentDefinitionNode):
            yield from _object_only_selections(type_, selection.selection_set, fragments)
        elif isinstance(selection, FieldNode) and selection.name.value != "__typename":
            field = type_.fields.get(selection.name.value)
            nested_type = None if field is None else cast("object", get_named_type(field.type))
            yield field is not None and _depends_only_on_object(field.extensions.get("strawberry-definition"))
            if selection.selection_set is not None:
                if isinstance(nested_type, GraphQLObjectType):
                    yield from _object_only_selections(nested_type, selection.selection_set, fragments)
                else:
                    yield False


def _depends_only_on_object(field: object) -> bool:
    """Whether the field depends on its object alone: not on the context, and so on no viewer, no loader and no row read later."""
    if type(field) is not StrawberryField or field.extensions or field.permission_classes:
        return False
    resolver: Any = cast("Any", field).base_resolver
    return resolver is None or (not resolver.is_async and resolver.info_parameter is None)
