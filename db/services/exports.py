"""Exports: versions written in another format by a job, kept for a time, and deleted. Those of lists are submitted by `list_exports`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select, update

from db.core.audit import ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, Unsupported, WrongState
from db.services import datasets, export_options, extras, idempotency, jobs, outputs
from db.services.outputs import StoredFile, WrittenOutput
from db.settings import state_settings
from db.tables import DatasetVersion, Export, Job, Model, ModelVersion
from db.tables.datasets import DatasetVersionStatus, FileFormat
from db.tables.exports import ExportFormat
from db.tables.jobs import JobKind
from db.tables.jobstates import TERMINAL, JobStatus

OPERATION = "createExport"


async def follow_retry(work: Work, old: Row[Any], new: Row[Any]) -> None:
    """Let the export follow the new job. Raises `WrongState` if it is complete, deleted, or being made by another job."""
    export_id = old.parameters.get("exportId")
    if export_id is None:  # a purged job has no parameters
        return
    if old.status is JobStatus.COMPLETED:
        raise WrongState(old.status.name, f"The export is complete. Make another one with `{_mutation(old.kind)}`.")
    if not await work.run(update(Export).where(Export.id == UUID(export_id), Export.job_id == old.id).values(job_id=new.id)):
        raise WrongState(
            old.status.name, f"Its export was deleted, or another job makes it. Make another export with `{_mutation(old.kind)}`."
        )


def _mutation(kind: JobKind) -> str:
    return OPERATION if kind is JobKind.EXPORT else "exportTable"


EXPORT = jobs.declare(jobs.JobKindSpec(JobKind.EXPORT, title="export", queue="default", outputs=(Export,), on_retry=follow_retry))


@dataclass(frozen=True, slots=True)
class NewExport:
    """What to export, a dataset version or a model version, and how; `options` is the JSON object of the client."""

    format: ExportFormat
    dataset_version_id: UUID | None
    model_version_id: UUID | None
    options: Any = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class _Exported:
    """What is exported. `parent` has its column in `exports`, `rows` the dataset version that the job reads; `extras` are those that it needs."""

    owner_id: UUID
    parent: dict[str, UUID]
    rows: Row[Any]
    dataset: Row[Any]
    options_source: export_options.Source
    extras: Sequence[str] = ()


async def create(work: Work, new: NewExport) -> tuple[UUID, UUID]:
    """Submit the job of an export; return the ids of export and job.

    Raises `NotFound`, `InvalidInput`, `WrongState`, `Unsupported`, `Conflict` or `QuotaExceeded`; the end of the unit of work `InsufficientCredits`.
    """
    work.viewer.require_write()
    request = {key: value for key, value in asdict(new).items() if key != "idempotency_key"}
    stored_answer = await idempotency.recall(work, OPERATION, new.idempotency_key, request)
    if stored_answer is not None:
        return UUID(stored_answer["export"]), UUID(stored_answer["job"])
    checks = Checks()
    exported = await (_of_model(work, new, checks) if new.model_version_id is not None else _of_data(work, new, checks))
    options = export_options.validated(new.format, new.options, exported.options_source, checks)
    checks.raise_if_invalid()
    if options.get("contents") and (problem := export_options.contents_problem(new.format, exported.options_source)) is not None:
        raise Unsupported(problem)
    export_id: UUID = await work.scalar(select(func.uuidv7()))
    queue = jobs.queue_for(EXPORT.kind, exported.dataset.modality)
    needed = await extras.require(work, queue, exported.extras, "modelVersionId", "The export of a model")
    job = await jobs.submit(
        work,
        jobs.NewJob(
            owner_id=exported.owner_id,
            kind=EXPORT.kind,
            queue=queue,
            extras=needed,
            parameters={"exportId": str(export_id), "format": new.format.name, "options": options},
            dataset_id=exported.dataset.id,
            dataset_version_id=exported.rows.id,
            inputs=[exported.rows.id],
            requires_space=True,
        ),
    )
    values = {"job_id": job.id, "format": new.format, "options": options, **exported.parent}
    await work.run(insert(Export).values(id=export_id, owner_id=exported.owner_id, created_by_id=work.viewer.maker_id, **values))
    await idempotency.remember(work, new.idempotency_key, {"export": str(export_id), "job": str(job.id)})
    sources = {name.removesuffix("_id"): ref(_PREFIXES[name], id_) for name, id_ in exported.parent.items()}
    created = {"format": new.format, **sources, "options": options, "job": ref("job", job.id)}
    work.record("create_export", "export", export_id, exported.owner_id, after=created)
    return export_id, job.id


_PREFIXES = {"dataset_version_id": "version", "model_version_id": "mversion"}
_NO_ONNX = frozenset({"HistGradientBoostingClassifier", "HistGradientBoostingRegressor"})
"""Algorithms that the converters to ONNX cannot convert. What else cannot be is found by the job."""


async def _of_data(work: Work, new: NewExport, checks: Checks) -> _Exported:
    """A READY version, whose dataset is locked against deletion."""
    if new.dataset_version_id is None:
        checks.add("datasetVersionId", message="Name what to export: a dataset version, or a model version as `modelVersionId`.")
        checks.raise_if_invalid()
    assert new.dataset_version_id is not None
    if new.format is ExportFormat.ONNX:
        checks.add("format", message="ONNX is a format of models. Name a `modelVersionId`, or choose another format for the data.")
    version = await datasets.lock_version_shared(work, new.dataset_version_id, _VERSION)
    dataset = None if version is None else (await datasets.lock_shared(work, version.dataset_id)).get(version.dataset_id)
    if version is None or dataset is None:
        raise NotFound(str(new.dataset_version_id))
    if version.status is not DatasetVersionStatus.READY:
        status = version.status.name
        raise WrongState(
            status, f"The dataset version is {status}; only a READY one can be exported. Wait for its ingest, or choose another."
        )
    source = export_options.Source(
        [column["name"] for column in version.columns],
        dataset.target_column,
        items_of=dataset.modality if version.item_count else None,
        is_one_file=version.format is FileFormat.SEGY,
    )
    return _Exported(dataset.owner_id, {"dataset_version_id": version.id}, version, dataset, source)


_VERSION = select(
    DatasetVersion.id,
    DatasetVersion.dataset_id,
    DatasetVersion.status,
    DatasetVersion.columns,
    DatasetVersion.item_count,
    DatasetVersion.format,
)


async def _of_model(work: Work, new: NewExport, checks: Checks) -> _Exported:
    """A model version that can be written as ONNX, as far as is known; its model, and the dataset that it was trained on, are locked."""
    assert new.model_version_id is not None
    if new.dataset_version_id is not None:
        checks.add("modelVersionId", message="Name a dataset version or a model version, not both.")
    if new.format is not ExportFormat.ONNX:
        checks.add("format", message=f"{new.format.name} is a format of data; the format of a model is ONNX.")
    statement = (
        select(ModelVersion.id, ModelVersion.algorithm, ModelVersion.framework, ModelVersion.dataset_version_id, Model.owner_id)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(
            ModelVersion.id == new.model_version_id,
            Model.deleted_at.is_(None),
            ModelVersion.deleted_at.is_(None),
            visible(ModelVersion, work.viewer),
        )
        .with_for_update(of=[Model, ModelVersion], read=True, key_share=True)
    )
    model = await work.first(statement)
    if model is None:
        raise NotFound(str(new.model_version_id))
    checks.raise_if_invalid()
    if model.algorithm in _NO_ONNX:
        raise Unsupported(
            f"{model.algorithm} has no form in ONNX. Download the model file of the version instead, or train another algorithm."
        )
    trained_on = None if model.dataset_version_id is None else await datasets.lock_version_shared(work, model.dataset_version_id, _VERSION)
    dataset = None if trained_on is None else (await datasets.lock_shared(work, trained_on.dataset_id)).get(trained_on.dataset_id)
    if trained_on is None or dataset is None:
        reason = "was not trained here" if model.dataset_version_id is None else "was trained on a dataset that is deleted"
        raise Unsupported(f"The model version {reason}, so there are no rows to verify its ONNX form on. Download its own files instead.")
    needed = (extras.ONNX, *extras.of_framework(model.framework))
    return _Exported(model.owner_id, {"model_version_id": model.id}, trained_on, dataset, export_options.Source([]), needed)


def _completed(files: Sequence[StoredFile]) -> dict[str, Any]:
    """The columns of an export that is complete; from now on it expires."""
    expires_at = func.now() + timedelta(seconds=state_settings().export_retention)
    return {"size_bytes": sum(file.size for file in files), "expires_at": expires_at}


async def complete(work: Work, job: Row[Any], files: Sequence[StoredFile]) -> WrittenOutput:
    """Add the files of an export in the transaction that settles its job."""
    output = WrittenOutput(UUID(job.parameters["exportId"]))
    await work.run(update(Export).where(Export.id == output.id).values(_completed(files)))
    await outputs.add_artifacts(work, job, files, output.duplicate_keys, export_id=output.id)
    await outputs.add_outputs(work, job, [(Export, output.id)])
    return output


@dataclass(frozen=True, slots=True)
class PipelineExport:
    """What a node of a pipeline exported: files stored under keys with the id that the export gets."""

    id: UUID
    format: ExportFormat
    options: dict[str, Any]
    files: Sequence[StoredFile]


async def add_of_pipeline(work: Work, job: Row[Any], made: Sequence[PipelineExport], *, first: int, **source: UUID) -> list[str]:
    """Add what the nodes of a pipeline exported of `source`, the version that its job made, in the transaction that settles the job.

    `first` is the position of the first one among the job's outputs. Returns the keys of objects that are not needed.
    """
    duplicate_keys: list[str] = []
    for each in made:
        values = {"job_id": job.id, "format": each.format, "options": each.options, **source, **_completed(each.files)}
        await work.run(insert(Export).values(id=each.id, owner_id=job.owner_id, created_by_id=job.created_by_id, **values))
        await outputs.add_artifacts(work, job, each.files, duplicate_keys, export_id=each.id)
    if made:
        await outputs.add_outputs(work, job, [(Export, each.id) for each in made], first=first)
    return duplicate_keys


async def remove(work: Work, export_id: UUID, action: str = "delete_export") -> UUID:
    """Delete an export and its files. Raises `NotFound`, or `WrongState` while its job has not ended."""
    work.viewer.require_write()
    export = await work.first(select(Export).where(Export.id == export_id, visible(Export, work.viewer)).with_for_update())
    if export is None:
        raise NotFound(str(export_id))
    # Another statement: a retry that this one waited for has given the export another job.
    status = await work.scalar(select(Job.status).where(Job.id == export.job_id))
    if status not in TERMINAL:
        raise WrongState(status.name, "The export is not finished. Wait for its job or cancel that, then delete the export.")
    await work.run(delete(Export).where(Export.id == export_id))  # with it its artifacts, and their references to the objects
    before = {"format": export.format, "options": export.options, "job": ref("job", export.job_id)}
    if export.target is not None:
        before["target"] = export.target
    work.record(action, "export", export_id, export.owner_id, before)
    return export_id
