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
class WrittenOutput:
    """What was written, and the objects that turned out to be stored already: delete their keys after the commit."""

    id: UUID
    duplicate_keys: list[str] = field(default_factory=list[str])


async def store_object(work: Work, owner_id: UUID, file: StoredFile) -> tuple[UUID, str]:
    """The one object of this owner with these bytes: its id, and the key that it is kept under."""
    insertion = upsert(StoredObject).values(owner_id=owner_id, object_key=file.key, sha256=file.sha256, size_bytes=file.size)
    # The update changes nothing; it makes the statement return the row that is there already, locked.
    upsert_statement = insertion.on_conflict_do_update(index_elements=["owner_id", "sha256", "size_bytes"], set_={"size_bytes": file.size})
    stored = await work.one(upsert_statement.returning(StoredObject.id, StoredObject.object_key))
    return stored.id, stored.object_key


async def add_artifact(
    work: Work, job: Row[Any], file: StoredFile, duplicate_keys: list[str], attempt: int | None = None, **parent: UUID
) -> UUID:
    """A file of a dataset version, a model version, or of the job itself where no parent is named; then `attempt` says of which."""
    object_id, stored_key = await store_object(work, job.owner_id, file)
    if stored_key != file.key:
        duplicate_keys.append(file.key)
    statement = insert(Artifact).values(
        owner_id=job.owner_id,
        object_id=object_id,
        job_id=job.id,
        attempt=attempt,
        role=file.role,
        filename=file.filename,
        content_type=file.content_type,
        **parent,
    )
    return await work.scalar(statement.returning(Artifact.id))


async def mark_version_ready(
    work: Work,
    job: Row[Any],
    version_id: UUID,
    result: Result,
    raw: StoredFile,
    processed: StoredFile,
    profile_file: StoredFile | None = None,
) -> WrittenOutput:
    """An ingested version becomes READY, with its files and its profile; `result` is an `IngestResult`."""
    output = WrittenOutput(version_id)
    values = {
        "format": FileFormat[result["format"]],
        "size_bytes": result["size"],
        "sha256": result["sha256"],
        "issues": result["issues"],
        "issue_count": result["issue_count"],
        "produced_by_id": job.id,
    }
    await work.run(update(DatasetVersion).where(DatasetVersion.id == version_id).values({**values, **_ready_values(result)}))
    await add_artifact(work, job, raw, output.duplicate_keys, dataset_version_id=version_id)
    await _finish_version(work, job, output, result, processed, profile_file)
    return output


async def add_derived_version(
    work: Work, job: Row[Any], result: Result, processed: StoredFile, profile_file: StoredFile | None = None
) -> WrittenOutput:
    """A pipeline that does not train writes the next version of its output dataset; `result` is a `PipelineResult` of kind "dataset"."""
    dataset_id = UUID(job.parameters["outputDatasetId"])
    increment = update(Dataset).where(Dataset.id == dataset_id).values(last_number=Dataset.last_number + 1)
    number = await work.scalar(increment.returning(Dataset.last_number))
    statement = insert(DatasetVersion).values(
        dataset_id=dataset_id,
        number=number,
        source=DatasetSource.DERIVED,
        format=FileFormat.PARQUET,
        size_bytes=processed.size,
        sha256=processed.sha256,
        content_type=processed.content_type,
        produced_by_id=job.id,
        **_ready_values(result),
    )
    output = WrittenOutput(await work.scalar(statement.returning(DatasetVersion.id)))
    await _finish_version(work, job, output, result, processed, profile_file)
    return output


def _ready_values(result: Result) -> dict[str, Any]:
    return {
        "status": DatasetVersionStatus.READY,
        "ready_at": func.now(),
        "row_count": result["row_count"],
        "column_count": result["column_count"],
        "columns": result["columns"],
        "preview": result["preview"],
    }


async def _finish_version(
    work: Work, job: Row[Any], output: WrittenOutput, result: Result, processed: StoredFile, profile_file: StoredFile | None
) -> None:
    await add_artifact(work, job, processed, output.duplicate_keys, dataset_version_id=output.id)
    profile_id = await _add_profile(work, job, output, result["profile"], profile_file)
    await _add_outputs(work, job, [{"dataset_version_id": output.id}, {"profile_id": profile_id}])


