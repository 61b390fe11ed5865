"""Root queries for studies."""

from typing import Annotated

import strawberry
from strawberry import ID

from db.queries import studies
from db.services.studies import costs as study_costs
from db.services.studies.budgets import MAX_PARALLEL, MAX_TRIALS, Budget
from graph.core.context import Info
from graph.core.costs import COMPUTED, costs
from graph.core.edges import listing, lookup
from graph.core.errors import BadUserInput
from graph.core.ids import lookup_key
from graph.core.paging import Connection
from graph.core.permissions import query
from graph.studies.inputs import StudyFilter, StudyOrder
from graph.studies.types import Study, StudyCostEstimate


@strawberry.type
class StudyQueries:
    study: Study | None = lookup(studies.live_by_id, prefix="study", description="A study by its id.")
    studies: Connection[Study] = listing(
        studies.listing, filtered_by=StudyFilter, ordered_by=StudyOrder, description="Your studies; for admins, everybody's."
    )

    @query(
        metadata=costs(COMPUTED),
        description="What a study of a pipeline would cost. Null if there is no such pipeline or you may not see it.",
    )
    async def estimate_study_cost(
        self,
        info: Info,
        pipeline_id: Annotated[ID, strawberry.argument(description="The pipeline.")],
        max_trials: Annotated[int, strawberry.argument(description="How many trials it would make, 1 to 100,000.")],
        max_parallel: Annotated[int, strawberry.argument(description="How many at once, 1 to 100.")] = Budget().max_parallel,
    ) -> StudyCostEstimate | None:
        for name, value, most in (("maxTrials", max_trials, MAX_TRIALS), ("maxParallel", max_parallel, MAX_PARALLEL)):
            if not 1 <= value <= most:
                raise BadUserInput(f"`{name}` is {value}; it must be between 1 and {most:,}.")
        pipeline_key = lookup_key("pipeline", pipeline_id)
        if pipeline_key is None:
            return None
        context = info.context
        found = await study_costs.estimate(context.database, context.signed_in_viewer, pipeline_key, max_trials, max_parallel)
        if found is None:
            return None
        return StudyCostEstimate(credits=found.credits, seconds=found.seconds, based_on=found.based_on, basis=found.basis)
