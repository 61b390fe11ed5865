"""The nodes of a pipeline that explain the model that it trained, after its body."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from db.core.checks import Checks
from db.errors import Unsupported
from db.queries.artifacts import MODEL, RESULTS, SIGNATURE
from db.services.explanations.methods import ExplainedModel, check_options, method_for, require_supported
from db.services.explanations.results import PipelineExplanation
from db.services.jobs import Failure
from db.services.predictions.signatures import MAX_SIGNATURE_BYTES, Signature
from db.tables.datasets import ProblemType
from db.tables.explanations import ExplanationMethod
from db.tables.models import ModelFormat
from workers.explanations import BODY
from workers.ml.steps.explain import EXPLAIN
from workers.pipeline_nodes import NodeRun, run_nodes
from workers.runtime import body_files
from workers.runtime.attempt import Attempt
from workers.runtime.failures import BodyFailed

EXPLAINING_FROM = 75  # percent of the job


async def explain_result(
    attempt: Attempt, definition: Mapping[str, Any], result: Mapping[str, Any], last_percent: int, *, is_last: bool
) -> list[PipelineExplanation]:
    """Explain the model that a pipeline's body trained, for each node that does; `is_last` if no other body follows. See `run_nodes`."""

    async def explain(run: NodeRun, output: dict[str, Any]) -> PipelineExplanation:
        made = await _explain(attempt, run, result)
        output |= {"method": made.method.name, "rows": made.result["rows"]}
        return made

    kept = "The trained model is kept, without this explanation."
    return await run_nodes(attempt, definition, EXPLAIN, explain, span=(EXPLAINING_FROM, last_percent), is_last=is_last, kept=kept)


async def _explain(attempt: Attempt, run: NodeRun, result: Mapping[str, Any]) -> PipelineExplanation:
    node = run.node
    job = attempt.job
    parameters = EXPLAIN.parameters.model_validate(node["parameters"]).model_dump()
    paths = {each["role"]: each["path"] for each in result["artifacts"]}
    model = ExplainedModel(job.parameters["modelName"], result["algorithm"], ModelFormat.SKOPS, ProblemType[result["problem_type"]])
    method = method_for(model) if parameters["method"] == "auto" else ExplanationMethod(parameters["method"])
    _require_possible(node["key"], method, model, await asyncio.to_thread(_read_signature, attempt, paths[SIGNATURE]), parameters)
    if RESULTS not in paths:
        raise BodyFailed(
            Failure("UNSUPPORTED", f"Step '{node['key']}': the rows that the model is measured on could not be kept.", retryable=False)
        )
    options = {
        "method": method.name,
        "maxRows": parameters["max_rows"],
        "features": parameters["features"],
        "classLabel": parameters["class_label"],
        "seed": job.parameters["seed"],
    }
    folder = attempt.folder / f"explanation-{run.number}"
    folder.mkdir()
    spec = {role.lower(): paths[role] for role in (MODEL, SIGNATURE, RESULTS)}
    told = await attempt.run_body(BODY, {**spec, "options": options, "folder": str(folder)}, span=run.span, is_last=run.is_last)
    files = [(Path(each["path"]), each["role"], each["filename"], each["content_type"]) for each in told["files"]]
    stored = await attempt.upload_all(files, f"models/{job.owner_id}/{job.id}/{attempt.key}/artifacts")
    return PipelineExplanation(method, told, stored)


def _read_signature(attempt: Attempt, path: str) -> Signature:
    with body_files.open_file(attempt.folder, Path(path)) as file:
        return Signature.of(orjson.loads(file.read(MAX_SIGNATURE_BYTES)))


def _require_possible(
    key: str, method: ExplanationMethod, model: ExplainedModel, signature: Signature, parameters: Mapping[str, Any]
) -> None:
    """Raises `BodyFailed` (UNSUPPORTED, BAD_PARAMETER)."""
    try:
        require_supported(method, model, signature)
    except Unsupported as error:
        raise BodyFailed(Failure("UNSUPPORTED", f"Step '{key}': {error.message}", retryable=False)) from error
    checks = Checks()
    check_options(checks, method, signature, parameters["features"], parameters["class_label"], parameters["max_rows"])
    if checks.issues:
        raise BodyFailed(Failure("BAD_PARAMETER", f"Step '{key}': {checks.issues[0].message}", retryable=False))
