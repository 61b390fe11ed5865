"""Move runs from one experiment to another of the same account."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Integer, Uuid, bindparam, func, literal_column, select, update

from db.core.audit import ref
from db.core.policy import visible
from db.core.sql import equals_any
from db.core.work import Work
from db.errors import NotFound, invalid
from db.tables import Experiment, Job, Run, RunMetric

MAX_RUNS = 100  # in one mutation


async def move_runs(work: Work, run_ids: Sequence[UUID], experiment_id: UUID) -> list[UUID]:
    """Move runs to an experiment, where each gets the next number in the order of the ids; return all of them. Those that are there stay as they are.

    Either all move or none does. Rows are locked in the order of a settle: jobs, which the writers of metrics lock, then experiments, then runs.
    Raises `NotFound`, or `InvalidInput` for runs of another account.
    """
    work.viewer.require_write()
    ids = list(dict.fromkeys(run_ids))
    if not ids:
        raise invalid("ids", message="Name at least one run.")
    if len(ids) > MAX_RUNS:
        raise invalid("ids", message=f"At most {MAX_RUNS} runs are moved at once.")
    target = select(Experiment.owner_id).where(
        Experiment.id == experiment_id, Experiment.deleted_at.is_(None), visible(Experiment, work.viewer)
    )
    owner_id: UUID | None = await work.scalar(target)
    if owner_id is None:
        raise NotFound(str(experiment_id))
    work.viewer.require_write_in(owner_id)
    # Nothing but a move changes the experiment of a run, so from here on those that are read below are the ones that are locked.
    await work.run(select(func.pg_advisory_xact_lock(func.hashtextextended(f"runs {owner_id}", 0))))
    runs = select(Run.id, Run.owner_id, Run.job_id, Run.experiment_id, Run.number).join(Experiment, Experiment.id == Run.experiment_id)
    runs = runs.where(equals_any(Run.id, ids), Experiment.deleted_at.is_(None), Run.deleted_at.is_(None), visible(Run, work.viewer))
    rows = {row.id: row for row in await work.all(runs)}
    for position, run_id in enumerate(ids):
        if run_id not in rows:
            raise NotFound(str(run_id))
        if rows[run_id].owner_id != owner_id:
            raise invalid("ids", position, message="This run belongs to another account than the experiment. Runs move within one account.")
    moving = [rows[run_id] for run_id in ids if rows[run_id].experiment_id != experiment_id]
    if not moving:
        return ids
    jobs = select(Job.id).where(equals_any(Job.id, [row.job_id for row in moving if row.job_id is not None]))
    await work.all(jobs.order_by(Job.id).with_for_update(key_share=True))
    experiments = select(Experiment.id).where(
        equals_any(Experiment.id, {experiment_id, *(row.experiment_id for row in moving)}), Experiment.deleted_at.is_(None)
    )
    live = {row.id for row in await work.all(experiments.order_by(Experiment.id).with_for_update(key_share=True))}
    if experiment_id not in live:
        raise NotFound(str(experiment_id))
    for row in moving:
        if row.experiment_id not in live:
            raise NotFound(str(row.id))
    moved = [row.id for row in moving]
    locked = select(Run.id).where(equals_any(Run.id, moved), Run.deleted_at.is_(None)).order_by(Run.id).with_for_update(key_share=True)
    left = {row.id for row in await work.all(locked)}
    for run_id in moved:
        if run_id not in left:  # deleted meanwhile
            raise NotFound(str(run_id))
    increment = update(Experiment).where(Experiment.id == experiment_id).values(last_number=Experiment.last_number + len(moved))
    last_number: int = await work.scalar(increment.returning(Experiment.last_number))
    first_number = last_number - len(moved) + 1
    numbers = (
        func.unnest(bindparam("p_ids", moved, type_=ARRAY(Uuid())), bindparam("p_numbers", type_=ARRAY(Integer())))
        .table_valued(literal_column("id", Uuid()), literal_column("number", Integer()), name="numbers")
        .render_derived()
    )
    renumbering = update(Run).where(Run.id == numbers.c.id).values(experiment_id=experiment_id, number=numbers.c.number)
    await work.run(renumbering, {"p_numbers": list(range(first_number, last_number + 1))})
    await work.run(update(RunMetric).where(equals_any(RunMetric.run_id, moved)).values(experiment_id=experiment_id))
    for number, row in enumerate(moving, first_number):
        before = {"experiment": ref("experiment", row.experiment_id), "number": row.number}
        work.record("move_runs", "run", row.id, owner_id, before, {"experiment": ref("experiment", experiment_id), "number": number})
    return ids
