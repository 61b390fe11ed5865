"""Filters and orders of lists of tags, and inputs of mutations on tags."""

from typing import Any

import strawberry
from strawberry import ID, Maybe

from graph.core.filters import DateTimeFilter, Filter, StringFilter, order_input, reference


@strawberry.input(description="Conditions on tags, all of which must hold.")
class TagFilter(Filter):
    name: StringFilter | None = strawberry.field(description="The tag's name.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was created.")
    owner_id: ID | None = reference("user", description="The owner; useful to admins, who see everybody's.")


TagOrder = order_input(
    "Tag",
    "tags",
    created_at="When it was created.",
    name="Its name, ignoring case.",
    usage_count="How many things have it.",
)

_NAME = "Unique among the owner's tags, ignoring case; 1 to 100 characters."


@strawberry.input(description="The tag to create.")
class CreateTagInput:
    name: str = strawberry.field(description=_NAME)
    color: str | None = strawberry.field(default=None, description="Its color, as `#rrggbb`; one that follows from the name if left out.")
    owner_id: ID | None = strawberry.field(
        default=None, description="Who is to own it: a team in which you are MEMBER or ADMIN; you if left out."
    )


@strawberry.input(description="Changes to a tag. Omitted fields stay unchanged; neither can be cleared.")
class UpdateTagInput:
    id: ID = strawberry.field(description="The tag.")
    name: Maybe[str | None] = strawberry.field(description=f"A new name. {_NAME} The slug follows it.")
    color: Maybe[str | None] = strawberry.field(description="A new color, as `#rrggbb`.")

    def changes(self) -> dict[str, Any]:
        """Return the given fields."""
        return {name: change.value for name, change in (("name", self.name), ("color", self.color)) if change is not None}


@strawberry.input(description="The tag to delete.")
class DeleteTagInput:
    id: ID = strawberry.field(description="The tag.")


_ID = "What to change: a dataset, a pipeline, a model, an experiment, a run or a study."
_IDS = "Several of them, all of one account; at most 100, those in `id` included."


@strawberry.input(description="What to put tags on, and the tags.")
class TagInput:
    id: ID | None = strawberry.field(default=None, description=_ID)
    ids: list[ID] | None = strawberry.field(default=None, description=_IDS)
    tags: list[str] = strawberry.field(
        description="Names of tags, ignoring case, or ids; at most 50. A name that none of the owner's tags has makes a new tag."
    )


@strawberry.input(description="What to take tags from, and the tags.")
class UntagInput:
    id: ID | None = strawberry.field(default=None, description=_ID)
    ids: list[ID] | None = strawberry.field(default=None, description=_IDS)
    tags: list[str] = strawberry.field(
        description="Names of tags, ignoring case, or ids; at most 50. Tags that it does not have are passed over."
    )
