"""Budgets: what the jobs of a team, or of one experiment, may cost together. What a job costs is held in each budget that it counts in, then charged or
released, in the transaction that does the same to its payer's credits.

Budgets are locked last, after all accounts and in the order of their ids: the end of a job may hold its account's row already, where stored bytes are
counted, so a transaction that held a budget and waited for an account could deadlock with it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, any_, case, func, insert, literal, or_, select, union_all, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.policy import visible
from db.core.prices import MAX_CREDITS
from db.core.viewer import AccountKind, UserRole
from db.core.work import Work
from db.errors import BudgetExceeded, Forbidden, NotFound, invalid
from db.tables import CreditBudget, CreditBudgetJob, Experiment, Job, Run, User
from db.tables.jobstates import TERMINAL, JobStatus

_AFTER_ACCOUNTS = UUID(int=2**128 - 1)  # in the order of `Work.before_commit`: no account has this id


@dataclass(frozen=True, slots=True)
class _Jobs:
    """The jobs of a unit of work that were submitted or have ended, as one action before its commit."""

    work: Work
    jobs: tuple[Row[Any], ...]

    async def __call__(self) -> None:
        by_budget: dict[UUID, list[Row[Any]]] = defaultdict(list)
        jobs = {job.id: job for job in self.jobs}
        ended = [job.id for job in self.jobs if job.status in TERMINAL]
        for row in await self.work.all(_counting_in(list(jobs.keys() - set(ended)), ended)):
            by_budget[row.budget_id].append(jobs[row.job_id])
        if not by_budget:
            return
        lock = select(*CreditBudget.__table__.c).where(CreditBudget.id.in_(by_budget)).order_by(CreditBudget.id).with_for_update()
        for budget in await self.work.all(lock):
            await _count(self.work, budget, by_budget[budget.id])


def add_job(work: Work, job: Row[Any]) -> None:
    """Count a job with a price that was submitted or has ended, before the commit; which raises `BudgetExceeded` if a budget does not allow it."""
    earlier = next((action for _, action in work.before_commit_actions if isinstance(action, _Jobs)), None)
    if earlier is not None:
        work.before_commit_actions.remove((_AFTER_ACCOUNTS, earlier))
    work.before_commit(_AFTER_ACCOUNTS, _Jobs(work, (*(() if earlier is None else earlier.jobs), job)))


def _counting_in(submitted: list[UUID], ended: list[UUID]) -> Any:
    """The budgets in which jobs count: those of their account and of their run's experiment; of ended ones, where they were held."""
    of_account = and_(CreditBudget.owner_id == Job.owner_id, CreditBudget.experiment_id.is_(None))
    return union_all(
        select(Job.id.label("job_id"), CreditBudget.id.label("budget_id"))
        .join(CreditBudget, of_account)
        .where(Job.id == any_(literal(submitted))),
        select(Run.job_id, CreditBudget.id)
        .join(CreditBudget, CreditBudget.experiment_id == Run.experiment_id)
        .where(Run.job_id == any_(literal(submitted))),
        select(CreditBudgetJob.job_id, CreditBudgetJob.budget_id).where(CreditBudgetJob.job_id == any_(literal(ended))),
    )


async def _count(work: Work, budget: Row[Any], jobs: list[Row[Any]]) -> None:
    held, charged = budget.held, budget.charged
    for job in jobs:
        if job.status in TERMINAL:
            held -= job.credit_cost
            charged += job.credit_cost if job.status is JobStatus.COMPLETED else 0
    submitted = [job for job in jobs if job.status not in TERMINAL]
    cost = sum(job.credit_cost for job in submitted)
    if cost and budget.max_credits is not None and held + charged + cost > budget.max_credits:
        raise BudgetExceeded(cost, max(0, budget.max_credits - held - charged), await _name(work, budget), budget.max_credits)
    await work.run(update(CreditBudget).where(CreditBudget.id == budget.id).values(held=held + cost, charged=charged))
    if submitted:
        await work.run(insert(CreditBudgetJob), [{"job_id": job.id, "budget_id": budget.id} for job in submitted])


async def _name(work: Work, budget: Row[Any]) -> str:
    if budget.experiment_id is None:
        return f"the team {await work.scalar(select(User.username).where(User.id == budget.owner_id))!r}"
    return f"the experiment {await work.scalar(select(Experiment.name).where(Experiment.id == budget.experiment_id))!r}"


async def left(work: Work, owner_id: UUID, experiment_id: UUID | None) -> int | None:
    """The credits that budgets leave for a job of this account, in this experiment; None if there is no budget."""
    of_account = and_(CreditBudget.owner_id == owner_id, CreditBudget.experiment_id.is_(None))
    is_counted = of_account if experiment_id is None else or_(of_account, CreditBudget.experiment_id == experiment_id)
    rest = func.greatest(CreditBudget.max_credits - CreditBudget.held - CreditBudget.charged, 0)
    return await work.scalar(select(func.min(case((CreditBudget.max_credits.is_not(None), rest)))).where(is_counted))


async def set_for_experiment(work: Work, experiment_id: UUID, limit: int | None) -> UUID:
    """Limit what the jobs of an experiment may cost from now on, or no more for None; return the budget's id.

    Raises `NotFound`, `InvalidInput`, or `Forbidden` for all but the ADMINs of a team.
    """
    work.viewer.require_write()
    is_live = (Experiment.id == experiment_id, Experiment.deleted_at.is_(None), visible(Experiment, work.viewer))
    owner_id = await work.scalar(select(Experiment.owner_id).where(*is_live).with_for_update(key_share=True))
    if owner_id is None:
        raise NotFound(str(experiment_id))
    return await _set(work, "experiment", experiment_id, owner_id, limit)


async def set_for_team(work: Work, team_id: UUID, limit: int | None) -> UUID:
    """Limit what the jobs of a team may cost, as `set_for_experiment` does."""
    work.viewer.require_write()
    is_team = (User.id == team_id, User.kind == AccountKind.TEAM, User.deleted_at.is_(None), visible(User, work.viewer))
    if await work.scalar(select(User.id).where(*is_team)) is None:
        raise NotFound(str(team_id))
    return await _set(work, "user", team_id, team_id, limit)


async def _set(work: Work, prefix: str, subject_id: UUID, owner_id: UUID, limit: int | None) -> UUID:
    viewer = work.viewer
    if owner_id != viewer.id and not viewer.sees_all and viewer.role_in(owner_id) is not UserRole.ADMIN:
        raise Forbidden("Only the ADMINs of a team set its budgets.")
    if limit is not None and not 0 <= limit <= MAX_CREDITS:
        raise invalid("credits", message=f"A budget is from 0 to {MAX_CREDITS} credits, or null for none.")
    experiment_id = subject_id if prefix == "experiment" else None
    is_it = and_(CreditBudget.owner_id == owner_id, CreditBudget.experiment_id.is_not_distinct_from(experiment_id))
    before = await work.scalar(select(CreditBudget.max_credits).where(is_it))
    insertion = upsert(CreditBudget).values(owner_id=owner_id, experiment_id=experiment_id, max_credits=limit)
    target: Any = {"index_elements": ["experiment_id"]}
    if experiment_id is None:
        target = {"index_elements": ["owner_id"], "index_where": CreditBudget.experiment_id.is_(None)}
    statement = insertion.on_conflict_do_update(**target, set_={"max_credits": limit}).returning(CreditBudget.id)
    budget_id: UUID = await work.scalar(statement)
    work.record("set_budget", prefix, subject_id, owner_id, {"max_credits": before}, {"max_credits": limit})
    return budget_id
