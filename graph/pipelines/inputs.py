"""Filters and orders of lists of pipelines, and inputs of mutations on pipelines."""

from typing import Any

import strawberry
from strawberry import ID, Maybe

from db.services.pipelines import RunRequest
from graph.core.filters import DateTimeFilter, Filter, StringFilter, order_input, reference
from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.core.ids import decode, decode_optional
from graph.core.scalars import JSON, BigInt
from graph.datasets.enums import Modality
from graph.pipelines.enums import PipelineStatus
from graph.tags.filters import tagged_with


@strawberry.input(description="Conditions on pipelines, all of which must hold. A list of values means any of them.")
class PipelineFilter(Filter):
    name: StringFilter | None = strawberry.field(description="The pipeline's name.")
    modality: list[Modality] | None = strawberry.field(description="The kind of data that it processes.")
    status: list[PipelineStatus] | None = strawberry.field(description="Whether it can run.")
    is_template: bool | None = strawberry.field(description="Whether it is marked as a template.")
    step_key: str | None = strawberry.field(description="A step that one of its nodes runs, such as `train_lightgbm`; case matters.")
    tags: list[ID] | None = tagged_with()
    created_at: DateTimeFilter | None = strawberry.field(description="When it was created.")
    owner_id: ID | None = reference("user", description="The owner; useful to admins, who see everybody's.")


PipelineOrder = order_input(
    "Pipeline",
    "pipelines",
    created_at="When it was created.",
    updated_at="When it was last changed.",
    name="Its name, ignoring case.",
)


@strawberry.input(description="One step of a definition.")
class PipelineNodeInput:
    key: str = strawberry.field(description="Its name within the definition, which links and parameters refer to.")
    step: str = strawberry.field(description="The key of a step, one of `stepDefinitions`.")
    parameters: JSON | None = strawberry.field(
        description="An object that conforms to the step's `parameterSchema`; omitted parameters have their defaults."
    )


@strawberry.input(description="A directed edge from one node to the next.")
class PipelineLinkInput:
    source: str = strawberry.field(description="The key of the node that it starts at.")
    target: str = strawberry.field(description="The key of the node that it leads to.")


@strawberry.input(
    description="The nodes and the data flow between them. Exactly one dataset node, at most one training node, and no cycle."
)
class PipelineDefinitionInput:
    nodes: list[PipelineNodeInput] = strawberry.field(description="The nodes, in any order.")
    links: list[PipelineLinkInput] = strawberry.field(description="The edges between the nodes; a node has at most one input.")

    def to_document(self) -> dict[str, Any]:
        return {
            "nodes": [{"key": node.key, "step": node.step, "parameters": node.parameters} for node in self.nodes],
            "links": [{"source": link.source, "target": link.target} for link in self.links],
        }


@strawberry.input(description="The pipeline to create. An incomplete definition makes a DRAFT, an invalid one is rejected.")
class CreatePipelineInput:
    name: str = strawberry.field(description="Unique among the owner's pipelines, ignoring case; 1 to 200 characters.")
    description: str | None = strawberry.field(description="Free text that describes its purpose.")
    modality: Modality = strawberry.field(
        default=Modality.TABULAR, description="The kind of data that it processes; one that no step works on is InvalidInput."
    )
    definition: PipelineDefinitionInput = strawberry.field(description="Its nodes and links.")
    is_template: bool = strawberry.field(default=False, description="Whether it is marked as a template.")
    owner_id: ID | None = strawberry.field(
        default=None, description="Who is to own it: a team in which you are MEMBER or ADMIN; you if left out."
    )


@strawberry.input(description="Changes to a pipeline. Omitted fields stay unchanged; null clears a field that may be empty.")
class UpdatePipelineInput:
    id: ID = strawberry.field(description="The pipeline.")
    expected_version: int | None = strawberry.field(
        description="The version that the change is based on; if the pipeline has changed since, the result is a Conflict."
    )
    name: Maybe[str | None] = strawberry.field(description="A new name; it cannot be cleared.")
    description: Maybe[str | None] = strawberry.field(description="Free text that describes its purpose.")
    definition: Maybe[PipelineDefinitionInput | None] = strawberry.field(description="Replaces the whole definition; it cannot be cleared.")
    status: Maybe[PipelineStatus | None] = strawberry.field(description="ARCHIVED archives it; VALIDATED requires a complete definition.")
    is_template: Maybe[bool | None] = strawberry.field(description="Whether it is marked as a template; it cannot be cleared.")

    def changes(self) -> dict[str, Any]:
        """Return the given fields; None clears one."""
        fields = {"name": self.name, "description": self.description, "status": self.status, "is_template": self.is_template}
        changes: dict[str, Any] = {name: change.value for name, change in fields.items() if change is not None}
        if self.definition is not None:
            changes["definition"] = None if self.definition.value is None else self.definition.value.to_document()
        return changes


@strawberry.input(description="The pipeline to copy, and what becomes of the copy.")
class CopyPipelineInput:
    id: ID = strawberry.field(description="The pipeline: one that you may see, or a template of an entry of `mlTasks`.")
    name: str | None = strawberry.field(
        default=None, description="The name of the copy, unique among its owner's pipelines; that of the original if left out."
    )
    owner_id: ID | None = strawberry.field(
        default=None, description="Who is to own the copy: a team in which you are MEMBER or ADMIN; you if left out."
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description=IDEMPOTENCY_KEY,
    )


@strawberry.input(description="A pipeline and what to run it on.")
class RunPipelineInput:
    pipeline_id: ID = strawberry.field(description="The pipeline; it must be VALIDATED.")
    dataset_version_id: ID = strawberry.field(description="The version to run it on; it must be READY.")
    experiment_id: ID | None = strawberry.field(
        description='The experiment of the run, if the pipeline trains; by default, your experiment "Default".'
    )
    model_name: str | None = strawberry.field(
        description="The model that gets the new version; by default, it has the name of the pipeline."
    )
    output_dataset_id: ID | None = strawberry.field(
        description="The dataset that gets the new version, if the pipeline does not train; a new dataset by default."
    )
    parameters: JSON | None = strawberry.field(
        description="{nodeKey: {name: value}}, overrides for this run, applied before the definition is frozen as a snapshot."
    )
    seed: BigInt | None = strawberry.field(
        description="The random seed: the same seed and inputs give the same metrics. Random by default."
    )
    priority: int = strawberry.field(default=5, description="1 to 10; a higher priority starts earlier, and waiting raises it.")
    timeout_seconds: float | None = strawberry.field(
        description="The time limit of each attempt, at least 1 s; a job that exceeds it is FAILED with the code TIMEOUT. By default, the"
        " workers' own limit applies."
    )
    idempotency_key: str | None = strawberry.field(description=IDEMPOTENCY_KEY)

    def to_request(self) -> RunRequest:
        """Return it as plain values. Raises `NotFound` for an id of another type."""
        return RunRequest(
            pipeline_id=decode("pipeline", self.pipeline_id),
            dataset_version_id=decode("version", self.dataset_version_id),
            experiment_id=decode_optional("experiment", self.experiment_id),
            model_name=self.model_name,
            output_dataset_id=decode_optional("dataset", self.output_dataset_id),
            parameters=self.parameters,
            seed=self.seed,
            priority=self.priority,
            timeout_seconds=self.timeout_seconds,
            idempotency_key=self.idempotency_key,
        )
