"""Exports of versions and lists."""

from datetime import datetime
from uuid import UUID

import strawberry

from db.queries import accounts, artifacts, exports, jobs, models, versions
from db.queries.list_exports import LISTS
from graph.accounts.types import Profile, User
from graph.core.costs import costs
from graph.core.edges import connection, extend, many, one
from graph.core.ids import Node, encode
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.scalars import JSON, BigInt
from graph.datasets.files import Artifact
from graph.datasets.types import DatasetVersion
from graph.exports.enums import ExportFormat, ExportTarget
from graph.exports.inputs import ExportFilter, ExportOrder
from graph.jobs.enums import JobStatus
from graph.jobs.outputs import job_output
from graph.jobs.types import Job
from graph.models.types import ModelVersion


@job_output(exports.by_id)
@strawberry.type(description="A version in another format, or the rows of a list, as files that can be downloaded until it expires.")
class Export(Node, prefix="export", found_by=exports.by_id, scope=Scope.READ):
    owner_id: strawberry.Private[UUID]
    created_by_id: strawberry.Private[UUID | None]
    job_id: strawberry.Private[UUID]
    dataset_version_id: strawberry.Private[UUID | None]
    model_version_id: strawberry.Private[UUID | None]
    list_parent_id: strawberry.Private[UUID | None]
    target: ExportTarget | None = strawberry.field(description="The list whose rows it has; null if it has a version.")
    filter: JSON | None = strawberry.field(description="The filter of the list, as it was given; null for none.")
    order_by: JSON | None = strawberry.field(description="The order of the list, as it was given; null for the list's own.")
    columns: list[str] | None = strawberry.field(
        metadata=costs(entries=1), description="The columns that it has of the list, in order; null if it has a version."
    )
    format: ExportFormat = strawberry.field(description="The format of its files.")
    status: JobStatus = strawberry.field(description="The status of its job; it has files once that is COMPLETED.")
    size_bytes: BigInt | None = strawberry.field(
        description="The bytes of all its files, also after they were removed; null until it is complete."
    )
    options: JSON = strawberry.field(description="All options of its format that apply, defaults included, as an object.")
    created_at: datetime = strawberry.field(description="When it was requested.")
    expires_at: datetime | None = strawberry.field(
        description="When its files are removed, or were; null until it is complete. They stay `TRELLIS_EXPORT_RETENTION` seconds, 7 days by default."
    )

    @strawberry.field(description="The id of what the list is under, such as the study of TRIALS; null if that is nothing.")
    def parent_id(self) -> strawberry.ID | None:
        if self.target is None or self.list_parent_id is None:
            return None
        parent = LISTS[self.target].parent
        return None if parent is None else strawberry.ID(encode(parent.prefix, self.list_parent_id))

    files: list[Artifact] = many(
        artifacts.of_export,
        metadata=costs(entries=5),
        description="Its files, the data first. Beside data lies `croissant.json`, which describes them in Croissant 1.0, each with its SHA-256."
        " Empty until it is complete, after it has expired, and if its dataset or model is deleted.",
    )
    job: Job = one(jobs.by_id, key="job_id", description="The job that makes it; after a retry, the new one.")
    version: DatasetVersion | None = one(
        versions.by_id,
        key="dataset_version_id",
        description="The dataset version that it has in another format; null if it has a model or a list.",
    )
    model_version: ModelVersion | None = one(
        models.version_by_id,
        key="model_version_id",
        description="The model version that it has in another format; null if it has data or a list.",
    )
    owner: User = one(accounts.by_id, key="owner_id", description="The account that owns it: a person's, or a team's.")
    created_by: Profile | None = one(
        accounts.profile_by_id, key="created_by_id", description="Who made it, such as a member of the team; null if that was not kept."
    )


extend(
    DatasetVersion,
    "exports",
    Connection[Export],
    connection(exports.of_version, filtered_by=ExportFilter, ordered_by=ExportOrder, description="Its exports, newest first."),
)
extend(
    ModelVersion,
    "exports",
    Connection[Export],
    connection(exports.of_model_version, filtered_by=ExportFilter, ordered_by=ExportOrder, description="Its exports, newest first."),
)
