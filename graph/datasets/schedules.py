"""Import schedules, and the mutations on them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import strawberry
from strawberry import ID, Maybe

from db.queries import datasets, jobs, schedules
from db.services import import_schedules
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import extend, many, one
from graph.core.ids import Node, decode
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidInput, NotFound, QuotaExceeded
from graph.datasets.inputs import ReadingOptionsInput
from graph.datasets.types import Dataset

if TYPE_CHECKING:
    from graph.jobs.types import Job

_CRON = (
    "When it runs, as a cron expression of minute, hour, day, month and weekday, such as `30 6 * * 1-5`; two runs are 5 minutes apart or more. Where the"
    " clock is changed, what falls into the missing hour runs after it, and what falls into the doubled hour runs once."
)


@strawberry.type(
    description="An address whose file is imported again and again, each time as the next version of a dataset. Of runs that were missed, such as while"
    " no worker ran, one is made up. While the import before has not ended, a run is left out."
)
class ImportSchedule(Node, prefix="schedule", found_by=schedules.live_by_id, scope=Scope.READ):
    dataset_id: strawberry.Private[UUID]
    last_job_id: strawberry.Private[UUID | None]
    url: str = strawberry.field(description="What is imported: an `https` address, or a location in S3.")
    cron: str = strawberry.field(description="When it runs, as a cron expression.")
    timezone: str = strawberry.field(description="The time zone of the cron expression, such as `Europe/Berlin`.")
    is_active: bool = strawberry.field(
        description="Whether it runs. It is switched off when it is due and who made it may not write to the dataset any more."
    )
    next_at: datetime | None = strawberry.field(description="When it runs next; null while it is not active.")
    last_job: Annotated["Job", strawberry.lazy("graph.jobs.types")] | None = one(
        jobs.by_id, key="last_job_id", description="The IMPORT job of its last run; null before the first."
    )
    dataset: Dataset = one(datasets.by_id, key="dataset_id", description="The dataset that gets the versions.")


extend(
    Dataset,
    "schedules",
    list[ImportSchedule],
    many(
        schedules.of_dataset, metadata=costs(entries=5), description="The schedules by which files are imported into it, the oldest first."
    ),
)


@strawberry.input(description="A schedule to import a file by.")
class CreateImportScheduleInput:
    dataset_id: ID = strawberry.field(description="The dataset that gets a version with each run.")
    url: str = strawberry.field(description="What is imported, as `importDataset` takes it.")
    cron: str = strawberry.field(description=_CRON)
    timezone: str = strawberry.field(default="UTC", description="The time zone of the cron expression, such as `Europe/Berlin`.")
    reading: ReadingOptionsInput | None = strawberry.field(default=None, description="How to read the files, where detection would fail.")


@strawberry.input(
    description="Changes to a schedule. Omitted fields stay unchanged; only `reading` can be null. The next run is counted from now."
)
class UpdateImportScheduleInput:
    id: ID = strawberry.field(description="The schedule.")
    url: Maybe[str | None] = strawberry.field(description="What is imported, as `importDataset` takes it.")
    cron: Maybe[str | None] = strawberry.field(description=_CRON)
    timezone: Maybe[str | None] = strawberry.field(description="The time zone of the cron expression, such as `Europe/Berlin`.")
    is_active: Maybe[bool | None] = strawberry.field(description="False to stop it for a while.")
    reading: Maybe[ReadingOptionsInput | None] = strawberry.field(description="How to read the files; null leaves all to detection.")

    def changes(self) -> dict[str, Any]:
        """Return the given fields as columns."""
        fields = {"url": self.url, "cron": self.cron, "timezone": self.timezone, "is_active": self.is_active}
        changes: dict[str, Any] = {name: change.value for name, change in fields.items() if change is not None}
        if self.reading is not None:
            changes["reading"] = None if self.reading.value is None else self.reading.value.options()
        return changes


@strawberry.input(description="The schedule to delete.")
class DeleteImportScheduleInput:
    id: ID = strawberry.field(description="The schedule.")


@strawberry.type(description="The schedule was created.")
class CreateImportSchedulePayload:
    schedule_id: strawberry.Private[UUID]
    schedule: ImportSchedule = one(schedules.by_id, key="schedule_id", description="The new schedule.")


@strawberry.type(description="The schedule was changed.")
class UpdateImportSchedulePayload:
    schedule_id: strawberry.Private[UUID]
    schedule: ImportSchedule = one(schedules.by_id, key="schedule_id", description="The changed schedule.")


@strawberry.type(description="The schedule was deleted; the versions that it imported are kept.")
class DeleteImportSchedulePayload:
    dataset_id: strawberry.Private[UUID]
    deleted_id: ID = strawberry.field(description="The id of the deleted schedule, to remove it from caches.")
    dataset: Dataset = one(datasets.by_id, key="dataset_id", description="The dataset that it was of.")


CreateImportScheduleResult = Annotated[
    CreateImportSchedulePayload | NotFound | InvalidInput | QuotaExceeded,
    strawberry.union("CreateImportScheduleResult", description="The possible results of `createImportSchedule`."),
]
UpdateImportScheduleResult = Annotated[
    UpdateImportSchedulePayload | NotFound | InvalidInput,
    strawberry.union("UpdateImportScheduleResult", description="The possible results of `updateImportSchedule`."),
]
DeleteImportScheduleResult = Annotated[
    DeleteImportSchedulePayload | NotFound,
    strawberry.union("DeleteImportScheduleResult", description="The possible results of `deleteImportSchedule`."),
]


@strawberry.type
class Schedules:
    @mutation(description="Import a file again and again, by a cron expression.")
    async def create_import_schedule(
        self, info: Info, input: Annotated[CreateImportScheduleInput, strawberry.argument(description="The schedule to create.")]
    ) -> CreateImportScheduleResult:
        new = import_schedules.NewSchedule(
            dataset_id=decode("dataset", input.dataset_id),
            url=input.url,
            cron=input.cron,
            timezone=input.timezone,
            reading=None if input.reading is None else input.reading.options(),
        )
        async with info.context.work() as work:
            schedule_id = await import_schedules.create(work, new)
        return CreateImportSchedulePayload(schedule_id=schedule_id)

    @mutation(description="Change what a schedule imports and when, or stop it for a while.")
    async def update_import_schedule(
        self, info: Info, input: Annotated[UpdateImportScheduleInput, strawberry.argument(description="The changes.")]
    ) -> UpdateImportScheduleResult:
        async with info.context.work() as work:
            schedule_id = await import_schedules.change(work, decode("schedule", input.id), input.changes())
        return UpdateImportSchedulePayload(schedule_id=schedule_id)

    @mutation(description="Delete a schedule. An import that runs goes on.")
    async def delete_import_schedule(
        self, info: Info, input: Annotated[DeleteImportScheduleInput, strawberry.argument(description="The schedule to delete.")]
    ) -> DeleteImportScheduleResult:
        async with info.context.work() as work:
            dataset_id = await import_schedules.remove(work, decode("schedule", input.id))
        return DeleteImportSchedulePayload(deleted_id=input.id, dataset_id=dataset_id)
