"""What lists of pipelines can be narrowed and ordered by, and what the mutations on pipelines take."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry import ID, Maybe

from graph.core.filters import DateTimeFilter, Filter, StringFilter, order_input, reference
from graph.core.scalars import JSON, BigInt
from graph.datasets.enums import Modality
from graph.pipelines.enums import PipelineStatus


@strawberry.input(description="Conditions on pipelines, all of which must hold. A list of values means any of them.")
class PipelineFilter(Filter):
    name: StringFilter | None = strawberry.field(description="The pipeline's name.")
    modality: list[Modality] | None = strawberry.field(description="What kind of data it works on.")
    status: list[PipelineStatus] | None = strawberry.field(description="Whether it can run.")
    is_template: bool | None = strawberry.field(description="Whether it is there to be copied.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was made.")
    owner_id: ID | None = reference("user", description="Whose it is; of use to admins, who see everybody's.")


PipelineOrder = order_input(
    "Pipeline",
    "pipelines",
    created_at="When it was made.",
    updated_at="When it was last changed.",
    name="Its name, upper and lower case alike.",
)


@strawberry.input(description="One step of a definition.")
class PipelineNodeInput:
    key: str = strawberry.field(description="Its name within the definition; links and parameters refer to it.")
    step: str = strawberry.field(description="The key of a step, as `stepDefinitions` lists them.")
    parameters: JSON | None = strawberry.field(
        description="An object that fits the step's parameterSchema; what is left out has its default."
    )


@strawberry.input(description="An arrow from one step to the next.")
class PipelineLinkInput:
    source: str = strawberry.field(description="The key of the node that it leaves.")
    target: str = strawberry.field(description="The key of the node that it leads to.")


@strawberry.input(
    description="The steps and how data passes through them. Exactly one dataset node, at most one training node, and no circle."
)
class PipelineDefinitionInput:
    nodes: list[PipelineNodeInput] = strawberry.field(description="The steps, in any order.")
    links: list[PipelineLinkInput] = strawberry.field(description="What leads where; a node has at most one input.")

    def to_document(self) -> dict[str, Any]:
        return {
            "nodes": [{"key": node.key, "step": node.step, "parameters": node.parameters} for node in self.nodes],
            "links": [{"source": link.source, "target": link.target} for link in self.links],
        }


@strawberry.input(description="A pipeline to be made. An incomplete definition makes a DRAFT, an unsound one is refused.")
class CreatePipelineInput:
    name: str = strawberry.field(description="Unique among your pipelines, whatever the case; 1 to 200 characters.")
    description: str | None = strawberry.field(description="What it is for, for people.")
    modality: Modality = strawberry.field(default=Modality.TABULAR, description="What kind of data it works on.")
    definition: PipelineDefinitionInput = strawberry.field(description="Its steps and links.")
    is_template: bool = strawberry.field(default=False, description="Whether it is there to be copied.")


@strawberry.input(description="Changes to a pipeline. What is left out stays; null clears what can be empty.")
class UpdatePipelineInput:
    id: ID = strawberry.field(description="The pipeline.")
    expected_version: int | None = strawberry.field(
        description="The version that the change was made for; when somebody has changed the pipeline since, it is a Conflict."
    )
    name: Maybe[str | None] = strawberry.field(description="A new name; it cannot be cleared.")
    description: Maybe[str | None] = strawberry.field(description="What it is for, for people.")
    definition: Maybe[PipelineDefinitionInput | None] = strawberry.field(description="Replaces the whole definition; it cannot be cleared.")
    status: Maybe[PipelineStatus | None] = strawberry.field(description="ARCHIVED puts it away; VALIDATED asks for a complete definition.")

    def changes(self) -> dict[str, Any]:
        """The fields that were given, None where one is to be cleared."""
        fields = {"name": self.name, "description": self.description, "status": self.status}
        changes: dict[str, Any] = {name: change.value for name, change in fields.items() if change is not None}
        if self.definition is not None:
            changes["definition"] = None if self.definition.value is None else self.definition.value.to_document()
        return changes


@strawberry.input(description="A pipeline and what to run it on.")
class RunPipelineInput:
    pipeline_id: ID = strawberry.field(description="The pipeline; it must be VALIDATED.")
    dataset_version_id: ID = strawberry.field(description="The version to run it on; it must be READY.")
    experiment_id: ID | None = strawberry.field(description='Where the run goes if it trains; your experiment "Default" when not given.')
    model_name: str | None = strawberry.field(description="The model that gets the new version; named as the pipeline when not given.")
    output_dataset_id: ID | None = strawberry.field(
        description="The dataset that gets the new version if it does not train; a new dataset when not given."
    )
    parameters: JSON | None = strawberry.field(
        description="{nodeKey: {name: value}}, laid over the definition for this run before it is frozen as a snapshot."
    )
    seed: BigInt | None = strawberry.field(
        description="Fixes all chance: the same seed and inputs give the same metrics. Drawn when not given."
    )
    priority: int = strawberry.field(default=5, description="1 to 10; higher starts earlier, and waiting raises it.")
    timeout_seconds: float | None = strawberry.field(
        description="How long each attempt may run, at least 1 s; past it, the job is FAILED with the code TIMEOUT. Without it the workers' own"
        " limit holds."
    )
    idempotency_key: str | None = strawberry.field(
        description="The same key with the same input answers what the first call answered; with another input it is a Conflict. Kept for a day."
    )
