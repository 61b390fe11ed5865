"""Queries of jobs: lists, their parts, and their positions in the queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Row, Uuid, bindparam, select

from db.core.batch import rows_by_key, rows_by_parent
from db.core.criteria import Filters, Orders
from db.core.listing import Listing
from db.core.policy import visible
from db.core.prepared_rows import PreparedRows
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries import scheduling
from db.queries.artifacts import LOG
from db.tables import Artifact, Job, JobAttempt, JobDocument, JobNode, JobOutput, Worker
from db.tables.jobs import JobKind

COLUMNS = (
    Job.id,
    Job.owner_id,
    Job.created_by_id,
    Job.kind,
    Job.status,
    Job.queue,
    Job.dispatch_no,
    Job.priority,
    Job.progress,
    Job.current_step,
    Job.attempt,
    Job.tries,
    Job.max_tries,
    Job.timeout_seconds,
    Job.last_sequence,
    Job.parameters.label("stored_parameters"),
    Job.credit_cost,
    Job.error.label("failure"),
    Job.retry_of_id,
    Job.dataset_id,
    Job.dataset_version_id,
    Job.pipeline_id,
    Job.snapshot_id,
    Job.model_version_id,
    Job.run_after,
    Job.created_at,
    Job.updated_at,
    Job.queued_at,
    Job.started_at,
    Job.completed_at,
    Job.estimated_completed_at,
)


def jobs(viewer: Viewer) -> Rows:
    """The jobs a viewer may see, as lists show them."""
    return select(*COLUMNS).where(visible(Job, viewer))


by_id = rows_by_key(jobs, Job.id)

FILTERS = Filters(Job)

listing = Listing(jobs, Orders(Job), FILTERS)
of_owner = listing.under(Job.owner_id)
of_dataset = listing.under(Job.dataset_id)
of_version = listing.under(Job.dataset_version_id)
of_pipeline = listing.under(Job.pipeline_id)
of_snapshot = listing.under(Job.snapshot_id)


def _predictions(viewer: Viewer) -> Rows:
    return jobs(viewer).where(Job.kind == JobKind.PREDICT)


predictions_of_model_version = Listing(_predictions, Orders(Job), FILTERS).under(Job.model_version_id)


def _attempts(viewer: Viewer) -> Rows:
    """`log_id` is the artifact with the attempt's log."""
    columns = (column for column in JobAttempt.__table__.c if column.name != "error")
    is_log = (Artifact.job_id == JobAttempt.job_id) & (Artifact.attempt == JobAttempt.number) & (Artifact.role == LOG)
    log = select(Artifact.id).where(is_log).limit(1).scalar_subquery().label("log_id")
    attempts = select(*columns, JobAttempt.error.label("failure"), Job.owner_id, log)
    return attempts.join(Job, Job.id == JobAttempt.job_id).where(visible(JobAttempt, viewer))


def _nodes(viewer: Viewer) -> Rows:
    """The nodes of the latest attempt, which replace those of earlier ones."""
    latest = (Job.id == JobNode.job_id) & (Job.attempt == JobNode.attempt)
    columns = (column for column in JobNode.__table__.c if column.name != "error")
    return select(*columns, JobNode.error.label("failure"), Job.owner_id).join(Job, latest).where(visible(JobNode, viewer))


def _outputs(viewer: Viewer) -> Rows:
    return select(JobOutput.__table__).where(visible(JobOutput, viewer))


def _results(viewer: Viewer) -> Rows:
    return select(JobDocument.job_id, JobDocument.result).where(visible(JobDocument, viewer), JobDocument.result.is_not(None))


results = rows_by_key(_results, JobDocument.job_id)
attempts = rows_by_parent(_attempts, JobAttempt.job_id, JobAttempt.number.asc())
nodes = rows_by_parent(_nodes, JobNode.job_id, JobNode.position.asc(), JobNode.key.asc())
outputs = rows_by_parent(_outputs, JobOutput.job_id, JobOutput.position.asc())


async def wait_info(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Row[Any]]:
    """For those of the jobs that wait: `reason` (a `scheduling.WaitReason`) and `position` in the queue, 1 being next.

    The position counts the jobs of all owners and tells nothing else of them. It is None while the backoff before a retry lasts.
    """
    return {row.id: row for row in await _WAITS(database, viewer, job_ids=keys)}


_WAITS = PreparedRows(lambda viewer: scheduling.wait_positions(bindparam("job_ids", type_=ARRAY(Uuid)), visible(Job, viewer)), "job_ids")


async def live_workers(database: Database) -> Sequence[Row[Any]]:
    """The live workers by name: `id`, `name`, `queues`, `slots`, `started_at`, `heartbeat_at`."""
    columns = (Worker.id, Worker.name, Worker.queues, Worker.slots, Worker.started_at, Worker.heartbeat_at)
    return await database.rows(select(*columns).where(scheduling.is_live()).order_by(Worker.name))
