"""Submit predictions: compare what is asked for with what the model takes, then create the job."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from sqlalchemy import Row, insert, literal, select

from db.core.audit import ref
from db.core.checks import Checks
from db.core.viewer import Viewer
from db.core.work import Database, Work
from db.errors import NotFound, WrongState
from db.services import extras, idempotency, jobs, output_datasets
from db.services.predictions.inputs import check_columns, check_rows
from db.services.predictions.signatures import Signature, load_model, needed_extras, read_signature
from db.stores.objects import ObjectStore
from db.tables import DatasetProfile, DatasetVersion, JobDocument
from db.tables.jobs import JobKind

PREDICT, PREDICT_DATASET = "predict", "predictDataset"


async def _retry(work: Work, old: Row[Any], new: Row[Any]) -> None:
    """Keep the model and the output dataset from being deleted, and give the new job the rows of the old one."""
    try:
        await load_model(work, new.model_version_id)
    except NotFound:
        raise WrongState(old.status.name, "The model that this job predicts with was deleted, so it cannot be done again.") from None
    if KIND.target in old.parameters:
        await output_datasets.lock_for_retry(work, old, new)
    else:
        rows = select(literal(new.id), JobDocument.input).where(JobDocument.job_id == old.id)
        await work.run(insert(JobDocument).from_select(["job_id", "input"], rows))


KIND = jobs.declare(
    jobs.JobKindSpec(
        JobKind.PREDICT,
        title="prediction",
        outputs=(DatasetVersion, DatasetProfile),
        target="outputDatasetId",
        on_retry=_retry,
    )
)


@dataclass(frozen=True, slots=True)
class RowsRequest:
    """Predict these rows, which are JSON objects: a value by the name of its column."""

    model_version_id: UUID
    rows: list[Any]
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetRequest:
    """Predict the rows of a version; the output dataset gets a version with the predictions. A new dataset where none is named."""

    model_version_id: UUID
    dataset_version_id: UUID
    output_dataset_id: UUID | None = None
    idempotency_key: str | None = None


async def predict(database: Database, objects: ObjectStore, viewer: Viewer, request: RowsRequest) -> UUID:
    """Submit a job and return its id. No transaction is open while the signature is read.

    Raises `NotFound`, `InvalidInput` or `Conflict`; the end of the unit of work `InsufficientCredits`.
    """
    viewer.require_write()
    fingerprint = _fingerprint(request)
    async with database.work(viewer) as work:
        stored_answer = await idempotency.recall(work, PREDICT, request.idempotency_key, fingerprint, claim=False)
        if stored_answer is not None:
            return UUID(stored_answer["job"])
        model = await load_model(work, request.model_version_id)
    checks = Checks()
    signature = await read_signature(objects, model)
    rows = await asyncio.to_thread(check_rows, checks, request.rows, signature)  # a wide model has millions of values to look at
    checks.raise_if_invalid()
    async with database.work(viewer) as work:
        stored_answer = await idempotency.recall(work, PREDICT, request.idempotency_key, fingerprint)
        if stored_answer is not None:
            return UUID(stored_answer["job"])
        model = await load_model(work, request.model_version_id)
        queue = jobs.queue_for(KIND.kind, None)
        job = await jobs.submit(
            work,
            jobs.NewJob(
                owner_id=model.owner_id,
                kind=KIND.kind,
                queue=queue,
                extras=await extras.require(work, queue, needed_extras(model, signature), "modelVersionId", "The model"),
                parameters={"rows": len(rows)},
                model_version_id=model.id,
            ),
        )
        await work.run(insert(JobDocument).values(job_id=job.id, input=rows))
        await idempotency.remember(work, request.idempotency_key, {"job": str(job.id)})
        work.record(PREDICT, "job", job.id, job.owner_id, after={"model_version": ref("mversion", model.id), "rows": len(rows)})
    return job.id


async def predict_dataset(database: Database, objects: ObjectStore, viewer: Viewer, request: DatasetRequest) -> tuple[UUID, UUID]:
    """Submit a job; return its id, and that of the dataset which gets the new version. No transaction is open while the signature is read.

    Raises `NotFound`, `InvalidInput`, `WrongState`, `Conflict` or `QuotaExceeded`; the end of the unit of work `InsufficientCredits`.
    """
    viewer.require_write()
    fingerprint = _fingerprint(request)
    async with database.work(viewer) as work:
        stored_answer = await idempotency.recall(work, PREDICT_DATASET, request.idempotency_key, fingerprint, claim=False)
        if stored_answer is not None:
            return UUID(stored_answer["job"]), UUID(stored_answer["dataset"])
        model = await load_model(work, request.model_version_id)
    signature = await read_signature(objects, model)
    async with database.work(viewer) as work:
        stored_answer = await idempotency.recall(work, PREDICT_DATASET, request.idempotency_key, fingerprint)
        if stored_answer is not None:
            return UUID(stored_answer["job"]), UUID(stored_answer["dataset"])
        job, output_id = await _submit_dataset(work, request, signature)
        await idempotency.remember(work, request.idempotency_key, {"job": str(job.id), "dataset": str(output_id)})
    return job.id, output_id


async def _submit_dataset(work: Work, request: DatasetRequest, signature: Signature) -> tuple[Row[Any], UUID]:
    model = await load_model(work, request.model_version_id)
    version, dataset, output = await output_datasets.load_inputs(work, request.dataset_version_id, request.output_dataset_id)
    checks = Checks()
    if dataset.owner_id != model.owner_id:
        checks.add("datasetVersionId", message="Model and dataset belong to different users; both must belong to one.")
    check_columns(checks, version.file_columns, signature, dataset.modality, version.item_count)
    checks.raise_if_invalid()
    name = f"{model.name} v{model.number}"
    if request.output_dataset_id is not None:
        output_id = output_datasets.require_same_owner(request.output_dataset_id, output, dataset)
    else:
        output_id = await output_datasets.create(work, dataset, name, f"Predictions for {dataset.name} by the model {name}.")
    queue = jobs.queue_for(KIND.kind, dataset.modality)
    needed = await extras.require(work, queue, needed_extras(model, signature), "modelVersionId", "The model")
    job = await jobs.submit(
        work,
        jobs.NewJob(
            owner_id=dataset.owner_id,
            kind=KIND.kind,
            queue=queue,
            extras=needed,
            parameters={str(KIND.target): str(output_id)},
            dataset_id=dataset.id,
            dataset_version_id=version.id,
            model_version_id=model.id,
            inputs=[version.id],
            requires_space=True,
        ),
    )
    submitted = {
        "model_version": ref("mversion", model.id),
        "dataset_version": ref("version", version.id),
        "output_dataset": ref("dataset", output_id),
    }
    work.record("predict_dataset", "job", job.id, job.owner_id, after=submitted)
    return job, output_id


def _fingerprint(request: RowsRequest | DatasetRequest) -> dict[str, Any]:
    return {field.name: getattr(request, field.name) for field in fields(request) if field.name != "idempotency_key"}
