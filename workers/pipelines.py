"""TRAIN and PROCESS: run a pipeline snapshot on a dataset version."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.viewer import SYSTEM
from db.core.work import Work
from db.errors import Conflict
from db.queries.artifacts import PROCESSED, RAW
from db.services import models, outputs, versions
from db.services.explanations.results import PipelineExplanation
from db.services.explanations.results import add_of_pipeline as add_explanations
from db.services.exports import PipelineExport
from db.services.exports import add_of_pipeline as add_exports
from db.services.jobs import Failure, target_of
from db.services.outputs import StoredFile
from db.services.studies import importances, pruning
from db.tables import Artifact, Dataset, DatasetVersion, JobInput, Pipeline, PipelineSnapshot, Run, StoredObject
from db.tables.datasets import Modality
from db.tables.jobs import JobKind
from workers.datasets import PARQUET, store_items, store_profile
from workers.items import download_items
from workers.ml.steps.explain import EXPLAIN
from workers.ml.steps.export import EXPORT
from workers.ml.steps.join import JOIN
from workers.ml.steps.registry import STEPS
from workers.ml.studies.halving import PRUNED
from workers.pipeline_config import finished, store_config
from workers.pipeline_explanations import EXPLAINING_FROM, explain_result
from workers.pipeline_exports import FIRST_PERCENT, export_result
from workers.registry import task
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.failures import BodyFailed
from workers.studies import begin_trial, halving_options, keep_result, rank_parameters

LEAKS = ("LEAKED_ITEMS", "SIMILAR_ACROSS_SPLITS")  # issues of a version, see `workers.ml.items.records`
BODY = "workers.ml.training:run_pipeline"


@task(JobKind.TRAIN)
async def train(attempt: Attempt) -> Effects:
    """Train a model. Metric points are written during the run, the model version in the settle; a trial of a study keeps its files instead."""
    trial = await begin_trial(attempt)
    job = attempt.job
    (run,) = await attempt.database.rows(select(*Run.__table__.c).where(Run.job_id == job.id))
    attempt.reports.run_id = run.id
    attempt.checkpoints.key_prefix = f"models/{job.owner_id}/{job.id}/{attempt.key}/checkpoints"
    model_path = attempt.folder / "found"
    checkpoint = await attempt.checkpoints.load("training", model_path)
    resume_from = None if checkpoint is None else {"state": checkpoint.state["body"], "path": str(model_path)}
    options = {"model": await _model_spec(attempt)} if trial is None else halving_options(attempt, trial)
    ranks = trial is not None and await importances.is_due(attempt.database, trial)
    checkpointing = {"interval": attempt.checkpoint_interval, "checkpoint": resume_from}
    ran = await _run(attempt, is_last=not ranks, checkpointing=checkpointing, **options)
    if ran.result["kind"] == PRUNED:

        async def prune(work: Work, settled: Row[Any]) -> Sequence[str]:
            await pruning.record_result(work, run.id, ran.result["network"])
            return await ran.add_config(work, settled)

        return prune
    if trial is not None and ranks:
        await rank_parameters(attempt, trial, run.id)
    prefix = f"models/{job.owner_id}/{job.id}/{attempt.key}/artifacts"
    files = await _store_artifacts(attempt, ran.result["artifacts"], prefix)

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        if trial is not None:
            duplicate_keys = await keep_result(work, settled, trial, run, ran.result, files)
            return [*duplicate_keys, *await ran.add_rest(work, settled, first=0)]
        try:
            output = await models.add_version(work, settled, run, ran.result, files)
        except Conflict as error:  # another first version of the model was settled during this training
            raise BodyFailed(Failure("OTHER_PROBLEM_TYPE", error.message, retryable=False)) from error
        rest = await ran.add_rest(work, settled, first=1, model_version_id=output.id)
        first = 1 + len(ran.exports)
        told = await add_explanations(work, settled, ran.explanations, first=first, model_version_id=output.id, run_id=run.id)
        return [*output.duplicate_keys, *rest, *told]

    return effects


async def _store_artifacts(attempt: Attempt, artifacts: Sequence[dict[str, Any]], prefix: str) -> list[StoredFile]:
    """Store the files of a model, each once however many artifacts it is: the best checkpoint is the model itself."""
    distinct = {each["path"]: each for each in reversed(artifacts)}
    files = await attempt.upload_all(
        [(Path(path), each["role"], each["filename"], each["content_type"]) for path, each in distinct.items()], prefix
    )
    stored = dict(zip(distinct, files, strict=True))
    return [
        replace(
            stored[each["path"]],
            role=each["role"],
            filename=each["filename"],
            step=each["step"],
            path=each["filename"] if each["step"] is None else f"checkpoints/{each['filename']}",
        )
        for each in artifacts
    ]


@task(JobKind.PROCESS)
async def process(attempt: Attempt) -> Effects:
    """Write the next version of the output dataset. The settle creates its id, so object keys use the attempt's key instead."""
    job = attempt.job
    ran = await _run(attempt)
    result = ran.result
    prefix = f"datasets/{job.owner_id}/{target_of(job)}/{attempt.key}"
    processed = await attempt.upload(Path(result["parquet"]), f"{prefix}/processed/{attempt.key}", PROCESSED, "data.parquet", PARQUET)
    profile = await store_profile(attempt, prefix, result["profile"], "profile.json")
    items = await _store_items(attempt, result, prefix)

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        output = await versions.add_derived(work, settled, result, processed, profile, items)
        return [*output.duplicate_keys, *await ran.add_rest(work, settled, first=2, dataset_version_id=output.id)]

    return effects