async def _add_profile(work: Work, job: Row[Any], output: WrittenOutput, report: Result, file: StoredFile | None) -> UUID:
    """A report that was stored as a file is only referred to; a small one lies in the row."""
    report_values: dict[str, Any] = {"report": {"columns": report["columns"], "correlations": report["correlations"]}}
    if file is not None:
        object_id, stored_key = await store_object(work, job.owner_id, file)
        if stored_key != file.key:
            output.duplicate_keys.append(file.key)
        report_values = {"report_object_id": object_id}
    statement = insert(DatasetProfile).values(
        version_id=output.id,
        profiler_version=report["profiler_version"],
        generation_time=report["generation_time"],
        is_exact=report["is_exact"],
        row_count=report["row_count"],
        duplicate_row_count=report["duplicate_row_count"],
        missing_cell_ratio=report["missing_cell_ratio"],
        **report_values,
    )
    return await work.scalar(statement.returning(DatasetProfile.id))


async def mark_version_failed(work: Work, version_id: UUID, issues: Sequence[Result], issue_count: int | None = None) -> None:
    """An ingest that failed for good leaves its version FAILED, with what was wrong."""
    statement = update(DatasetVersion).where(DatasetVersion.id == version_id, DatasetVersion.status != DatasetVersionStatus.READY)
    await work.run(
        statement.values(
            status=DatasetVersionStatus.FAILED, issues=list(issues), issue_count=len(issues) if issue_count is None else issue_count
        )
    )


async def add_model_version(work: Work, job: Row[Any], run: Row[Any], result: Result, files: Sequence[StoredFile]) -> WrittenOutput:
    """A training's model becomes the next version of the model named in the job's parameters, which is made where missing.

    `result` is a `PipelineResult` of kind "model". The run's points must all be written before.
    """
    problem_type = ProblemType[result["problem_type"]] if result["problem_type"] else None
    model_id = await _ensure_model(work, job.owner_id, job.parameters["modelName"], problem_type)
    increment = update(Model).where(Model.id == model_id).values(last_number=Model.last_number + 1)
    number = await work.scalar(increment.returning(Model.last_number))
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
    cursor_result = await work.connection.execute(select(*columns).where(RunMetric.run_id == run.id).order_by(RunMetric.key))
    summaries = cursor_result.mappings().all()
    statement = insert(ModelVersion).values(
        model_id=model_id,
        number=number,
        algorithm=result["algorithm"],
        architecture=result["architecture"],
        framework=result["framework"],
        problem_type=problem_type,
        metrics=[{**row, "last": finite_or_none(row["last"])} for row in summaries],
        hyperparameters=result["hyperparameters"],
        packages=result["versions"],
        seed=run.seed,
        job_id=job.id,
        run_id=run.id,
        snapshot_id=job.snapshot_id,
        dataset_version_id=job.dataset_version_id,
    )
    output = WrittenOutput(await work.scalar(statement.returning(ModelVersion.id)))
    for file in files:
        await add_artifact(work, job, file, output.duplicate_keys, model_version_id=output.id)
    await work.run(update(Run).where(Run.id == run.id).values(hyperparameters=result["hyperparameters"]))
    await _add_outputs(work, job, [{"model_version_id": output.id}])
    return output


def finite_or_none(value: float | None) -> float | None:
    """NaN and infinities cannot stand in JSON; they are served as null."""
    return value if value is not None and value - value == 0 else None


async def _ensure_model(work: Work, owner_id: UUID, name: str, problem_type: ProblemType | None) -> UUID:
    insertion = upsert(Model).values(owner_id=owner_id, name=name, problem_type=problem_type)
    is_live = Model.deleted_at.is_(None)
    upsert_statement = insertion.on_conflict_do_update(
        index_elements=[Model.owner_id, func.lower(Model.name)],
        index_where=is_live,
        set_={"problem_type": func.coalesce(Model.problem_type, insertion.excluded.problem_type)},
    )
    return await work.scalar(upsert_statement.returning(Model.id))


async def _add_outputs(work: Work, job: Row[Any], outputs: Sequence[Mapping[str, UUID]]) -> None:
    for position, reference in enumerate(outputs):
        await work.run(insert(JobOutput).values(job_id=job.id, position=position, **reference))
