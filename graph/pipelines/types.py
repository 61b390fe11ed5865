"""Pipelines, snapshots of their definitions, and the catalogue of steps."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import strawberry

from db.queries import accounts, pipelines, tags
from db.services import ml_tasks
from graph.accounts.types import Profile, User
from graph.core.costs import costs
from graph.core.edges import connection, extend, many, one
from graph.core.ids import Node
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.scalars import JSON, BigInt
from graph.datasets.enums import Modality
from graph.datasets.types import Dataset
from graph.experiments.enums import Goal
from graph.pipelines.enums import MlTaskType, PipelineStatus, StepType
from graph.pipelines.inputs import PipelineFilter, PipelineOrder
from graph.tags.types import Tag, Taggable, tags_of


@strawberry.type(description="A step available to pipelines.")
class StepDefinition:
    key: str = strawberry.field(description="Its name, which nodes refer to.")
    type: StepType = strawberry.field(description="Its function in a pipeline.")
    title: str = strawberry.field(description="Its name for display.")
    description: str = strawberry.field(description="What it does, as text for display.")
    modalities: list[Modality] = strawberry.field(description="The kinds of data that it processes.")
    parameter_schema: JSON = strawberry.field(description="Its parameters and their defaults, as JSON Schema 2020-12.")

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(
            key=row.key,
            type=row.type,
            title=row.title,
            description=row.description,
            modalities=[Modality(modality.lower()) for modality in row.modalities],
            parameter_schema=row.parameter_schema,
        )


@strawberry.type(description="A task of machine learning on one kind of data, and where to begin with it.")
class MlTask:
    key: str = strawberry.field(description="Its name, such as `tabular_classification`.")
    title: str = strawberry.field(description="Its name for display.")
    description: str = strawberry.field(description="What is predicted or found, and from what.")
    modality: Modality = strawberry.field(description="The kind of data that it is about.")
    type: MlTaskType = strawberry.field(description="What is learned.")
    primary_metric: str = strawberry.field(
        description="The metric to compare its runs by, such as `f1_macro`; where no model is trained, the key in the output of the node that writes."
    )
    goal: Goal = strawberry.field(description="Whether greater or smaller values of that metric are better.")
    templates: "list[Pipeline]" = many(
        pipelines.templates_of_task,
        key="key",
        metadata=costs(entries=3),
        description="Pipelines that ship for it, ordered by name. Copy one with `copyPipeline` and run the copy.",
    )

    @classmethod
    def of(cls, task: ml_tasks.MlTask) -> Self:
        return cls(
            key=task.key,
            title=task.title,
            description=task.description,
            modality=task.modality,
            type=task.type,
            primary_metric=task.primary_metric,
            goal=task.goal,
        )


@strawberry.type(description="A node of a definition: a step with its parameters.")
class PipelineNode:
    key: str = strawberry.field(description="Its name within the definition.")
    step_key: str = strawberry.field(description="The key of its step.")
    parameters: JSON = strawberry.field(description="The given parameters; omitted ones have the step's defaults.")
    step: StepDefinition | None = one(pipelines.step_by_key, key="step_key", description="Its step; null if that has been retired.")


@strawberry.type(description="A directed edge from one node to the next.")
class PipelineLink:
    source: str = strawberry.field(description="The key of the node that it starts at.")
    target: str = strawberry.field(description="The key of the node that it leads to.")


@strawberry.type(description="The nodes of a pipeline and the data flow between them.")
class PipelineDefinition:
    nodes: list[PipelineNode] = strawberry.field(metadata=costs(entries=1), description="The nodes.")
    links: list[PipelineLink] = strawberry.field(metadata=costs(entries=1), description="The edges between the nodes.")

    @classmethod
    def of(cls, row: Any) -> Self:
        document: Mapping[str, Any] = row.definition
        return cls(
            nodes=[
                PipelineNode(key=node["key"], step_key=node["step"], parameters=node.get("parameters") or {}) for node in document["nodes"]
            ],
            links=[PipelineLink(source=link["source"], target=link["target"]) for link in document["links"]],
        )


@strawberry.type(
    description="An editable graph of steps. Each run freezes the definition as a snapshot, so that later changes do not affect past runs."
)
class Pipeline(Node, Taggable, prefix="pipeline", found_by=pipelines.live_by_id, scope=Scope.READ):
    owner_id: strawberry.Private[UUID]
    created_by_id: strawberry.Private[UUID | None]
    task_key: strawberry.Private[str | None]
    name: str = strawberry.field(description="Unique among the owner's pipelines, ignoring case.")
    description: str | None = strawberry.field(description="Free text that describes its purpose.")
    modality: Modality = strawberry.field(description="The kind of data that it processes.")
    status: PipelineStatus = strawberry.field(description="Whether it can run.")
    version: int = strawberry.field(
        description="Counts its changes; pass it as `expectedVersion` so as not to overwrite a concurrent change."
    )
    is_template: bool = strawberry.field(
        description="Whether it is marked as a template: one to copy with `copyPipeline`. One that ships has to be copied to be run."
    )
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")
    validated_at: datetime | None = strawberry.field(description="When its definition passed validation; null for a DRAFT.")
    deleted_at: datetime | None = strawberry.field(description="When it was deleted; edges still lead to it.")
    purged_at: datetime | None = strawberry.field(
        description="When its contents were removed for good; this row is what lineage needs of it."
    )

    @strawberry.field(description="The task that it is for: that of a template that ships, which copies keep; null for any other.")
    def task(self) -> MlTask | None:
        task = None if self.task_key is None else ml_tasks.TASKS.get(self.task_key)
        return None if task is None else MlTask.of(task)

    definition: PipelineDefinition = one(pipelines.definition_of_pipeline, description="Its nodes and links.")
    owner: User = one(
        accounts.by_id,
        key="owner_id",
        description="The account that owns it: a person's, a team's or, of a template that ships, that of Trellis.",
    )
    created_by: Profile | None = one(
        accounts.profile_by_id, key="created_by_id", description="Who made it, such as a member of the team; null if that was not kept."
    )
    tags: list[Tag] = tags_of(tags.of_pipeline)
    snapshots: "Connection[PipelineSnapshot]" = connection(
        pipelines.snapshots_of_pipeline, description="The definitions that have run, newest first; equal definitions share a snapshot."
    )


@strawberry.type(description="A definition as it ran, with the parameters of the run applied. It never changes.")
class PipelineSnapshot(Node, prefix="snapshot", found_by=pipelines.snapshot_by_id, scope=Scope.READ):
    pipeline_id: strawberry.Private[UUID | None]
    sha256: str = strawberry.field(description="The SHA-256 of its canonical form in hexadecimal; equal definitions have equal hashes.")
    created_at: datetime = strawberry.field(description="When it first ran.")
    definition: PipelineDefinition = one(pipelines.definition_of_snapshot, description="Its nodes and links.")
    pipeline: Pipeline | None = one(
        pipelines.by_id, key="pipeline_id", description="The pipeline that it was made from; null once that has been purged."
    )


extend(
    User,
    "pipelines",
    Connection[Pipeline],
    connection(pipelines.of_owner, filtered_by=PipelineFilter, ordered_by=PipelineOrder, description="The pipelines that the user owns."),
)
extend(
    Dataset,
    "pipelines",
    Connection[Pipeline],
    connection(
        pipelines.of_dataset,
        description="The pipelines that were run on one of its versions, or joined one, by the time of the first such run, the latest first.",
    ),
)


@strawberry.type(description="What a run of a pipeline would cost now.")
class CostEstimate:
    credits: BigInt = strawberry.field(description="The credits that it would hold, and take if it completes; 0 if it is free.")
    available: BigInt = strawberry.field(
        description="The credits that its payer can spend: the pipeline's owner, or the maker of a team without a quota of its own."
    )
    is_affordable: bool = strawberry.field(description="Whether these are enough.")
    basis: str = strawberry.field(description="What the cost follows from.")
