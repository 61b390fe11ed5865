"""Root queries for jobs."""

from __future__ import annotations

import strawberry

from db.queries import jobs
from graph.core.edges import listing, lookup
from graph.core.paging import Connection
from graph.jobs.inputs import JobFilter, JobOrder
from graph.jobs.types import Job


@strawberry.type
class JobQueries:
    job: Job | None = lookup(jobs.by_id, prefix="job", description="A job by its id.")
    jobs: Connection[Job] = listing(
        jobs.listing, filtered_by=JobFilter, ordered_by=JobOrder, description="Your jobs; for admins, everybody's."
    )