async def _store_items(attempt: Attempt, result: dict[str, Any], prefix: str) -> versions.StoredItems | None:
    """Store the items of a version that has some."""
    if "items" not in result:
        return None
    raw = result["raw"]
    file = await attempt.upload(Path(raw["path"]), f"{prefix}/raw/{attempt.key}", RAW, raw["filename"], raw["content_type"])
    lines, files = await store_items(attempt, result["items"], prefix, Path(raw["filename"]).stem)
    assert lines is not None
    return versions.StoredItems(file, lines, files)


async def _model_spec(attempt: Attempt) -> dict[str, Any]:
    """Return the name of the model and its present problem type. The submission could not compare that if only the data tell what is trained."""
    name = attempt.job.parameters["modelName"]
    async with attempt.database.work(SYSTEM) as work:
        problem_type = await models.problem_type(work, attempt.job.owner_id, name)
    return {"name": name, "problem_type": None if problem_type is None else problem_type.name}


@dataclass(frozen=True, slots=True)
class _PipelineRun:
    """The result of a pipeline's body, what its nodes told and exported of it, and the file that says what ran."""

    result: dict[str, Any]
    explanations: list[PipelineExplanation]
    exports: list[PipelineExport]
    config: StoredFile

    async def add_rest(self, work: Work, settled: Row[Any], *, first: int, **source: UUID) -> list[str]:
        """Add exports and file in the transaction that settles the job; see `exports.add_of_pipeline`."""
        duplicate_keys = await add_exports(work, settled, self.exports, first=first, **source)
        return [*duplicate_keys, *await self.add_config(work, settled)]

    async def add_config(self, work: Work, settled: Row[Any]) -> list[str]:
        """Add the file alone, which is the only one of a trial that was pruned."""
        duplicate_keys: list[str] = []
        await outputs.add_artifact(work, settled, self.config, duplicate_keys, settled.attempt)
        return duplicate_keys


