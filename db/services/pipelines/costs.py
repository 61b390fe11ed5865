"""What a run of a pipeline would cost."""

from __future__ import annotations

from dataclasses import dataclass

from db.core.work import Work
from db.services import credit_budgets, credits
from db.services.pipelines.running import PROCESS, TRAIN, RunRequest, prepare


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """The credits that a run would cost, those that its payer can spend within the budgets of team and experiment, and what the cost follows from."""

    credits: int
    available: int
    basis: str


async def estimate_cost(work: Work, request: RunRequest) -> CostEstimate:
    """Price a run, which is checked as `run` checks it. Raises `NotFound`, `InvalidInput`, `WrongState` or `Unsupported`; writes nothing."""
    prepared = await prepare(work, request)
    kind, does = (PROCESS.kind, "does not train") if prepared.training is None else (TRAIN.kind, "trains")
    cost = credits.price(kind)
    price = f"costs {cost} credit{'' if cost == 1 else 's'}" if cost else "costs nothing"
    basis = f"The pipeline {does}, and a {kind.name} job {price} at present."
    owner_id = prepared.pipeline.owner_id
    available = await credits.available_to(work, owner_id)
    left = await credit_budgets.left(work, owner_id, None if prepared.training is None else request.experiment_id)
    return CostEstimate(cost, available if left is None else min(available, left), basis)
