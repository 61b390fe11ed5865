"""Scopes: what a viewer must be allowed to do to select a field.

Each root field and each type with an id declares one, and a field of such a type inherits it unless it names another, `metadata=scoped(...)`.
Types without an id are parts of what leads to them, and are selected with it. Building the schema fails where a scope is missing, so nothing is
open by oversight. Which rows a viewer sees is decided by the policies of the tables, see `db.core.policy`.

Root fields are checked when they are resolved. What an operation needs below them is known from its document, see `graph.execution.scopes`.
"""

from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from functools import cached_property
from inspect import isawaitable
from typing import Any, Self, cast

import strawberry
from graphql import GraphQLField, GraphQLNamedType, GraphQLObjectType, GraphQLSchema, get_named_type
from strawberry.types.field import StrawberryField
from strawberry.types.union import StrawberryUnion

from db.core.audit import Origin, acting
from db.core.viewer import ApiScope
from graph.core.context import Context, Info
from graph.core.problems import result_or_problem

METADATA_KEY = "scope"


class Scope(StrEnum):
    """What a field requires: one of the scopes of `ApiScope`, or for root fields something that no API key can be given."""

    PUBLIC = "public"
    """Nothing: nobody needs to be signed in."""
    SESSION = "session"
    """A session: an API key makes no keys, and does not change how its owner signs in."""
    READ = ApiScope.READ.value
    WRITE = ApiScope.WRITE.value
    RUN = ApiScope.RUN.value
    TRACK = ApiScope.TRACK.value
    ACCOUNT = ApiScope.ACCOUNT.value
    BILLING = ApiScope.BILLING.value
    ADMIN = ApiScope.ADMIN.value

    @property
    def api_scope(self) -> ApiScope | None:
        """The scope of API keys; None for PUBLIC and SESSION."""
        return _API_SCOPES.get(self.value)


_API_SCOPES = {scope.value: scope for scope in ApiScope}


def scoped(scope: Scope) -> dict[str, Any]:
    """Return the metadata of a field whose scope is not that of its type."""
    assert scope.api_scope is not None, "below the roots, fields need scopes that a key can have"
    return {METADATA_KEY: scope}


def require_scope(scope: Scope, context: Context, place: str) -> None:
    """Raises `Unauthenticated` or `Forbidden`. `place` is the field that needs the scope."""
    if scope is Scope.PUBLIC:
        return
    viewer = context.signed_in_viewer
    if scope.api_scope is None:
        viewer.require_session()
    else:
        viewer.require_scope(scope.api_scope, place)


class RootField(StrawberryField):
    """A root field with a resolver."""

    scope: Scope
    is_mutation: bool = False

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied.scope, copied.is_mutation = self.scope, self.is_mutation
        return copied

    def get_result(self, source: Any, info: Info | None, args: list[Any], kwargs: Any) -> Any:
        assert info is not None
        require_scope(self.scope, info.context, info.field_name)
        if self.is_mutation:
            info.context.reset_loaders()  # the mutations of an operation run in sequence, and none may return rows that an earlier one read
        result = super().get_result(source, info, args, kwargs)
        if not self.is_mutation or not isawaitable(result):
            return result
        return _recorded(info.context.origin, result_or_problem(result, self.possible_results, kwargs))

    @cached_property
    def possible_results(self) -> frozenset[Any]:
        """The members of the union that a mutation returns."""
        return frozenset(self.type.types) if isinstance(self.type, StrawberryUnion) else frozenset()


async def _recorded(origin: Origin, result: Awaitable[Any]) -> Any:
    """Await a mutation; what it changes is recorded in the audit."""
    with acting(origin):
        return await result


Resolver = Callable[..., Any]
Metadata = dict[str, Any] | None  # the cost of the field, see `graph.core.costs`


