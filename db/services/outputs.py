"""What a job leaves behind, written in the transaction that settles it: everything here becomes visible with COMPLETED or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.work import Work
from db.tables import Artifact, Dataset, DatasetProfile, DatasetVersion, JobOutput, Model, ModelVersion, Run, RunMetric, StoredObject
from db.tables.datasets import DatasetSource, DatasetVersionStatus, FileFormat, ProblemType

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An object that lies in the store already, checked by size and SHA-256 (hex), and what people call it."""

    key: str
    size: int
    sha256: str
    role: str
    filename: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What was written, and the objects that turned out to be stored already: delete their keys after the commit."""

    id: UUID
    surplus: list[str] = field(default_factory=list[str])


async def store_object(work: Work, owner_id: UUID, file: StoredFile) -> tuple[UUID, str]:
    """The one object of this owner with these bytes: its id, and the key that it is kept under."""
    row = upsert(StoredObject).values(owner_id=owner_id, object_key=file.key, sha256=file.sha256, size_bytes=file.size)
    # The update changes nothing; it makes the statement return the row that is there already, locked.
    kept = row.on_conflict_do_update(index_elements=["owner_id", "sha256", "size_bytes"], set_={"size_bytes": file.size})
    found = await work.one(kept.returning(StoredObject.id, StoredObject.object_key))
    return found.id, found.object_key


async def add_artifact(work: Work, job: Row[Any], file: StoredFile, surplus: list[str], attempt: int | None = None, **parent: UUID) -> UUID:
    """A file of a dataset version, a model version, or of the job itself where no parent is named; then `attempt` says of which."""
    object_id, kept = await store_object(work, job.owner_id, file)
    if kept != file.key:
        surplus.append(file.key)
    row = insert(Artifact).values(
        owner_id=job.owner_id,
        object_id=object_id,
        job_id=job.id,
        attempt=attempt,
        role=file.role,
        filename=file.filename,
        content_type=file.content_type,
        **parent,
    )
    return await work.scalar(row.returning(Artifact.id))


async def version_ready(
    work: Work,
    job: Row[Any],
    version_id: UUID,
    result: Result,
    raw: StoredFile,
    processed: StoredFile,
    profile_file: StoredFile | None = None,
) -> Settled:
    """An ingested version becomes READY, with its files and its profile; `result` is an `IngestResult`."""
    settled = Settled(version_id)
    values = {
        "format": FileFormat[result["format"]],
        "size_bytes": result["size"],
        "sha256": result["sha256"],
        "issues": result["issues"],
        "issue_count": result["issue_count"],
        "produced_by_id": job.id,
    }
    await work.run(update(DatasetVersion).where(DatasetVersion.id == version_id).values({**values, **_ready(result)}))
    await add_artifact(work, job, raw, settled.surplus, dataset_version_id=version_id)
    await _finish_version(work, job, settled, result, processed, profile_file)
    return settled


async def derived_version(
    work: Work, job: Row[Any], result: Result, processed: StoredFile, profile_file: StoredFile | None = None
) -> Settled:
    """A pipeline that does not train writes the next version of its output dataset; `result` is a `PipelineResult` of kind "dataset"."""
    dataset_id = UUID(job.parameters["outputDatasetId"])
    count = update(Dataset).where(Dataset.id == dataset_id).values(last_number=Dataset.last_number + 1)
    number = await work.scalar(count.returning(Dataset.last_number))
    version = insert(DatasetVersion).values(
        dataset_id=dataset_id,
        number=number,
        source=DatasetSource.DERIVED,
        format=FileFormat.PARQUET,
        size_bytes=processed.size,
        sha256=processed.sha256,
        content_type=processed.content_type,
        produced_by_id=job.id,
        **_ready(result),
    )
    settled = Settled(await work.scalar(version.returning(DatasetVersion.id)))
    await _finish_version(work, job, settled, result, processed, profile_file)
    return settled


def _ready(result: Result) -> dict[str, Any]:
    return {
        "status": DatasetVersionStatus.READY,
        "ready_at": func.now(),
        "row_count": result["row_count"],
        "column_count": result["column_count"],
        "columns": result["columns"],
        "preview": result["preview"],
    }


async def _finish_version(
    work: Work, job: Row[Any], settled: Settled, result: Result, processed: StoredFile, profile_file: StoredFile | None
) -> None:
    await add_artifact(work, job, processed, settled.surplus, dataset_version_id=settled.id)
    profile_id = await _profile(work, job, settled, result["profile"], profile_file)
    await _outputs(work, job, [{"dataset_version_id": settled.id}, {"profile_id": profile_id}])


async def _profile(work: Work, job: Row[Any], settled: Settled, report: Result, file: StoredFile | None) -> UUID:
    """A report that was stored as a file is only referred to; a small one lies in the row."""
    where: dict[str, Any] = {"report": {"columns": report["columns"], "correlations": report["correlations"]}}
    if file is not None:
        object_id, kept = await store_object(work, job.owner_id, file)
        if kept != file.key:
            settled.surplus.append(file.key)
        where = {"report_object_id": object_id}
    row = insert(DatasetProfile).values(
        version_id=settled.id,
        profiler_version=report["profiler_version"],
        generation_time=report["generation_time"],
        is_exact=report["is_exact"],
        row_count=report["row_count"],
        duplicate_row_count=report["duplicate_row_count"],
        missing_cell_ratio=report["missing_cell_ratio"],
        **where,
    )
    return await work.scalar(row.returning(DatasetProfile.id))


async def version_failed(work: Work, version_id: UUID, issues: Sequence[Result], issue_count: int | None = None) -> None:
    """An ingest that failed for good leaves its version FAILED, with what was wrong."""
    version = update(DatasetVersion).where(DatasetVersion.id == version_id, DatasetVersion.status != DatasetVersionStatus.READY)
    await work.run(
        version.values(
            status=DatasetVersionStatus.FAILED, issues=list(issues), issue_count=len(issues) if issue_count is None else issue_count
        )
    )


async def model_version(work: Work, job: Row[Any], run: Row[Any], result: Result, files: Sequence[StoredFile]) -> Settled:
    """A training's model becomes the next version of the model named in the job's parameters, which is made where missing.

    `result` is a `PipelineResult` of kind "model". The run's points must all be written before.
    """
    problem_type = ProblemType[result["problem_type"]] if result["problem_type"] else None
    model_id = await _model(work, job.owner_id, job.parameters["modelName"], problem_type)
    count = update(Model).where(Model.id == model_id).values(last_number=Model.last_number + 1)
    number = await work.scalar(count.returning(Model.last_number))
    columns = (
        RunMetric.key,
        RunMetric.last,
        RunMetric.last_step,
        RunMetric.min,
        RunMetric.min_step,
        RunMetric.max,
        RunMetric.max_step,
        RunMetric.count,
    )
    found = await work.connection.execute(select(*columns).where(RunMetric.run_id == run.id).order_by(RunMetric.key))
    summaries = found.mappings().all()
    version = insert(ModelVersion).values(
        model_id=model_id,
        number=number,
        algorithm=result["algorithm"],
        architecture=result["architecture"],
        framework=result["framework"],
        problem_type=problem_type,
        metrics=[{**row, "last": finite(row["last"])} for row in summaries],
        hyperparameters=result["hyperparameters"],
        packages=result["versions"],
        seed=run.seed,
        job_id=job.id,
        run_id=run.id,
        snapshot_id=job.snapshot_id,
        dataset_version_id=job.dataset_version_id,
    )
    settled = Settled(await work.scalar(version.returning(ModelVersion.id)))
    for file in files:
        await add_artifact(work, job, file, settled.surplus, model_version_id=settled.id)
    await work.run(update(Run).where(Run.id == run.id).values(hyperparameters=result["hyperparameters"]))
    await _outputs(work, job, [{"model_version_id": settled.id}])
    return settled


def finite(value: float | None) -> float | None:
    """NaN and infinities cannot stand in JSON; they are served as null."""
    return value if value is not None and value - value == 0 else None


async def _model(work: Work, owner_id: UUID, name: str, problem_type: ProblemType | None) -> UUID:
    row = upsert(Model).values(owner_id=owner_id, name=name, problem_type=problem_type)
    live = Model.deleted_at.is_(None)
    kept = row.on_conflict_do_update(
        index_elements=[Model.owner_id, func.lower(Model.name)],
        index_where=live,
        set_={"problem_type": func.coalesce(Model.problem_type, row.excluded.problem_type)},
    )
    return await work.scalar(kept.returning(Model.id))


async def _outputs(work: Work, job: Row[Any], made: Sequence[Mapping[str, UUID]]) -> None:
    for position, thing in enumerate(made):
        await work.run(insert(JobOutput).values(job_id=job.id, position=position, **thing))
