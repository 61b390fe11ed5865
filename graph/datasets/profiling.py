"""The mutation that profiles a version again."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry
from strawberry import ID

from db.queries import jobs
from db.services import profiling
from graph.core.context import Info
from graph.core.costs import JOB, costs
from graph.core.edges import one
from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.core.ids import decode
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NotFound, WrongState

if TYPE_CHECKING:
    from graph.jobs.types import Job


@strawberry.input(description="The version to profile.")
class ProfileVersionInput:
    dataset_version_id: ID = strawberry.field(description="The version; it must be READY.")
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="A job was submitted that profiles the version.")
class ProfileVersionPayload:
    job_id: strawberry.Private[UUID]
    job: Annotated["Job", strawberry.lazy("graph.jobs.types")] = one(
        jobs.by_id, key="job_id", description="The PROFILE job; the profile is its output, unless the version has one by this profiler."
    )


ProfileVersionResult = Annotated[
    ProfileVersionPayload | NotFound | InvalidInput | WrongState | Conflict | InsufficientCredits,
    strawberry.union("ProfileVersionResult", description="The possible results of `profileVersion`."),
]


@strawberry.type
class Profiling:
    @mutation(
        scope=Scope.RUN,
        metadata=costs(JOB),
        description="Profile a version again, such as after an upgrade whose profiler computes more. `DatasetVersion.profile` is then the new profile; older"
        " ones stay where they are referred to. Every ingest and every pipeline profiles what it writes by itself.",
    )
    async def profile_version(
        self, info: Info, input: Annotated[ProfileVersionInput, strawberry.argument(description="The version.")]
    ) -> ProfileVersionResult:
        version_id = decode("version", input.dataset_version_id)
        async with info.context.work() as work:
            job_id = await profiling.submit(work, version_id, input.idempotency_key)
        return ProfileVersionPayload(job_id=job_id)