def _root_field(
    scope: Scope, description: str, metadata: Metadata, *, name: str | None = None, is_subscription: bool = False, is_mutation: bool = False
) -> Callable[[Resolver], Any]:
    def declare(resolver: Resolver) -> RootField:
        field = RootField(graphql_name=name, description=description, metadata=metadata, is_subscription=is_subscription)
        field.scope, field.is_mutation = scope, is_mutation
        return field(resolver)

    return declare


def query(*, description: str, metadata: Metadata = None, scope: Scope = Scope.READ) -> Callable[[Resolver], Any]:
    """Declare a query, for every user and for keys that may read unless it names another scope."""
    return _root_field(scope, description, metadata)


def mutation(
    *, description: str, metadata: Metadata = None, scope: Scope = Scope.WRITE, name: str | None = None
) -> Callable[[Resolver], Any]:
    """Declare a mutation, for users and keys that may write unless it names another scope. `name` is for one that is no camel case of the method's."""
    return _root_field(scope, description, metadata, name=name, is_mutation=True)


def subscription(*, description: str, metadata: Metadata = None, scope: Scope = Scope.READ) -> Callable[[Resolver], Any]:
    """Declare a subscription, for every user and for keys that may read unless it names another scope."""
    return _root_field(scope, description, metadata, is_subscription=True)


def field_scope(type_: GraphQLObjectType, field: GraphQLField) -> Scope | None:
    """Return the scope of a field; None for one of a type without an id, and for a root field that declares none."""
    definition: Any = field.extensions.get("strawberry-definition")
    metadata: dict[str, Any] = getattr(definition, "metadata", None) or {}
    own: Scope | None = getattr(definition, "scope", None) or metadata.get(METADATA_KEY)
    return own or type_scope(type_)


def type_scope(type_: GraphQLNamedType) -> Scope | None:
    """Return the scope of a type with an id; None for any other."""
    definition: Any = type_.extensions.get("strawberry-definition")
    return getattr(getattr(definition, "origin", None), "scope", None)


def scopes(schema: strawberry.Schema) -> dict[str, Scope | None]:
    """Return the scopes by `Type.field`: those of root fields, of fields of types with an id, and of others that name one themselves.

    A root field that declares none has None.
    """
    core_schema = _core(schema)
    roots = {core_schema.query_type, core_schema.mutation_type, core_schema.subscription_type}
    return {
        f"{type_.name}.{name}": scope
        for type_, name, field in _fields(core_schema)
        if (scope := field_scope(type_, field)) is not None or type_ in roots
    }


def require_declared_scopes(schema: strawberry.Schema) -> None:
    """Raise `TypeError` if a root field declares no scope, or a field another one than the type with an id that it leads to needs."""
    undeclared = [name for name, scope in scopes(schema).items() if scope is None]
    if undeclared:
        raise TypeError(
            f"These root fields declare no scope: {', '.join(undeclared)}. Use `query`, `mutation` or `subscription` of graph.core.permissions."
        )
    for type_, name, field in _fields(_core(schema)):
        scope, target = field_scope(type_, field), _target(field)
        needed = type_scope(target)
        if scope is not None and needed not in {None, Scope.READ, scope}:
            assert needed is not None
            raise TypeError(f"{type_.name}.{name} leads to {target.name}, so its scope has to be {needed.name}, and is {scope.name}.")


def _core(schema: strawberry.Schema) -> GraphQLSchema:
    return schema._schema  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - Strawberry has no public accessor


def _fields(schema: GraphQLSchema) -> Iterator[tuple[GraphQLObjectType, str, GraphQLField]]:
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__"):
            yield from ((type_, name, field) for name, field in type_.fields.items())


def _target(field: GraphQLField) -> GraphQLNamedType:
    """Return the type that a field leads to; of a connection that of its nodes."""
    target: Any = cast("Any", get_named_type)(cast("Any", field).type)
    for name in ("edges", "node"):
        if isinstance(target, GraphQLObjectType) and name in target.fields:
            target = cast("Any", get_named_type)(target.fields[name].type)
    return target
