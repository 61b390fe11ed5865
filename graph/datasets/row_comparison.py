"""The comparison of the rows of two versions, which a job makes."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry
from strawberry import ID

from db.queries import jobs
from db.services import row_comparisons
from graph.core.context import Info
from graph.core.costs import JOB, costs
from graph.core.edges import one
from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.core.ids import decode
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NotFound, WrongState

if TYPE_CHECKING:
    from graph.jobs.types import Job


@strawberry.input(description="Two versions of one dataset, and the key of their rows.")
class CompareRowsInput:
    from_: ID = strawberry.field(name="from", description="The first version; it must be READY.")
    to: ID = strawberry.field(description="The second version; it must be READY, and of the same dataset.")
    key: list[str] = strawberry.field(
        description="The columns by which a row of one version is that of the other, 1 to 10. Both versions have them with one type, and no two"
        " rows of a version have equal keys."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="A job was submitted that compares the rows.")
class CompareRowsPayload:
    job_id: strawberry.Private[UUID]
    job: Annotated["Job", strawberry.lazy("graph.jobs.types")] = one(
        jobs.by_id, key="job_id", description="The COMPARE job; its `result` has the answer once it has completed."
    )


CompareRowsResult = Annotated[
    CompareRowsPayload | NotFound | InvalidInput | WrongState | Conflict | InsufficientCredits,
    strawberry.union("CompareRowsResult", description="The possible results of `compareRows`."),
]


@strawberry.type
class RowComparisons:
    @mutation(
        scope=Scope.RUN,
        metadata=costs(JOB),
        description="Compare the rows of two versions of a dataset by a key, in a job. Its `result` counts the rows that were `added`, `removed`, `changed` and are"
        " `unchanged`, and the changed cells of each column (`changedByColumn`), with up to 100 `samples` of each kind. Two missing values are equal. Rows of a"
        " version with equal keys end the job as FAILED with DUPLICATE_KEY. `compareVersions` compares schemas and distributions at once.",
    )
    async def compare_rows(
        self, info: Info, input: Annotated[CompareRowsInput, strawberry.argument(description="The versions and the key.")]
    ) -> CompareRowsResult:
        comparison = row_comparisons.RowComparison(
            decode("version", input.from_), decode("version", input.to), input.key, input.idempotency_key
        )
        async with info.context.work() as work:
            job_id = await row_comparisons.submit(work, comparison)
        return CompareRowsPayload(job_id=job_id)
