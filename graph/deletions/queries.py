"""Root queries for what was deleted."""

from datetime import datetime
from typing import Annotated

import strawberry
from strawberry import ID

from db.queries import deletions
from db.services import deletions as deletion_services
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import listing
from graph.core.ids import NODE_REGISTRY, Node, parse
from graph.core.paging import Connection
from graph.core.permissions import query
from graph.core.problems import Blocked, Problem
from graph.core.scalars import JSON, BigInt
from graph.deletions.types import SUBJECTS, Deleted, load_subject

COST = 10  # it counts all that is a part of something


@strawberry.type(description="What would happen if it were deleted now. Nothing is reserved: it may be otherwise a moment later.")
class DeletionPreview:
    told: strawberry.Private[deletion_services.Preview]
    bytes: BigInt = strawberry.field(description="How many bytes only it stores, which count in the storage quota until it is purged.")
    restorable_until: datetime | None = strawberry.field(description="Until when `restore` would bring it back.")

    @strawberry.field(description="What would be deleted.")
    async def subject(self, info: Info) -> Node:
        return await load_subject(info, self.told.kind, self.told.id)

    @strawberry.field(
        description="How many of which types no look-up would find any more, itself included: `{Dataset: 1, DatasetVersion: 3, Artifact: 6}`. A type of which"
        " there is none is left out."
    )
    def counts(self) -> JSON:
        prefix, _ = SUBJECTS[self.told.kind]
        return {NODE_REGISTRY[prefix].type.__name__: 1, **self.told.parts}

    @strawberry.field(metadata=costs(entries=1), description="All that keeps it from being deleted now; empty if nothing does.")
    def blockers(self) -> list[Problem]:
        return [Blocked.of(blocker) for blocker in self.told.blockers]


@strawberry.type
class DeletionQueries:
    @query(
        metadata=costs(COST),
        description="What deleting something would take away, and what keeps it from being deleted; null for what you may not see, is deleted already, or is"
        " nothing that can be restored.",
    )
    async def deletion_preview(
        self, info: Info, id: Annotated[ID, strawberry.argument(description="The id of what might be deleted.")]
    ) -> DeletionPreview | None:
        parsed = parse(id)
        if parsed is None:
            return None
        async with info.context.work() as work:
            told = await deletion_services.preview(work, *parsed)
        return None if told is None else DeletionPreview(told=told, bytes=BigInt(told.size), restorable_until=told.restorable_until)

    deleted: Connection[Deleted] = listing(
        deletions.listing,
        description="What you and your teams deleted and can restore, the latest first; for admins, everybody's. What was deleted with an account is"
        " restored with it and not listed.",
    )
