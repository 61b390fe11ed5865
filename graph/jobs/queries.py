"""Root queries for jobs."""

from typing import Annotated

import strawberry

from db.queries import job_statistics, jobs
from graph.core.context import Info
from graph.core.costs import COMPUTED, costs
from graph.core.edges import listing, lookup
from graph.core.paging import Connection
from graph.core.permissions import query
from graph.jobs.enums import JobGrouping
from graph.jobs.inputs import JobFilter, JobOrder
from graph.jobs.statistics import JobStatistic
from graph.jobs.types import Job

_BY_STATUS = [JobGrouping.STATUS]


@strawberry.type
class JobQueries:
    job: Job | None = lookup(jobs.by_id, prefix="job", description="A job by its id.")
    jobs: Connection[Job] = listing(
        jobs.listing, filtered_by=JobFilter, ordered_by=JobOrder, description="Your jobs; for admins, everybody's."
    )

    @query(
        metadata=costs(COMPUTED, entries=1),
        description=f"How many jobs there are, and how long they took and waited, by groups, the largest first. Of the jobs of the last"
        f" {job_statistics.PERIOD.days} days, unless the filter says since when; of more than {job_statistics.MAX_JOBS:,}, the newest. At most"
        f" {job_statistics.MAX_GROUPS:,} groups.",
    )
    async def job_statistics(
        self,
        info: Info,
        filter: Annotated[JobFilter | None, strawberry.argument(description="Count only jobs that meet all of these conditions.")] = None,
        group_by: Annotated[
            list[JobGrouping], strawberry.argument(description="What the jobs of a group have in common; with none, all are one group.")
        ] = _BY_STATUS,
    ) -> list[JobStatistic]:
        groupings = list(dict.fromkeys(group_by))
        criteria = None if filter is None else filter.to_criteria()
        rows = await job_statistics.statistics(info.context.database, info.context.signed_in_viewer, criteria, groupings)
        return [JobStatistic.of(row, groupings) for row in rows]
