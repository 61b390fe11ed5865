"""Pipelines, the frozen definitions that ran, and the catalogue of steps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import strawberry

from db.queries import accounts, pipelines
from graph.accounts.types import User
from graph.core.costs import costs
from graph.core.edges import connection, extend, one
from graph.core.ids import Node
from graph.core.paging import Connection
from graph.core.scalars import JSON
from graph.datasets.enums import Modality
from graph.pipelines.enums import PipelineStatus, StepType
from graph.pipelines.inputs import PipelineFilter, PipelineOrder


@strawberry.type(description="A step that pipelines can be made of.")
class StepDefinition:
    key: str = strawberry.field(description="Its name, which nodes refer to.")
    type: StepType = strawberry.field(description="What it does to the data that passes through it.")
    title: str = strawberry.field(description="Its name for people.")
    description: str = strawberry.field(description="What it does, for people.")
    modalities: list[Modality] = strawberry.field(description="The kinds of data that it works on.")
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


@strawberry.type(description="One step of a definition, with its parameters.")
class PipelineNode:
    key: str = strawberry.field(description="Its name within the definition.")
    step_key: str = strawberry.field(description="The key of its step.")
    parameters: JSON = strawberry.field(description="The parameters that were given; what is left out has the step's default.")
    step: StepDefinition | None = one(pipelines.step_by_key, key="step_key", description="Its step; null once that has been retired.")


@strawberry.type(description="An arrow from one step to the next.")
class PipelineLink:
    source: str = strawberry.field(description="The key of the node that it leaves.")
    target: str = strawberry.field(description="The key of the node that it leads to.")


@strawberry.type(description="The steps of a pipeline and how data passes through them.")
class PipelineDefinition:
    nodes: list[PipelineNode] = strawberry.field(metadata=costs(entries=1), description="The steps.")
    links: list[PipelineLink] = strawberry.field(metadata=costs(entries=1), description="What leads where.")

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
    description="A graph of steps that can be edited. Each run freezes it as a snapshot, so that changing it changes nothing that has run."
)
class Pipeline(Node, prefix="pipeline", found_by=pipelines.live_by_id):
    owner_id: strawberry.Private[UUID]
    name: str = strawberry.field(description="Unique among the owner's pipelines, whatever the case.")
    description: str | None = strawberry.field(description="What it is for, for people.")
    modality: Modality = strawberry.field(description="What kind of data it works on.")
    status: PipelineStatus = strawberry.field(description="Whether it can run.")
    version: int = strawberry.field(description="Counts its changes; give it as `expectedVersion` so as not to overwrite another's.")
    is_template: bool = strawberry.field(description="Whether it is there to be copied.")
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")
    validated_at: datetime | None = strawberry.field(description="When its definition was found complete; null for a DRAFT.")
    deleted_at: datetime | None = strawberry.field(
        description="When it was deleted; it has left lists and look-ups, and edges still lead to it."
    )
    definition: PipelineDefinition = one(pipelines.definition_of_pipeline, description="Its steps and links.")
    owner: User = one(accounts.by_id, key="owner_id", description="Whose it is.")
    snapshots: Connection[PipelineSnapshot] = connection(
        pipelines.snapshots_of_pipeline, description="The definitions that have run, newest first; equal ones share a snapshot."
    )


@strawberry.type(description="A definition as it ran, its parameters applied. It never changes.")
class PipelineSnapshot(Node, prefix="snapshot", found_by=pipelines.snapshot_by_id):
    pipeline_id: strawberry.Private[UUID | None]
    sha256: str = strawberry.field(description="The SHA-256 of its canonical form in hexadecimal: equal definitions have equal ones.")
    created_at: datetime = strawberry.field(description="When it first ran.")
    definition: PipelineDefinition = one(pipelines.definition_of_snapshot, description="Its steps and links.")
    pipeline: Pipeline | None = one(
        pipelines.by_id, key="pipeline_id", description="The pipeline that it was made of; null once that has been purged."
    )


extend(
    User,
    "pipelines",
    Connection[Pipeline],
    connection(pipelines.of_owner, filtered_by=PipelineFilter, ordered_by=PipelineOrder, description="The pipelines that are theirs."),
)
