"""Explanations of model versions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import strawberry

from db.queries import accounts, artifacts, explanations, items, jobs, models, runs, versions
from graph.accounts.types import Profile, User
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import connection, extend, many, one
from graph.core.ids import Node
from graph.core.loading import identity
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.scalars import JSON
from graph.datasets.files import Artifact
from graph.datasets.types import DatasetVersion
from graph.experiments.types import Run
from graph.explanations.enums import ExplanationMethod
from graph.items.types import DatasetItem
from graph.jobs.enums import JobStatus
from graph.jobs.outputs import job_output
from graph.jobs.types import Job
from graph.models.types import ModelVersion


def _float(value: float | None) -> float | None:
    """PostgreSQL's jsonb returns a float without fraction as an integer."""
    return None if value is None else float(value)


@strawberry.type(
    description="What one column, or one part of an item, adds to predictions. The numbers of TREE_SHAP, LINEAR and INTEGRATED_GRADIENTS are contributions to"
    " the log-odds, the raw score or the predicted number; of PERMUTATION, how much worse the metric is without the column; of PARTIAL_DEPENDENCE, of the curve of mean"
    " predictions; of OCCLUSION, how much the prediction falls when the part is hidden."
)
class FeatureAttribution:
    feature: str = strawberry.field(
        description="The column of the data, or the part of the item, such as `x 0–13, y 14–27` or `samples 0–249`."
    )
    mean_absolute: float = strawberry.field(
        description="How much it matters: the mean of the absolute values over all rows, or repetitions; of PARTIAL_DEPENDENCE, the mean distance of the"
        " curve from its mean."
    )
    mean: float | None = strawberry.field(description="The mean of the values with their signs.")
    standard_deviation: float | None = strawberry.field(
        description="The standard deviation over the rows, of PERMUTATION over the repetitions, of PARTIAL_DEPENDENCE of the curve; null of a single value."
    )
    class_label: str | None = strawberry.field(description="The class, as text; null where no single class is explained.")

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            feature=document["feature"],
            mean_absolute=float(document["meanAbsolute"]),
            mean=_float(document["mean"]),
            standard_deviation=_float(document["standardDeviation"]),
            class_label=document["classLabel"],
        )


@job_output(explanations.by_id)
@strawberry.type(description="What the predictions of a model version depend on, as numbers, data and plots.")
class Explanation(Node, prefix="explanation", found_by=explanations.live_by_id, scope=Scope.READ):
    owner_id: strawberry.Private[UUID]
    created_by_id: strawberry.Private[UUID | None]
    job_id: strawberry.Private[UUID]
    model_version_id: strawberry.Private[UUID]
    run_id: strawberry.Private[UUID | None]
    dataset_version_id: strawberry.Private[UUID | None]
    item_id: strawberry.Private[UUID | None]
    attributed: strawberry.Private[Sequence[Mapping[str, Any]]]
    method: ExplanationMethod = strawberry.field(description="How it explains; the `parameters` of its job have the options.")
    status: JobStatus = strawberry.field(description="The status of its job; it tells something once that is COMPLETED.")
    additivity_error: float | None = strawberry.field(
        description="Of TREE_SHAP, LINEAR and INTEGRATED_GRADIENTS, whose contributions sum up to the prediction: the greatest difference between such a sum"
        " and what the model itself computes, over all rows. Rounding alone gives 1e-12 or so, of XGBoost, which computes with 32 bits, 1e-5. Null for other methods."
    )
    created_at: datetime = strawberry.field(description="When it was requested.")
    plots: list[Artifact] = many(
        artifacts.plots_of_explanation,
        metadata=costs(entries=5),
        description="Its plots as PNG files: bars, and by the method each row as a dot (BEESWARM_PLOT), contributions over values (DEPENDENCE_PLOT)"
        " or where they lie in an image (CONTRIBUTION_MAP), curves or the parts of the item. Empty until it is complete, and if its model or its dataset is deleted.",
    )
    data_file: Artifact | None = one(
        artifacts.data_of_explanation, description="Its data as a Parquet file, where they are larger than 1 MiB of JSON; null otherwise."
    )
    job: Job = one(jobs.by_id, key="job_id", description="The job that makes it; after a retry, the new one.")
    model_version: ModelVersion = one(
        models.version_by_id, key="model_version_id", description="The model version whose predictions it explains."
    )
    run: Run | None = one(runs.by_id, key="run_id", description="The run that trained the model version; null if it was imported.")
    dataset_version: DatasetVersion | None = one(
        versions.by_id,
        key="dataset_version_id",
        description="The dataset version whose rows it looks at; null for the rows that the model was measured on, and for rows of the request.",
    )
    item: DatasetItem | None = one(items.by_id, key="item_id", description="The item whose prediction it explains; null for many rows.")
    owner: User = one(accounts.by_id, key="owner_id", description="The account that owns it: a person's, or a team's.")
    created_by: Profile | None = one(
        accounts.profile_by_id, key="created_by_id", description="Who made it, such as a member of the team; null if that was not kept."
    )

    @strawberry.field(
        metadata=costs(entries=20),
        description="What each column, or part of an item, adds; what matters most first, at most 500. Empty until it is complete.",
    )
    def attributions(self) -> list[FeatureAttribution]:
        return [FeatureAttribution.of(document) for document in self.attributed]

    @strawberry.field(
        description="All that the plots are drawn of, as an object; docs/explanations.md describes it. Null until it is complete, where `dataFile` has it, and"
        " if its model or its dataset is deleted."
    )
    async def data(self, info: Info) -> JSON | None:
        row = await info.context.loaders.one(explanations.data, identity).load(self.uuid)
        return None if row is None else row.document


extend(
    ModelVersion,
    "explanations",
    Connection[Explanation],
    connection(explanations.of_model_version, description="The explanations of what it predicts, newest first."),
)
extend(
    Run,
    "explanations",
    Connection[Explanation],
    connection(explanations.of_run, description="The explanations of what the model that it trained predicts, newest first."),
)
extend(
    DatasetItem,
    "explanations",
    Connection[Explanation],
    connection(explanations.of_item, description="The explanations of what models predict of it, newest first."),
)
