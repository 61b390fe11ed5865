"""Budgets of experiments and teams."""

from typing import Any, Self

import strawberry

from db.queries import billing
from graph.accounts.types import User
from graph.core.edges import extend, one
from graph.core.permissions import Scope, scoped
from graph.core.scalars import BigInt
from graph.experiments.types import Experiment


@strawberry.type(
    description="What jobs may cost together, and what they have cost since it was first set. A job that would exceed `limit` is not made."
)
class CreditBudget:
    limit: BigInt | None = strawberry.field(description="The most credits; null for no limit, after one was removed.")
    held: BigInt = strawberry.field(description="Those that unfinished jobs hold; they count in the limit.")
    charged: BigInt = strawberry.field(description="Those that completed jobs were charged, also if they were refunded.")

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(limit=row.max_credits, held=row.held, charged=row.charged)


extend(
    Experiment,
    "budget",
    CreditBudget | None,
    one(
        billing.budget_by_experiment,
        metadata=scoped(Scope.BILLING),
        description="What the jobs of its runs may cost; null until `setBudget` sets it.",
    ),
)
extend(
    User,
    "budget",
    CreditBudget | None,
    one(
        billing.budget_by_account,
        metadata=scoped(Scope.BILLING),
        description="What all jobs of the team may cost; null until `setBudget` sets it, and for a person.",
    ),
)
