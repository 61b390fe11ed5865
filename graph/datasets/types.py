"""Datasets and their versions."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from db.core.page import MAX_SIZE
from db.queries import accounts, artifacts, datasets, jobs, tags, versions
from graph.accounts.types import Profile, User
from graph.core.context import Info
from graph.core.costs import PROFILE, costs
from graph.core.edges import connection, extend, many, one
from graph.core.errors import BadUserInput
from graph.core.ids import Node
from graph.core.loading import identity
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.scalars import JSON, BigInt
from graph.datasets.enums import DatasetSource, DatasetVersionStatus, FileFormat, Modality, ProblemType, SchemaPolicy
from graph.datasets.files import Artifact
from graph.datasets.inputs import DatasetFilter, DatasetOrder
from graph.datasets.profiles import Column, DatasetProfile, ValidationIssue
from graph.jobs.outputs import job_output
from graph.tags.types import Tag, Taggable, tags_of

if TYPE_CHECKING:
    from graph.jobs.types import Job


@strawberry.type(
    description="A container of versions. Its name and description can change; the data of a version never changes once it is READY."
)
class Dataset(Node, Taggable, prefix="dataset", found_by=datasets.live_by_id, scope=Scope.READ):
    owner_id: strawberry.Private[UUID]
    created_by_id: strawberry.Private[UUID | None]
    name: str = strawberry.field(description="Unique among the owner's datasets, ignoring case.")
    description: str | None = strawberry.field(description="Free text that describes its content.")
    modality: Modality = strawberry.field(description="The kind of its data.")
    problem_type: ProblemType | None = strawberry.field(description="The task of models trained on it, if known.")
    target_column: str | None = strawberry.field(description="The column that models predict, unless a training step names another.")
    source: DatasetSource = strawberry.field(description="The origin of its data.")
    schema_policy: SchemaPolicy = strawberry.field(description="What happens to a version that breaks the accepted schema.")
    metadata: JSON = strawberry.field(description="An object for the owner's own use.")
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")
    deleted_at: datetime | None = strawberry.field(
        description="When it was deleted. A deleted one is absent from lists and lookups, but still reachable through edges."
    )
    purged_at: datetime | None = strawberry.field(
        description="When its contents were removed for good; this row is what lineage needs of it."
    )
    owner: User = one(accounts.by_id, key="owner_id", description="The account that owns it: a person's, or a team's.")
    created_by: Profile | None = one(
        accounts.profile_by_id, key="created_by_id", description="Who made it, such as a member of the team; null if that was not kept."
    )
    tags: list[Tag] = tags_of(tags.of_dataset)
    current_version: "DatasetVersion | None" = one(versions.current, description="The READY version with the highest number.")
    versions: "Connection[DatasetVersion]" = connection(versions.of_dataset, description="Its versions, newest first.")

    @strawberry.field(description="The version with this number, READY or not.")
    async def version(
        self, info: Info, number: Annotated[int, strawberry.argument(description="Its number; the first version is 1.")]
    ) -> "DatasetVersion | None":
        return await info.context.loaders.one(versions.by_number, DatasetVersion.of).load((self.uuid, number))


@job_output(versions.by_id)
@strawberry.type(description="One state of a dataset's data. Once READY it never changes, so whatever was made of it can be traced to it.")
class DatasetVersion(Node, prefix="version", found_by=versions.live_by_id, scope=Scope.READ):
    dataset_id: strawberry.Private[UUID]
    produced_by_id: strawberry.Private[UUID | None]
    number: int = strawberry.field(description="Counts up from 1 within the dataset; failed versions keep their numbers.")
    label: str | None = strawberry.field(description="An optional name.")
    status: DatasetVersionStatus = strawberry.field(description="Its status; only a READY version can be used.")
    source: DatasetSource = strawberry.field(description="The origin of its data.")
    original_filename: str | None = strawberry.field(description="The name of the uploaded file; null if there was none.")
    format: FileFormat = strawberry.field(description="The detected format of the raw file; UNKNOWN until the file has been inspected.")
    size_bytes: BigInt | None = strawberry.field(description="The size of the raw file in bytes, once it has arrived.")
    sha256: str | None = strawberry.field(description="The SHA-256 of the raw file in hexadecimal, once it has been read.")
    row_count: BigInt | None = strawberry.field(description="How many rows it has, once it is READY.")
    column_count: int | None = strawberry.field(description="How many columns it has, once it is READY.")
    item_count: BigInt | None = strawberry.field(
        description="How many items it has, those that cannot be read included, once it is READY; null for a table."
    )
    created_at: datetime = strawberry.field(description="When it was announced, before its data arrived.")
    ready_at: datetime | None = strawberry.field(description="When it became READY.")
    deleted_at: datetime | None = strawberry.field(
        description="When it was deleted by itself; edges still lead to it, but no longer to its files and rows. `dataset.deletedAt` tells when all were."
    )
    purged_at: datetime | None = strawberry.field(
        description="When its contents were removed for good; this row is what lineage needs of it."
    )
    dataset: Dataset = one(datasets.by_id, key="dataset_id", description="The dataset that it belongs to, even if that is deleted.")
    produced_by: Annotated["Job", strawberry.lazy("graph.jobs.types")] | None = one(
        jobs.by_id, key="produced_by_id", description="The job that produced its data: an ingest, or the pipeline run that derived it."
    )
    columns: list[Column] = many(
        versions.columns, metadata=costs(entries=30), description="Its columns, in the order of the file; empty until it is READY."
    )
    issues: list[ValidationIssue] = many(
        versions.issues, metadata=costs(entries=30), description="The problems found in the file, with row and column; at most 1,000."
    )
    profile: DatasetProfile | None = one(versions.profile_of_version, metadata=costs(PROFILE), description="Its newest profile.")
    raw_file: Artifact | None = one(artifacts.raw_of_version, description="The uploaded file, unchanged; null if its dataset is deleted.")
    processed_file: Artifact | None = one(
        artifacts.processed_of_version, description="Its rows as Parquet, with typed columns; null if its dataset is deleted."
    )

    @strawberry.field(
        metadata=costs(5),
        description="Its first rows, each an object of cells by column; empty until it is READY, and if its dataset is deleted. An infinite"
        " number is null: `infiniteCount` of the column's profile tells how many there are.",
    )
    async def preview(
        self, info: Info, first: Annotated[int, strawberry.argument(description="How many rows to return, 0 to 100.")] = 20
    ) -> list[JSON]:
        if not 0 <= first <= MAX_SIZE:
            raise BadUserInput(f"`first` is {first}; it must be between 0 and {MAX_SIZE}.")
        rows = await info.context.loaders.many(versions.previews, identity).load(self.uuid)
        return rows[:first]


extend(
    User,
    "datasets",
    Connection[Dataset],
    connection(datasets.of_owner, filtered_by=DatasetFilter, ordered_by=DatasetOrder, description="The datasets that the user owns."),
)
