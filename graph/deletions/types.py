"""What was deleted and can be restored."""

from datetime import datetime
from uuid import UUID

import strawberry

from db.queries import accounts, datasets, deletions, experiments, models, pipelines, runs, studies, versions
from graph.accounts.types import Profile, User
from graph.core.context import Info
from graph.core.edges import connection, extend, one
from graph.core.ids import NODE_REGISTRY, Node
from graph.core.loading import Batch
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.scalars import BigInt
from graph.deletions.enums import DeletedKind

# The id prefix and the batch of each kind, deleted rows included.
SUBJECTS: dict[DeletedKind, tuple[str, Batch]] = {
    DeletedKind.DATASET: ("dataset", datasets.by_id),
    DeletedKind.PIPELINE: ("pipeline", pipelines.by_id),
    DeletedKind.MODEL: ("model", models.by_id),
    DeletedKind.EXPERIMENT: ("experiment", experiments.by_id),
    DeletedKind.STUDY: ("study", studies.by_id),
    DeletedKind.DATASET_VERSION: ("version", versions.by_id),
    DeletedKind.MODEL_VERSION: ("mversion", models.version_by_id),
    DeletedKind.RUN: ("run", runs.by_id),
}


async def load_subject(info: Info, kind: DeletedKind, key: UUID) -> Node:
    """The thing itself, deleted or not."""
    prefix, batch = SUBJECTS[kind]
    return await info.context.loaders.one(batch, NODE_REGISTRY[prefix].type.of).load(key)


@strawberry.type(description="One thing that was deleted by itself and can be restored with all that is a part of it.")
class Deleted(Node, prefix="deletion", found_by=deletions.by_id, scope=Scope.READ):
    owner_id: strawberry.Private[UUID]
    created_by_id: strawberry.Private[UUID | None]
    kind: DeletedKind = strawberry.field(description="What it is.")
    name: str = strawberry.field(
        description="The name that it had, of a version with its number; if a name is taken by now, it is restored with a number behind it."
    )
    created_at: strawberry.Private[datetime]
    restorable_until: datetime = strawberry.field(description="Until when `restore` brings it back.")
    size_bytes: strawberry.Private[int]
    owner: User = one(accounts.by_id, key="owner_id", description="The account that owns it: a person's, or a team's.")
    deleted_by: Profile | None = one(
        accounts.profile_by_id, key="created_by_id", description="Who deleted it, such as a member of the team; null if that was not kept."
    )

    @strawberry.field(description="When it was deleted.")
    def deleted_at(self) -> datetime:
        return self.created_at

    @strawberry.field(
        description="How many bytes only it stored when it was deleted: files that something else shares do not count. They count in the storage"
        " quota until it is purged."
    )
    def bytes(self) -> BigInt:
        return BigInt(self.size_bytes)

    @strawberry.field(description="The thing itself, whose id `restore` takes; it is in no list.")
    async def subject(self, info: Info) -> Node:
        return await load_subject(info, self.kind, self.uuid)


extend(
    User,
    "deleted",
    Connection[Deleted],
    connection(deletions.of_owner, description="What the account deleted and can restore, the latest first."),
)
