"""Models, their versions and the aliases that point to them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

import strawberry

from db.queries import accounts, artifacts, jobs, leaderboard, models, pipelines, runs, tags, versions
from graph.accounts.types import Profile, User
from graph.core.annotations import annotations_field
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import connection, extend, many, one
from graph.core.ids import Node
from graph.core.loading import identity
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.scalars import JSON, BigInt
from graph.datasets.enums import ProblemType
from graph.datasets.files import Artifact
from graph.datasets.types import Dataset, DatasetVersion
from graph.experiments.metrics import MetricSummary
from graph.experiments.types import Run
from graph.jobs.outputs import job_output
from graph.jobs.types import Job
from graph.models.enums import ModelFormat
from graph.models.inputs import ModelFilter, ModelOrder
from graph.pipelines.types import PipelineSnapshot
from graph.tags.types import Tag, Taggable, tags_of


@strawberry.type(
    description="A name that points to one version of a model and can be moved to another; the history of its targets is kept."
)
class ModelAlias:
    model_version_id: strawberry.Private[UUID]
    set_by_id: strawberry.Private[UUID | None]
    name: str = strawberry.field(description="The name, in lower case, such as `production`.")
    set_at: datetime = strawberry.field(description="When it was pointed to this version.")
    reason: str | None = strawberry.field(description="Why it was set, as free text.")
    version: "ModelVersion" = one(models.version_by_id, key="model_version_id", description="The version that it points to.")
    set_by: User | None = one(accounts.by_id, key="set_by_id", description="The user who set it; null if you may not see that user.")

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(
            model_version_id=row.model_version_id,
            set_by_id=row.set_by_id,
            name=row.name,
            set_at=row.set_at,
            reason=row.reason,
        )


@strawberry.type(description="A named series of trained versions.")
class Model(Node, Taggable, prefix="model", found_by=models.live_by_id, scope=Scope.READ):
    owner_id: strawberry.Private[UUID]
    created_by_id: strawberry.Private[UUID | None]
    name: str = strawberry.field(description="Unique among the owner's models, ignoring case.")
    description: str | None = strawberry.field(description="Free text that describes its purpose.")
    annotations: JSON = annotations_field()
    problem_type: ProblemType | None = strawberry.field(
        description="The task of all its versions, set by the first one whose task is known."
    )
    created_at: datetime = strawberry.field(description="When it was made: with its first version, or by MLflow's client before it.")
    updated_at: datetime = strawberry.field(description="When it was last changed; a new version is a change too.")
    deleted_at: datetime | None = strawberry.field(description="When it was deleted; edges still lead to it, but no longer to its files.")
    purged_at: datetime | None = strawberry.field(
        description="When its contents were removed for good; this row is what lineage needs of it."
    )
    owner: User = one(accounts.by_id, key="owner_id", description="The account that owns it: a person's, or a team's.")
    created_by: Profile | None = one(
        accounts.profile_by_id, key="created_by_id", description="Who made it, such as a member of the team; null if that was not kept."
    )
    tags: list[Tag] = tags_of(tags.of_model)
    latest_version: "ModelVersion | None" = one(models.latest_version, description="The version with the highest number.")
    versions: "Connection[ModelVersion]" = connection(models.of_model, description="Its versions, newest first.")
    aliases: list[ModelAlias] = many(
        models.aliases_of_model, metadata=costs(entries=3), description="Its present aliases, ordered by name."
    )

    alias_history: "Connection[ModelAliasEvent]" = connection(
        models.alias_history, description="What its aliases were pointed to, and when they were removed, the latest change first."
    )

    @strawberry.field(
        metadata=costs(entries=3),
        description="The aliases that were set at a given time, with the versions that they pointed to then, ordered by name.",
    )
    async def aliases_at(self, info: Info, at: Annotated[datetime, strawberry.argument(description="The time.")]) -> list[ModelAlias]:
        return await info.context.loaders.many(models.AliasesAt(at), ModelAlias.of).load(self.uuid)

    @strawberry.field(description="The version that an alias points to, or pointed to at a given time; null if it points to none.")
    async def alias(
        self,
        info: Info,
        name: Annotated[str, strawberry.argument(description="The alias; case is ignored.")],
        at: Annotated[datetime | None, strawberry.argument(description="The time; now by default.")] = None,
    ) -> "ModelVersion | None":
        return await info.context.loaders.one(models.VersionByAlias(name.lower(), at), ModelVersion.of).load(self.uuid)


@strawberry.type(description="A change of an alias of a model: it was pointed to a version, or removed.")
class ModelAliasEvent(Node, prefix="aliasevent", found_by=models.live_alias_event_by_id, scope=Scope.READ):
    model_id: strawberry.Private[UUID]
    model_version_id: strawberry.Private[UUID | None]
    previous_id: strawberry.Private[UUID | None]
    set_by_id: strawberry.Private[UUID | None]
    name: str = strawberry.field(description="The alias, in lower case.")
    reason: str | None = strawberry.field(description="Why it was changed, as free text.")
    created_at: datetime = strawberry.field(description="When it was changed.")
    model: Model = one(models.by_id, key="model_id", description="The model whose alias it is, even if that is deleted.")
    version: "ModelVersion | None" = one(
        models.version_by_id, key="model_version_id", description="The version that the alias was pointed to; null if it was removed."
    )
    previous: "ModelVersion | None" = one(
        models.version_by_id, key="previous_id", description="The version that the alias pointed to before; null if it pointed to none."
    )
    set_by: Profile | None = one(
        accounts.profile_by_id, key="set_by_id", description="Who changed it, such as a member of the team; null if that was not kept."
    )


@job_output(models.version_by_id)
@strawberry.type(
    description="A trained model. It never changes but for its label and description, and everything that it was derived from can be traced; see `lineage`."
)
class ModelVersion(Node, prefix="mversion", found_by=models.live_version_by_id, scope=Scope.READ):
    model_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID | None]
    run_id: strawberry.Private[UUID | None]
    snapshot_id: strawberry.Private[UUID | None]
    dataset_version_id: strawberry.Private[UUID | None]
    measured: strawberry.Private[Sequence[Mapping[str, Any]]]
    number: int = strawberry.field(description="Counts up from 1 within the model.")
    label: str | None = strawberry.field(description="A short name that somebody gave it.")
    description: str | None = strawberry.field(description="Free text that somebody wrote about it.")
    annotations: JSON = annotations_field()
    algorithm: str = strawberry.field(description="The algorithm, such as RandomForestClassifier.")
    architecture: str | None = strawberry.field(
        description="The layers of a neural network, such as `30-100-1 relu`: the units of each, from the inputs to the outputs; null for other algorithms."
    )
    framework: str = strawberry.field(description="The library that trained it, with its version.")
    hyperparameters: JSON = strawberry.field(description="The parameters that it was trained with, as an object.")
    config: JSON = strawberry.field(
        description="How it was trained, as an object: the `step` with all its `parameters`, the `target`, how many `columns` it learned from, and the `split`"
        " of the rows; empty if it was imported, or trained before this was kept."
    )
    seed: BigInt | None = strawberry.field(description="The random seed of its training; null if it was imported.")
    packages: JSON = strawberry.field(
        description="The versions of Python and of the packages that its training used, by name; empty if it was imported."
    )
    format: ModelFormat = strawberry.field(description="The format of its file.")
    is_trusted: bool = strawberry.field(
        description="Whether a training here wrote its file, whose checksum is compared before it is loaded. Others are loaded only in the sandbox of a"
        " job, and only in formats that cannot run code."
    )
    problem_type: ProblemType | None = strawberry.field(description="The task of the model.")
    created_at: datetime = strawberry.field(description="When its training completed, or when it was registered.")
    deleted_at: datetime | None = strawberry.field(
        description="When it was deleted by itself; edges still lead to it, but no longer to its files. `model.deletedAt` tells when all were."
    )
    purged_at: datetime | None = strawberry.field(
        description="When its contents were removed for good; this row is what lineage needs of it."
    )
    model: Model = one(models.by_id, key="model_id", description="The model that it is a version of, even if that is deleted.")
    job: Job | None = one(jobs.by_id, key="job_id", description="The job that trained it; null if it was imported.")
    run: Run | None = one(runs.by_id, key="run_id", description="The run that recorded its training; null if it was imported.")
    snapshot: PipelineSnapshot | None = one(
        pipelines.snapshot_by_id, key="snapshot_id", description="The pipeline snapshot that trained it; null if it was imported."
    )
    dataset_version: DatasetVersion | None = one(
        versions.by_id, key="dataset_version_id", description="The data that it was trained on; null if it was imported."
    )
    artifacts: list[Artifact] = many(
        artifacts.of_model_version,
        metadata=costs(entries=10),
        description="Its files: the model itself, its model card, plots, feature importances, and the rows that it was measured on with its predictions"
        " (RESULTS), in the order they were written.",
    )
    runs: Connection[Run] = connection(
        leaderboard.of_model_version, description="The runs that recorded its training: one, or none if it was imported."
    )
    predictions: Connection[Job] = connection(
        jobs.predictions_of_model_version, description="The jobs that predicted with it, newest first."
    )
    aliases: list[ModelAlias] = many(
        models.aliases_of_version, metadata=costs(entries=3), description="The aliases that point to it now, ordered by name."
    )

    @strawberry.field(
        metadata=costs(entries=1), description="The final metrics of its run: last, least and greatest value of each, ordered by key."
    )
    def metrics(self) -> list[MetricSummary]:
        return [MetricSummary.of_document(document) for document in self.measured]

    @strawberry.field(description="Whether the alias `production` points to it now.")
    async def is_production(self, info: Info) -> bool:
        aliases = await info.context.loaders.many(models.aliases_of_version, identity).load(self.uuid)
        return any(alias.name == models.PRODUCTION for alias in aliases)


extend(
    Job,
    "model_version",
    ModelVersion | None,
    one(models.version_by_id, key="model_version_id", description="The model version that it predicts with, or explains."),
)
extend(
    User,
    "models",
    Connection[Model],
    connection(models.of_owner, filtered_by=ModelFilter, ordered_by=ModelOrder, description="The models that the user owns."),
)
extend(
    Dataset,
    "models",
    Connection[Model],
    connection(
        models.of_dataset,
        description="The models with a version that was trained on one of its versions, by the time of the first such training, the latest first.",
    ),
)
extend(
    Run,
    "model_version",
    ModelVersion | None,
    one(models.version_of_run, description="The model version that it produced, once it has completed."),
)
