"""Root queries for experiments, runs, comparisons of runs, and lineage."""

from typing import Annotated

import strawberry
from strawberry import ID

from db.core.criteria import Criteria, Equals
from db.queries import comparison, experiments, leaderboard, metrics, runs
from db.queries import lineage as lineages
from graph.core.context import Info
from graph.core.costs import COMPUTED, costs
from graph.core.edges import listing, lookup
from graph.core.errors import BadUserInput
from graph.core.ids import filter_id, parse
from graph.core.paging import Connection
from graph.core.permissions import query
from graph.experiments.comparison import RunComparison
from graph.experiments.enums import LineageDirection
from graph.experiments.inputs import ExperimentFilter, ExperimentOrder, RunFilter, RunOrder
from graph.experiments.lineage import KIND_BY_PREFIX, Lineage
from graph.experiments.metrics import MetricKey
from graph.experiments.types import Experiment, Run


@strawberry.type
class ExperimentQueries:
    experiment: Experiment | None = lookup(experiments.live_by_id, prefix="experiment", description="An experiment by its id.")
    experiments: Connection[Experiment] = listing(
        experiments.listing,
        filtered_by=ExperimentFilter,
        ordered_by=ExperimentOrder,
        description="Your experiments; for admins, everybody's.",
    )
    run: Run | None = lookup(runs.live_by_id, prefix="run", description="A run by its id.")
    runs: Connection[Run] = listing(
        leaderboard.listing,
        filtered_by=RunFilter,
        ordered_by=RunOrder,
        description="Your runs in all experiments; for admins, everybody's.",
    )

    @query(
        metadata=costs(COMPUTED, entries=1),
        description=f"The metrics of your runs, the most frequent first: those of the newest {metrics.MAX_RUNS:,} runs, at most {metrics.MAX_KEYS}. To choose"
        " what to order and to filter runs by.",
    )
    async def metric_keys(
        self,
        info: Info,
        experiment_id: Annotated[ID | None, strawberry.argument(description="Only of the runs of this experiment.")] = None,
        dataset_id: Annotated[ID | None, strawberry.argument(description="Only of the runs that trained on this dataset.")] = None,
    ) -> list[MetricKey]:
        criteria = Criteria.of(
            experiment_id=None if experiment_id is None else Equals(filter_id("experiment", experiment_id)),
            dataset_id=None if dataset_id is None else Equals(filter_id("dataset", dataset_id)),
        )
        counts = await metrics.key_counts(info.context.database, info.context.signed_in_viewer, criteria)
        return [MetricKey.of(row) for row in counts]

    @query(
        metadata=costs(COMPUTED),
        description="Compare the hyperparameters and last metrics of runs. Null if one of the runs does not exist or you may not see it.",
    )
    async def compare_runs(
        self,
        info: Info,
        ids: Annotated[list[ID], strawberry.argument(description="The runs, at most 20.")],
        only_differences: Annotated[
            bool, strawberry.argument(description="Omit parameters and metrics that are the same in all runs.")
        ] = False,
    ) -> RunComparison | None:
        if len(ids) > comparison.MAX_RUNS:
            raise BadUserInput(f"`ids` has {len(ids)} entries; at most {comparison.MAX_RUNS} runs are compared at once.")
        parsed_ids = [parse(id_) for id_ in ids]
        keys = [result[1] for result in parsed_ids if result is not None and result[0] == Run.prefix]
        if len(keys) < len(ids):
            return None
        found = await comparison.compare(info.context.database, info.context.signed_in_viewer, keys)
        return None if found is None else RunComparison.of(found, only_differences=only_differences)

    @query(
        metadata=costs(COMPUTED, scaled=("maxNodes", 1)),
        description="The causes and effects of a dataset version, a snapshot, a job, a run, a model version or an export. Null for ids of other types,"
        " and if there is no such object that you may see.",
    )
    async def lineage(
        self,
        info: Info,
        id: Annotated[ID, strawberry.argument(description="The id of the object to start from.")],
        direction: Annotated[LineageDirection, strawberry.argument(description="The direction to follow.")] = LineageDirection.BOTH,
        depth: Annotated[int, strawberry.argument(description="How many edges to follow, 0 to 50.")] = 5,
        max_nodes: Annotated[int, strawberry.argument(description="How many nodes to return, the nearest first, 1 to 1,000.")] = 200,
    ) -> Lineage | None:
        if not 0 <= depth <= lineages.MAX_DEPTH:
            raise BadUserInput(f"`depth` is {depth}; it must be between 0 and {lineages.MAX_DEPTH}.")
        if not 1 <= max_nodes <= lineages.MAX_NODES:
            raise BadUserInput(f"`maxNodes` is {max_nodes}; it must be between 1 and {lineages.MAX_NODES}.")
        parsed = parse(id)
        kind = None if parsed is None else KIND_BY_PREFIX.get(parsed[0])
        if parsed is None or kind is None:
            return None
        context = info.context
        result = await lineages.trace(
            context.database, context.signed_in_viewer, kind, parsed[1], direction=direction, depth=depth, max_nodes=max_nodes
        )
        return None if result is None else Lineage.of(result)
