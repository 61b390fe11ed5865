"""Reproduce a run: do its job again, as a new run that refers to the original. `db.queries.reproductions` compares the two."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy import update as update_rows

from db.core.audit import ref
from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, WrongState
from db.services import idempotency, jobs
from db.tables import Experiment, Run
from db.tables.experiments import RunSource, RunStatus

OPERATION = "reproduceRun"


async def reproduce(work: Work, run_id: UUID, idempotency_key: str | None = None) -> UUID:
    """Submit the training of a completed run again with the same snapshot, inputs and seed, and return the new job's id.

    Raises `NotFound`, `InvalidInput`, `WrongState`, `Conflict` or `QuotaExceeded`; the end of the unit of work raises `InsufficientCredits`.
    """
    work.viewer.require_write()
    stored_answer = await idempotency.recall(work, OPERATION, idempotency_key, {"run_id": str(run_id)})
    if stored_answer is not None:
        return UUID(stored_answer["job"])
    statement = select(Run.owner_id, Run.status, Run.source, Run.job_id).join(Experiment, Experiment.id == Run.experiment_id)
    is_live = (Run.deleted_at.is_(None), Experiment.deleted_at.is_(None))
    run = await work.first(statement.where(Run.id == run_id, *is_live, visible(Run, work.viewer)).with_for_update(of=Run, key_share=True))
    if run is None:
        raise NotFound(str(run_id))
    if run.source is RunSource.EXTERNAL or run.job_id is None:
        raise WrongState(run.status.name, "The run was made by code elsewhere, which is not kept here. Run that code again.")
    if run.status is not RunStatus.COMPLETED:
        raise WrongState(
            run.status.name,
            f"The run is {run.status.name}; only one that has completed can be reproduced. Do the job of another one again with `retryJob`.",
        )
    job_id = (await jobs.submit_again(work, run.job_id)).id
    new_id = await work.scalar(update_rows(Run).where(Run.job_id == job_id).values(original_run_id=run_id).returning(Run.id))
    await idempotency.remember(work, idempotency_key, {"job": str(job_id)})
    work.record("reproduce_run", "run", new_id, run.owner_id, after={"original": ref("run", run_id)})
    return job_id
