"""Who may call a root field. Each declares it; one that does not is refused when the schema is built, so nothing is open by oversight.

Below the roots no field asks again: what a viewer may not see is left out by the policies of the tables, see `db.core.policy`.
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
    """What a signed-in user needs to be."""

    READ = "signed in"
    WRITE = "signed in, with a role that may write"


def require_scope(scope: Scope, context: Context) -> None:
    """Raises `Unauthenticated` or `Forbidden`."""
    viewer = context.signed_in_viewer
    if scope is Scope.WRITE:
        viewer.require_write()


class RootField(StrawberryField):
    """A root field with a resolver of its own."""

    scope: Scope

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied.scope = self.scope
        return copied

    def get_result(self, source: Any, info: Info | None, args: list[Any], kwargs: Any) -> Any:
        assert info is not None
        require_scope(self.scope, info.context)
        if self.scope is Scope.WRITE:
            info.context.reset_loaders()  # mutations of one operation follow each other, and none may answer with what an earlier one read
        return super().get_result(source, info, args, kwargs)


Resolver = Callable[..., Any]
Metadata = dict[str, Any] | None  # what the field costs, see `graph.core.costs`


def _root_field(scope: Scope, description: str, metadata: Metadata, *, is_subscription: bool = False) -> Callable[[Resolver], Any]:
    def declare(resolver: Resolver) -> RootField:
        field = RootField(description=description, metadata=metadata, is_subscription=is_subscription)
        field.scope = scope
        return field(resolver)

    return declare


def query(*, description: str, metadata: Metadata = None) -> Callable[[Resolver], Any]:
    """A query for everyone who is signed in."""
    return _root_field(Scope.READ, description, metadata)


def mutation(*, description: str, metadata: Metadata = None) -> Callable[[Resolver], Any]:
    """A mutation for those who may write."""
    return _root_field(Scope.WRITE, description, metadata)


def subscription(*, description: str, metadata: Metadata = None) -> Callable[[Resolver], Any]:
    """A subscription for everyone who is signed in."""
    return _root_field(Scope.READ, description, metadata, is_subscription=True)


def scopes(schema: strawberry.Schema) -> dict[str, Scope | None]:
    """Every root field, as `Type.field`, and who may call it; None where nobody said."""
    core_schema = schema._schema  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - Strawberry has no public way to it
    roots: list[GraphQLObjectType] = [
        root for root in (core_schema.query_type, core_schema.mutation_type, core_schema.subscription_type) if root is not None
    ]
    scope_by_field: dict[str, Scope | None] = {}
    for root in roots:
        for name, field in root.fields.items():
            scope_by_field[f"{root.name}.{name}"] = getattr(field.extensions.get("strawberry-definition"), "scope", None)
    return scope_by_field


def require_declared_scopes(schema: strawberry.Schema) -> None:
    """Raises `TypeError` when a root field does not say who may call it."""
    undeclared = [name for name, scope in scopes(schema).items() if scope is None]
    if undeclared:
        raise TypeError(f"These root fields do not declare who may call them: {', '.join(undeclared)}. Use graph.core.permissions.")
