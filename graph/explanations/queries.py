"""Root queries for explanations."""

import strawberry

from db.queries import explanations
from graph.core.edges import lookup
from graph.explanations.types import Explanation


@strawberry.type
class ExplanationQueries:
    explanation: Explanation | None = lookup(
        explanations.by_id,
        prefix="explanation",
        description="An explanation by its id. Those of a model version, a run or an item are lists of these.",
    )
