"""Rungs of successive halving: what a trial has at a rung is stored once, and ranked among what the study's other trials had there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Float, Integer, Row, Select, Uuid, bindparam, func, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from db.core.goal import Goal
from db.core.work import Work
from db.services.jobs import Claim
from db.services.jobs.transitions import lock_if_held
from db.tables import Run, Trial, TrialRung

MAX_NUMBER = 2**31 - 1

_OWN = (
    select(TrialRung.value, Trial.pruning)
    .join(Trial, Trial.id == TrialRung.trial_id)
    .where(TrialRung.trial_id == bindparam("p_trial_id", type_=Uuid()), TrialRung.rung == bindparam("p_rung"))
)


def _rank_statement(goal: Goal) -> Select[*tuple[Any, ...]]:
    """Count the values that rank before one, and all of them; equal ones rank in the order of the trials."""
    value, number = bindparam("p_value", type_=Float()), bindparam("p_number", type_=Integer())
    is_better = TrialRung.value > value if goal is Goal.MAXIMIZE else TrialRung.value < value
    ranks_before = is_better | ((TrialRung.value == value) & (TrialRung.number < number))
    at_rung = (TrialRung.study_id == bindparam("p_study_id", type_=Uuid())) & (TrialRung.rung == bindparam("p_rung"))
    counts = or_(TrialRung.number <= bindparam("p_last_number"), TrialRung.number == number)
    return select(func.count().filter(ranks_before).label("before"), func.count().label("of")).where(at_rung, counts)


_RANK = {goal: _rank_statement(goal) for goal in Goal}


@dataclass(frozen=True, slots=True)
class Reached:
    """The rank of a trial at a rung, from 1 for the best, among `of`. `pruning` is the decision that an earlier attempt was told, if any."""

    rank: int
    of: int
    pruning: dict[str, Any] | None


async def reach(work: Work, claim: Claim, trial: Row[Any], rung: int, value: float) -> Reached | None:
    """Store what the trial has at a rung, unless an earlier attempt did, and rank it; None if the claim is lost.

    Of a reproducible study, a trial is ranked among those alone that had ended when it was added: what others do meanwhile changes nothing.
    """
    if not await lock_if_held(work, claim):
        return None
    values = {"trial_id": trial.id, "rung": rung, "study_id": trial.study_id, "number": trial.number, "value": value}
    await work.run(insert(TrialRung).values(values).on_conflict_do_nothing())
    own = await work.one(_OWN, {"p_trial_id": trial.id, "p_rung": rung})
    parameters = {"p_study_id": trial.study_id, "p_rung": rung, "p_number": trial.number, "p_value": own.value}
    last = trial.number - trial.max_parallel if trial.is_reproducible else MAX_NUMBER
    ranked = await work.one(_RANK[trial.goal], {**parameters, "p_last_number": last})
    return Reached(ranked.before + 1, ranked.of, own.pruning)


async def prune(work: Work, trial: Row[Any], decision: dict[str, Any]) -> None:
    """Write that a trial ends at a rung, and the ranks that this rests on: {rung, step, value, rank, of}. The claim is locked by `reach`."""
    statement = update(Trial).where(Trial.id == trial.id, Trial.pruning.is_(None))
    await work.run(statement.values(pruning=bindparam("p_decision", type_=JSONB)), {"p_decision": decision})


async def record_result(work: Work, run_id: UUID, network: dict[str, Any] | None) -> None:
    """Write what a pruned trial has trained to its run: the neural network, if it was one."""
    if network is not None:
        await work.run(update(Run).where(Run.id == run_id).values(architecture=network))
