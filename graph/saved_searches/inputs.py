"""Inputs of mutations on saved searches."""

from typing import Any

import strawberry
from strawberry import ID, Maybe

from graph.core.scalars import JSON
from graph.search.enums import SearchType

_FILTER = "An object as the list takes it as `filter`, such as `{status: [FAILED]}` of runs."
_ORDER = "An object as the list takes it as `orderBy`"


@strawberry.input(description="The search to save.")
class SaveSearchInput:
    name: str = strawberry.field(description="Unique among the owner's saved searches, ignoring case; 1 to 200 characters.")
    target: SearchType = strawberry.field(description="The list: that of this type.")
    filter: JSON | None = strawberry.field(default=None, description=_FILTER)
    order_by: JSON | None = strawberry.field(default=None, description=f"{_ORDER}; its own order if left out.")
    is_pinned: bool = strawberry.field(default=False, description="Whether it is to stand before those that are not pinned.")
    owner_id: ID | None = strawberry.field(
        default=None, description="Who is to own it: a team in which you are MEMBER or ADMIN; you if left out."
    )


@strawberry.input(description="Changes to a saved search. Omitted fields stay unchanged.")
class UpdateSavedSearchInput:
    id: ID = strawberry.field(description="The saved search.")
    name: Maybe[str | None] = strawberry.field(description="A new name; it cannot be cleared.")
    filter: Maybe[JSON | None] = strawberry.field(description=f"{_FILTER} Null for none.")
    order_by: Maybe[JSON | None] = strawberry.field(description=f"{_ORDER}; null for its own order.")
    is_pinned: Maybe[bool | None] = strawberry.field(
        description="Whether it stands before those that are not pinned; it cannot be cleared."
    )

    def changes(self) -> dict[str, Any]:
        """Return the given fields; None clears one."""
        fields = {"name": self.name, "filter": self.filter, "order_by": self.order_by, "is_pinned": self.is_pinned}
        return {name: change.value for name, change in fields.items() if change is not None}


@strawberry.input(description="The saved search to delete.")
class DeleteSavedSearchInput:
    id: ID = strawberry.field(description="The saved search.")


@strawberry.input(description="The saved search that is used.")
class UseSavedSearchInput:
    id: ID = strawberry.field(description="The saved search.")
