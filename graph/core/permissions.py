"""Permissions of root fields. Each declares its scope; building the schema fails for one that does not, so none is open by oversight.

Fields below the roots check nothing: the policies of the tables omit the rows that a viewer may not see, see `db.core.policy`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Self

import strawberry
from graphql import GraphQLObjectType
from strawberry.types.field import StrawberryField

from graph.core.context import Context, Info


class Scope(StrEnum):
    """The permission that a root field requires."""

    PUBLIC = "anybody"
    READ = "signed in"
    SESSION = "signed in by a session, and not by an API key"
    WRITE = "signed in, with a role that may write"
    ADMIN = "signed in, as an admin"


def require_scope(scope: Scope, context: Context) -> None:
    """Raises `Unauthenticated` or `Forbidden`."""
    if scope is Scope.PUBLIC:
        return
    viewer = context.signed_in_viewer
    if scope is Scope.WRITE:
        viewer.require_write()
    elif scope is Scope.SESSION:
        viewer.require_session()
    elif scope is Scope.ADMIN:
        viewer.require_admin()


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
        require_scope(self.scope, info.context)
        if self.is_mutation:
            info.context.reset_loaders()  # the mutations of an operation run in sequence, and none may return rows that an earlier one read
        return super().get_result(source, info, args, kwargs)


Resolver = Callable[..., Any]
Metadata = dict[str, Any] | None  # the cost of the field, see `graph.core.costs`


def _root_field(
    scope: Scope, description: str, metadata: Metadata, *, is_subscription: bool = False, is_mutation: bool = False
) -> Callable[[Resolver], Any]:
    def declare(resolver: Resolver) -> RootField:
        field = RootField(description=description, metadata=metadata, is_subscription=is_subscription)
        field.scope, field.is_mutation = scope, is_mutation
        return field(resolver)

    return declare


def query(*, description: str, metadata: Metadata = None) -> Callable[[Resolver], Any]:
    """Declare a query for every signed-in user."""
    return _root_field(Scope.READ, description, metadata)


def mutation(*, description: str, metadata: Metadata = None, scope: Scope = Scope.WRITE) -> Callable[[Resolver], Any]:
    """Declare a mutation, for users who may write unless it names another scope."""
    return _root_field(scope, description, metadata, is_mutation=True)


def subscription(*, description: str, metadata: Metadata = None) -> Callable[[Resolver], Any]:
    """Declare a subscription for every signed-in user."""
    return _root_field(Scope.READ, description, metadata, is_subscription=True)


def scopes(schema: strawberry.Schema) -> dict[str, Scope | None]:
    """Return the scope of every root field by `Type.field`; None for one that declares none."""
    core_schema = schema._schema  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - Strawberry has no public accessor
    roots: list[GraphQLObjectType] = [
        root for root in (core_schema.query_type, core_schema.mutation_type, core_schema.subscription_type) if root is not None
    ]
    scope_by_field: dict[str, Scope | None] = {}
    for root in roots:
        for name, field in root.fields.items():
            scope_by_field[f"{root.name}.{name}"] = getattr(field.extensions.get("strawberry-definition"), "scope", None)
    return scope_by_field


def require_declared_scopes(schema: strawberry.Schema) -> None:
    """Raise `TypeError` if a root field declares no scope."""
    undeclared = [name for name, scope in scopes(schema).items() if scope is None]
    if undeclared:
        raise TypeError(
            f"These root fields declare no scope: {', '.join(undeclared)}. Use `query`, `mutation` or `subscription` of graph.core.permissions."
        )
