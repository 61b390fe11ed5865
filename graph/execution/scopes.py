"""What an operation needs below its root fields, and the check of single fields for a viewer whose API key lacks a part of it.

Root fields are checked when they are resolved. What is below them needs no check while an operation runs if its viewer has all that it
needs, which is known from its document: see `Needs`. Only for others each field is checked, by graphql-core's executor, which the planner
leaves such operations to. A mutation is refused before it changes anything, and a subscription before it begins, if anything below them may
not be selected: an error afterwards would say that nothing was done.

Fields of an interface are not known to be of a type with another scope; whoever returns a `Node` by an id from outside checks the type's scope,
as `node` and `nodes` do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from graphql import (
    BooleanValueNode,
    FieldNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    NamedTypeNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    is_abstract_type,
)

from db.core.viewer import ROLE_SCOPES, ApiScope, UserRole, Viewer
from graph.core.context import Context
from graph.core.permissions import Scope, field_scope

_OF_EVERY_SESSION = ROLE_SCOPES[UserRole.VIEWER]


@dataclass(frozen=True, slots=True)
class Needs:
    """The scopes that an operation needs below its root fields, each with a field that needs it.

    `may_sign_in`: one of its mutations may replace the viewer by a session, which may then have fewer scopes than the viewer before.
    """

    places: Mapping[ApiScope, str]
    may_sign_in: bool = False
    scopes: frozenset[ApiScope] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scopes", frozenset(self.places))

    def are_granted(self, viewer: Viewer | None) -> bool:
        """Whether nothing below the root fields needs to be checked while the operation runs."""
        if viewer is None:
            return self.scopes <= _OF_EVERY_SESSION
        return self.scopes <= (viewer.scopes & _OF_EVERY_SESSION if self.may_sign_in else viewer.scopes)

    def require(self, viewer: Viewer) -> None:
        """Raise `Forbidden` if the viewer lacks a scope."""
        for scope, place in self.places.items():
            viewer.require_scope(scope, place)


def operation_needs(executor: Any, coerced: Mapping[str, Any]) -> Needs:
    """Return what the operation of graphql-core's executor needs. `coerced` has the variables of `@skip` and `@include`."""
    root: GraphQLObjectType = executor.schema.get_root_type(executor.operation.operation)
    collector = _Collector(executor.schema, executor.fragments, coerced, is_root_checked=True)
    collector.collect(executor.operation.selection_set, root)
    is_public = executor.operation.operation is OperationType.MUTATION and Scope.PUBLIC in collector.root_scopes
    return Needs(collector.places, may_sign_in=is_public)


def field_error(executor: Any, parent_type: GraphQLObjectType, details: Sequence[Any]) -> Exception | None:
    """Return why the viewer may not select a field; None if they may. Root fields check themselves, but for what is below a mutation."""
    context: Context = executor.context_value
    node: FieldNode = details[0].node
    definition = executor.schema.get_field(parent_type, node.name.value)
    scope = field_scope(parent_type, definition)
    schema: GraphQLSchema = executor.schema
    try:
        if parent_type is schema.mutation_type and scope is not Scope.PUBLIC:
            _nested_needs(executor, definition, details).require(context.signed_in_viewer)
        elif scope is not None and parent_type not in {schema.query_type, schema.mutation_type, schema.subscription_type}:
            assert scope.api_scope is not None
            context.signed_in_viewer.require_scope(scope.api_scope, f"{parent_type.name}.{node.name.value}")
    except Exception as error:  # noqa: BLE001 - the caller makes it the error of the field
        return error
    return None


def _nested_needs(executor: Any, definition: Any, details: Sequence[Any]) -> Needs:
    """Return what is needed below one field."""
    collector = _Collector(executor.schema, executor.fragments, executor.variable_values.coerced)
    for detail in details:
        if detail.node.selection_set is not None:
            collector.collect(detail.node.selection_set, cast("Any", get_named_type)(definition.type))
    return Needs(collector.places)


class _Collector:
    """Collects the scopes of the fields in selections, fragments followed, each once for each type that it stands on."""

    def __init__(
        self, schema: GraphQLSchema, fragments: Mapping[str, Any], coerced: Mapping[str, Any], *, is_root_checked: bool = False
    ) -> None:
        self.places: dict[ApiScope, str] = {}
        self.root_scopes: set[Scope | None] = set()
        self._schema = schema
        self._fragments = fragments
        self._coerced = coerced
        self._roots = {schema.query_type, schema.mutation_type, schema.subscription_type} if is_root_checked else set[Any]()
        self._visited: set[tuple[str, str]] = set()

    def collect(self, selection_set: SelectionSetNode, type_: Any) -> None:
        stack: list[tuple[SelectionSetNode, Any]] = [(selection_set, type_)]
        while stack:
            selections, parent = stack.pop()
            for node in selections.selections:
                if not _is_left_out(node, self._coerced):
                    stack += self._below(node, parent)

    def _below(self, node: SelectionNode, parent: Any) -> list[tuple[SelectionSetNode, Any]]:
        """Add the scope of a field; return what is below the selection, and the type that it stands on."""
        if isinstance(node, FragmentSpreadNode):
            key = node.name.value, parent.name
            if key in self._visited:
                return []
            self._visited.add(key)
            definition = self._fragments[node.name.value].definition
            return [(definition.selection_set, self._narrowed(definition.type_condition, parent))]
        if isinstance(node, InlineFragmentNode):
            return [(node.selection_set, self._narrowed(node.type_condition, parent))]
        assert isinstance(node, FieldNode)
        name = node.name.value
        definition = parent.fields.get(name) if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) else None
        if definition is None:  # `__typename` and introspection
            return []
        if isinstance(parent, GraphQLObjectType):
            scope = field_scope(parent, definition)
            if parent in self._roots:
                self.root_scopes.add(scope)
            elif scope is not None and scope.api_scope is not None:
                self.places.setdefault(scope.api_scope, f"{parent.name}.{name}")
        return [] if node.selection_set is None else [(node.selection_set, cast("Any", get_named_type)(definition.type))]

    def _narrowed(self, condition: NamedTypeNode | None, parent: Any) -> Any:
        """Return the type that a fragment's selections stand on: where the object's type is known, an interface does not hide it."""
        type_: Any = parent if condition is None else self._schema.get_type(condition.name.value)
        return parent if isinstance(parent, GraphQLObjectType) and is_abstract_type(type_) else type_


def _is_left_out(node: SelectionNode, coerced: Mapping[str, Any]) -> bool:
    """Whether `@skip` or `@include` leaves a selection out."""
    for directive in node.directives or ():
        name = directive.name.value
        if name in {"skip", "include"}:
            value = next((argument.value for argument in directive.arguments or () if argument.name.value == "if"), None)
            condition = coerced.get(value.name.value) if isinstance(value, VariableNode) else getattr(value, "value", None)
            assert value is None or isinstance(value, VariableNode | BooleanValueNode)
            if condition is (name == "skip"):
                return True
    return False
