"""What an explanation tells once its job has completed, and its deletion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, insert, select, update

from db.core.audit import ref
from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, WrongState
from db.services import outputs
from db.services.outputs import Result, StoredFile, WrittenOutput
from db.tables import Explanation, Job
from db.tables.explanations import ExplanationMethod
from db.tables.jobstates import TERMINAL


async def complete(work: Work, job: Row[Any], result: Result, files: Sequence[StoredFile]) -> WrittenOutput:
    """Add what an explanation tells in the transaction that settles its job; `result` is an `ExplanationResult`."""
    output = WrittenOutput(UUID(job.parameters["explanationId"]))
    await work.run(update(Explanation).where(Explanation.id == output.id).values(_told(result)))
    await outputs.add_artifacts(work, job, files, output.duplicate_keys, explanation_id=output.id)
    await outputs.add_outputs(work, job, [(Explanation, output.id)])
    return output


@dataclass(frozen=True, slots=True)
class PipelineExplanation:
    """What a node of a pipeline told of the model that the pipeline trained; `result` is an `ExplanationResult`."""

    method: ExplanationMethod
    result: Result
    files: Sequence[StoredFile]


async def add_of_pipeline(
    work: Work, job: Row[Any], made: Sequence[PipelineExplanation], *, first: int, model_version_id: UUID, run_id: UUID
) -> list[str]:
    """Add what the nodes of a pipeline told of a model version, in the transaction that settles the job.

    `first` is the position of the first one among the job's outputs. Returns the keys of objects that are not needed.
    """
    duplicate_keys: list[str] = []
    ids: list[UUID] = []
    for each in made:
        values = {
            "owner_id": job.owner_id,
            "created_by_id": job.created_by_id,
            "job_id": job.id,
            "model_version_id": model_version_id,
            "run_id": run_id,
            "method": each.method,
            **_told(each.result),
        }
        ids.append(await work.scalar(insert(Explanation).values(values).returning(Explanation.id)))
        await outputs.add_artifacts(work, job, each.files, duplicate_keys, explanation_id=ids[-1])
    if ids:
        await outputs.add_outputs(work, job, [(Explanation, id_) for id_ in ids], first=first)
    return duplicate_keys


def _told(result: Result) -> dict[str, Any]:
    return {name: result[name] for name in ("attributions", "data", "additivity_error")}


async def remove(work: Work, explanation_id: UUID, action: str = "delete_explanation") -> UUID:
    """Delete an explanation and its files. Raises `NotFound`, or `WrongState` while its job has not ended."""
    work.viewer.require_write()
    statement = select(Explanation.job_id, Explanation.owner_id, Explanation.method, Explanation.model_version_id)
    is_visible = (Explanation.id == explanation_id) & visible(Explanation, work.viewer)
    explanation = await work.first(statement.where(is_visible).with_for_update())
    if explanation is None:
        raise NotFound(str(explanation_id))
    # Another statement: a retry that this one waited for has given the explanation another job.
    status = await work.scalar(select(Job.status).where(Job.id == explanation.job_id))
    if status not in TERMINAL:
        raise WrongState(status.name, "The explanation is not finished. Wait for its job or cancel that, then delete the explanation.")
    await work.run(
        delete(Explanation).where(Explanation.id == explanation_id)
    )  # with it its artifacts, and their references to the objects
    before = {
        "method": explanation.method,
        "model_version": ref("mversion", explanation.model_version_id),
        "job": ref("job", explanation.job_id),
    }
    work.record(action, "explanation", explanation_id, explanation.owner_id, before)
    return explanation_id