async def _run(attempt: Attempt, *, is_last: bool = True, **options: Any) -> _PipelineRun:
    """Run the body, and the nodes that explain or export its result. Another body may follow if it is not the last one."""
    job = attempt.job
    data = await _load_data(attempt)
    definition = data.definition
    titles = {key: step.title for key, step in STEPS.items()}
    await attempt.begin_nodes([(node["key"], node["step"]) for node in definition["nodes"]], titles)
    attempt.progress(0, "Download")
    source, folder = attempt.folder / "data.parquet", attempt.folder / "out"
    folder.mkdir()
    await _download(attempt, data, source)
    versions = await _download_others(attempt, definition)
    spec = {
        "definition": definition,
        "parquet": str(source),
        "columns": data.file_columns,
        "target_column": data.target_column,
        "problem_type": data.problem_type.name if data.problem_type is not None else None,
        "seed": job.parameters["seed"],
        "folder": str(folder),
        "context": {
            "dataset_name": data.dataset_name,
            "version_number": data.number,
            "pipeline_name": data.pipeline_name,
            "pipeline_version": data.pipeline_version,
            "job_id": f"job_{job.id.hex}",
        },
        "known_leaks": [issue["message"] for issue in data.issues if issue["code"] in LEAKS],
        "versions": versions,
        "items": await download_items(attempt, job.dataset_version_id) if _reads_contents(definition) else None,
        "is_joined": data.modality is Modality.MULTIMODAL,
        **options,
    }
    # Tables were written by our own bodies, so such a body may share its process; images and recordings are as they were uploaded.
    exports_result = any(node["step"] == EXPORT.key for node in definition["nodes"])
    explains_result = any(node["step"] == EXPLAIN.key for node in definition["nodes"])
    exported_from = FIRST_PERCENT if exports_result else 95
    span = (2, EXPLAINING_FROM if explains_result else exported_from)
    is_last = is_last and not (explains_result or exports_result)
    storing = asyncio.create_task(store_config(attempt, data))
    try:
        result = await attempt.run_body(BODY, spec, span=span, is_shared=spec["items"] is None, is_last=is_last)
        explanations = await explain_result(attempt, definition, result, exported_from, is_last=not exports_result)
        exports = await export_result(attempt, definition, spec, result)
        attempt.progress(95, "Store")
        return _PipelineRun(result, explanations, exports, await finished(storing, lambda: store_config(attempt, data)))
    finally:
        storing.cancel()
        # A request on its way could still create an object that was to be removed. If the body failed, that is what is told.
        await asyncio.gather(storing, return_exceptions=True)


def _reads_contents(definition: dict[str, Any]) -> bool:
    steps = (STEPS.get(node["step"]) for node in definition["nodes"])
    return any(step is not None and step.content is not None for step in steps)


async def _download_others(attempt: Attempt, definition: dict[str, Any]) -> dict[str, Any]:
    """Download the versions that steps join. The submission has checked them, and recorded them as inputs of the job."""
    others: dict[str, Any] = {}
    for id_ in sorted({node["parameters"]["version"] for node in definition["nodes"] if node["step"] == JOIN.key}):
        statement = (
            select(
                DatasetVersion.number,
                DatasetVersion.columns.label("file_columns"),
                Dataset.name.label("dataset_name"),
                StoredObject.object_key,
                StoredObject.size_bytes,
                StoredObject.sha256,
            )
            .join(JobInput, (JobInput.dataset_version_id == DatasetVersion.id) & (JobInput.job_id == attempt.job.id))
            .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
            .join(Artifact, (Artifact.dataset_version_id == DatasetVersion.id) & (Artifact.role == PROCESSED))
            .join(StoredObject, StoredObject.id == Artifact.object_id)
            .where(DatasetVersion.id == UUID(hex=id_.removeprefix("version_")))
        )
        (row,) = await attempt.database.rows(statement)
        path = await _download(attempt, row, attempt.folder / f"{id_}.parquet")
        others[id_] = {"parquet": str(path), "columns": row.file_columns}
    return others


async def _download(attempt: Attempt, data: Row[Any], path: Path) -> Path:
    name = f"The file of version {data.number} of the dataset {data.dataset_name!r}"
    return await attempt.download(data, path, name, "Upload the data again as a new version, and start the job on that.")


async def _load_data(attempt: Attempt) -> Row[Any]:
    """Load the version's Parquet object, the pipeline definition and the names that the body needs."""
    job = attempt.job
    statement = (
        select(
            PipelineSnapshot.definition,
            PipelineSnapshot.sha256.label("snapshot_sha256"),
            Pipeline.name.label("pipeline_name"),
            Pipeline.version.label("pipeline_version"),
            Dataset.name.label("dataset_name"),
            Dataset.modality,
            Dataset.target_column,
            Dataset.problem_type,
            DatasetVersion.number,
            DatasetVersion.columns.label("file_columns"),
            DatasetVersion.issues,
            StoredObject.object_key,
            StoredObject.size_bytes,
            StoredObject.sha256,
        )
        .select_from(PipelineSnapshot)
        .join(Pipeline, Pipeline.id == PipelineSnapshot.pipeline_id, isouter=True)
        .join(DatasetVersion, DatasetVersion.id == job.dataset_version_id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .join(Artifact, (Artifact.dataset_version_id == DatasetVersion.id) & (Artifact.role == PROCESSED))
        .join(StoredObject, StoredObject.id == Artifact.object_id)
        .where(PipelineSnapshot.id == job.snapshot_id)
    )
    (row,) = await attempt.database.rows(statement)
    return row
