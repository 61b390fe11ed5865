"""The nodes of a pipeline that export what it made, after its body."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from db.core.checks import Checks
from db.queries.artifacts import MODEL, SIGNATURE
from db.services import export_options
from db.services.export_options import Source
from db.services.exports import PipelineExport
from db.services.jobs import Failure, target_of
from db.tables import Dataset
from db.tables.exports import ExportFormat
from db.tables.jobs import JobKind
from workers.exports import DATASET_BODY, MODEL_BODY, safe_name
from workers.ml.steps.export import EXPORT
from workers.pipeline_nodes import NodeRun, run_nodes
from workers.runtime.attempt import Attempt
from workers.runtime.failures import BodyFailed

FIRST_PERCENT, LAST_PERCENT = 85, 95


async def export_result(
    attempt: Attempt, definition: Mapping[str, Any], spec: Mapping[str, Any], result: Mapping[str, Any]
) -> list[PipelineExport]:
    """Export the result of a pipeline's body, for each node that does; `spec` is what the body got. See `run_nodes`."""

    async def export(run: NodeRun, output: dict[str, Any]) -> PipelineExport:
        made = await _export(attempt, run, spec, result)
        output |= {"export": f"export_{made.id.hex}", "bytes": sum(file.size for file in made.files)}
        return made

    kept = "What the pipeline made is kept, without this export."
    return await run_nodes(attempt, definition, EXPORT, export, span=(FIRST_PERCENT, LAST_PERCENT), is_last=True, kept=kept)


async def _export(attempt: Attempt, run: NodeRun, spec: Mapping[str, Any], result: Mapping[str, Any]) -> PipelineExport:
    job = attempt.job
    parameters = EXPORT.parameters.model_validate(run.node["parameters"]).model_dump()
    export_format = ExportFormat(parameters["format"])
    folder = attempt.folder / f"export-{run.number}"
    folder.mkdir()
    if job.kind is JobKind.TRAIN:
        body, options = MODEL_BODY, {}
        body_spec = _of_model(job.parameters["modelName"], spec, result)
    else:
        body = DATASET_BODY
        body_spec, target = await _of_rows(attempt, result)
        names = [column["name"] for column in result["columns"]]
        options = _options(run.node["key"], export_format, parameters["options"], Source(names, target))
        body_spec |= {"format": export_format.name, "options": options}
    exported = await attempt.run_body(body, {**body_spec, "folder": str(folder)}, span=run.span, is_last=run.is_last)
    ((export_id,),) = await attempt.database.rows(select(func.uuidv7()))
    files = [(Path(each["path"]), each["role"], each["filename"], each["content_type"]) for each in exported["files"]]
    stored = await attempt.upload_all(files, f"exports/{job.owner_id}/{export_id}/{attempt.key}")
    return PipelineExport(UUID(str(export_id)), export_format, options, stored)


def _of_model(name: str, spec: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    paths = {each["role"]: each["path"] for each in result["artifacts"]}
    return {
        "model": paths[MODEL],
        "signature": paths[SIGNATURE],
        "parquet": spec["parquet"],
        "items": spec["items"],
        "stem": safe_name(name),
        "name": f"The model {name!r}",
    }


async def _of_rows(attempt: Attempt, result: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The spec of the body, and the target column of the dataset that gets the rows. Their version has no number before the settle."""
    statement = select(Dataset.name, Dataset.target_column, Dataset.problem_type).where(Dataset.id == target_of(attempt.job))
    (dataset,) = await attempt.database.rows(statement)
    body_spec = {
        "parquet": result["parquet"],
        "stem": safe_name(dataset.name),
        "columns": result["columns"],
        "problem_type": None if dataset.problem_type is None else dataset.problem_type.name,
        "source": {"name": dataset.name, "number": None, "description": None, "license": None, "url": None, "published": None},
    }
    return body_spec, dataset.target_column


def _options(key: str, export_format: ExportFormat, given: dict[str, Any], source: Source) -> dict[str, Any]:
    checks = Checks()
    options = export_options.validated(export_format, given, source, checks)
    if checks.issues:
        issue = checks.issues[0]
        raise BodyFailed(Failure("BAD_PARAMETER", f"Step '{key}' ({'.'.join(issue.path)}): {issue.message}", retryable=False))
    return options
