"""Mutations that predict with model versions."""

from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import datasets, jobs
from db.services import predictions
from graph.core.context import Info
from graph.core.costs import JOB, costs
from graph.core.edges import one
from graph.core.ids import decode, decode_optional
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NotFound, QuotaExceeded, WrongState
from graph.datasets.types import Dataset
from graph.jobs.types import Job
from graph.predictions.inputs import PredictDatasetInput, PredictInput


@strawberry.type(description="A job was submitted to predict the rows.")
class PredictPayload:
    job_id: strawberry.Private[UUID]
    job: Job = one(jobs.by_id, key="job_id", description="The job; its `result` has the predictions once it has completed.")


@strawberry.type(description="A job was submitted to predict the dataset version.")
class PredictDatasetPayload:
    job_id: strawberry.Private[UUID]
    target_dataset_id: strawberry.Private[UUID]
    job: Job = one(jobs.by_id, key="job_id", description="The job; the version with the predictions is its output.")
    target_dataset: Dataset = one(
        datasets.by_id, key="target_dataset_id", description="The dataset that gets the version with the predictions."
    )


PredictResult = Annotated[
    PredictPayload | NotFound | InvalidInput | Conflict | InsufficientCredits,
    strawberry.union("PredictResult", description="The possible results of `predict`."),
]
PredictDatasetResult = Annotated[
    PredictDatasetPayload | NotFound | InvalidInput | WrongState | Conflict | QuotaExceeded | InsufficientCredits,
    strawberry.union("PredictDatasetResult", description="The possible results of `predictDataset`."),
]


@strawberry.type
class PredictionMutations:
    @mutation(
        scope=Scope.RUN,
        metadata=costs(JOB),
        description="Predict rows with a model version. The job answers in its `result`: `predictions`, one for each row in their order, each"
        " {prediction} and, for a class, the `probabilities` in the order of `classes`; for a cluster, the `distance` to its center; for an outlier, its `score`.",
    )
    async def predict(
        self, info: Info, input: Annotated[PredictInput, strawberry.argument(description="The model version and the rows.")]
    ) -> PredictResult:
        context = info.context
        request = predictions.RowsRequest(decode("mversion", input.model_version_id), input.rows, input.idempotency_key)
        job_id = await predictions.predict(context.database, context.objects, context.signed_in_viewer, request)
        return PredictPayload(job_id=job_id)

    @mutation(
        scope=Scope.RUN,
        metadata=costs(JOB),
        description="Predict a dataset version with a model version. The job makes a version with the same rows and columns, and beside them"
        " `prediction` and, for classes, `probability_<class>`, or, for clusters and outliers, `distance` or `score`; a name that is taken gets a number. Rows that the"
        " model cannot predict have none. Where the version has the model's target, the `result` has the metrics.",
    )
    async def predict_dataset(
        self,
        info: Info,
        input: Annotated[PredictDatasetInput, strawberry.argument(description="The model version and the dataset version.")],
    ) -> PredictDatasetResult:
        context = info.context
        request = predictions.DatasetRequest(
            model_version_id=decode("mversion", input.model_version_id),
            dataset_version_id=decode("version", input.dataset_version_id),
            output_dataset_id=decode_optional("dataset", input.output_dataset_id),
            idempotency_key=input.idempotency_key,
        )
        job_id, dataset_id = await predictions.predict_dataset(context.database, context.objects, context.signed_in_viewer, request)
        return PredictDatasetPayload(job_id=job_id, target_dataset_id=dataset_id)
