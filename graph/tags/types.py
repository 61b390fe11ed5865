"""Tags, and what has them."""

from datetime import datetime
from uuid import UUID

import strawberry

from db.queries import accounts, tags
from graph.accounts.types import Profile, User
from graph.core.costs import costs
from graph.core.edges import connection, extend, many, one
from graph.core.ids import Node
from graph.core.loading import Batch
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.scalars import BigInt
from graph.tags.inputs import TagFilter, TagOrder


@strawberry.type(
    description="A word that an account puts on its datasets, pipelines, models, experiments, runs and studies, to find them by."
)
class Tag(Node, prefix="tag", found_by=tags.by_id, scope=Scope.READ):
    owner_id: strawberry.Private[UUID]
    created_by_id: strawberry.Private[UUID | None]
    name: str = strawberry.field(description="Unique among the owner's tags, ignoring case.")
    slug: str = strawberry.field(
        description="The name in lower case with dashes for what is neither a letter nor a digit, for addresses; unique among the owner's tags too."
    )
    color: str = strawberry.field(description="Its color for display, as `#rrggbb`.")
    usage_count: BigInt = strawberry.field(
        description="How many things have it. Deleted ones do not count, nor do runs of a deleted experiment."
    )
    created_at: datetime = strawberry.field(description="When it was created.")
    owner: User = one(accounts.by_id, key="owner_id", description="The account that owns it: a person's, or a team's.")
    created_by: Profile | None = one(
        accounts.profile_by_id, key="created_by_id", description="Who made it, such as a member of the team; null if that was not kept."
    )


@strawberry.interface(description="What can have tags.")
class Taggable:
    id: strawberry.ID = strawberry.field(description="Its id, as that of a `Node`.")
    tags: list[Tag] = strawberry.field(description="Its tags, ordered by name; at most 50.")


def tags_of(batch: Batch) -> list[Tag]:
    """The field `tags` of a type that is `Taggable`."""
    return many(batch, metadata=costs(entries=3), description="Its tags, ordered by name; at most 50.")


extend(
    User,
    "tags",
    Connection[Tag],
    connection(tags.of_owner, filtered_by=TagFilter, ordered_by=TagOrder, description="The tags that the account owns."),
)
