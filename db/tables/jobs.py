"""Jobs and all that belongs to them. The row is the source of truth; Redis only carries notices."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from db.core.base import (
    Table,
    bigint_column,
    created_by_column,
    enum_column,
    filter_index,
    jsonb_column,
    listing_indexes,
    now_column,
    uuid_primary_key,
)
from db.core.policy import Internal, Owned, Personal, Through
from db.tables.jobstates import JobStatus


class JobKind(StrEnum):
    """The kind of a job."""

    INGEST = "ingest"
    PROFILE = "profile"
    DEDUCE_SCHEMA = "deduce_schema"
    PROCESS = "process"
    TRAIN = "train"
    STUDY = "study"
    TRIAL = "trial"
    EXPLAIN = "explain"
    EXPORT = "export"
    EXPORT_LIST = "export_list"
    IMPORT = "import"
    GENERATE = "generate"
    PURGE = "purge"
    PREDICT = "predict"
    COMPARE = "compare"


class JobNodeStatus(StrEnum):
    """The status of one node of a job's pipeline in one attempt."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class JobEventType(StrEnum):
    """The type of a job event."""

    CREATED = "created"
    QUEUED = "queued"
    STARTED = "started"
    STEP_STARTED = "step_started"
    PROGRESS = "progress"
    STEP_COMPLETED = "step_completed"
    LOG = "log"
    METRIC = "metric"
    RETRYING = "retrying"
    CANCEL_REQUESTED = "cancel_requested"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Job(Table, policy=Owned()):
    """A job and its status. Changed only by the compare-and-set transitions of `db.services.jobs`, which a trigger enforces.

    `error` is {code, message, retryable, traceback}. `worker_id` and `lease_until` belong to the current attempt. `credit_cost` is
    what was held for it when it was submitted; a trigger refuses its change. `payer_id` is the account whose credits, turns and limit of running
    jobs it takes, if that is not its owner; no foreign key, as of who made it. `waiting_since` is when it last began to wait;
    `postponements` counts how often in a row a service was unavailable for it. `extras` of the package are those that its worker must have.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        *listing_indexes("jobs", deletable=False),
        filter_index("jobs", "owner_id", "status"),
        *(
            filter_index("jobs", column)
            for column in ("kind", "status", "queue", "dataset_id", "dataset_version_id", "pipeline_id", "snapshot_id", "model_version_id")
        ),
        # With `created_at` behind the order, jobs outside of a period are left out before their rows are read.
        Index("ix_jobs_priority", text("priority DESC"), text("id DESC"), "created_at"),
        Index("ix_jobs_owner_id_priority", "owner_id", text("priority DESC"), text("id DESC"), "created_at"),
        Index("ix_jobs_waiting", "queue", "priority", "created_at", postgresql_where=text("status IN ('pending', 'queued')")),
        Index("ix_jobs_leased", "lease_until", postgresql_where=text("status IN ('running', 'cancelling')")),
        Index("ix_jobs_unfinished_dataset", "dataset_id", postgresql_where=text("status NOT IN ('completed', 'failed', 'cancelled')")),
        Index("ix_jobs_updated_at", "updated_at"),
        CheckConstraint("progress BETWEEN 0 AND 100", name="progress_is_a_percentage"),
        CheckConstraint("priority BETWEEN 1 AND 10", name="priority_1_to_10"),
        CheckConstraint("attempt >= 0 AND tries >= 0 AND losses >= 0 AND max_tries > 0", name="counts_not_negative"),
        CheckConstraint("(status IN ('running', 'cancelling')) = (lease_until IS NOT NULL)", name="leased_while_active"),
        CheckConstraint("(status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)", name="completed_at_says_final"),
        CheckConstraint("status <> 'failed' OR error IS NOT NULL", name="failure_has_an_error"),
        CheckConstraint("credit_cost >= 0", name="cost_not_negative"),
        CheckConstraint("cardinality(extras) > 0", name="extras_are_some_or_null"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    kind: Mapped[JobKind] = enum_column("kind", JobKind)
    status: Mapped[JobStatus] = enum_column("status", JobStatus, server_default="pending")
    queue: Mapped[str]
    extras: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="5")
    progress: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    current_step: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(server_default="0")
    tries: Mapped[int] = mapped_column(server_default="0")
    max_tries: Mapped[int] = mapped_column(server_default="3")
    losses: Mapped[int] = mapped_column(server_default="0")
    postponements: Mapped[int] = mapped_column(server_default="0")
    last_sequence: Mapped[int] = bigint_column(server_default="1")
    parameters: Mapped[dict[str, Any]] = jsonb_column("{}")
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    payer_id: Mapped[UUID | None]
    retry_of_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="RESTRICT"), index=True)
    dataset_id: Mapped[UUID | None] = mapped_column(ForeignKey("datasets.id", ondelete="RESTRICT"))
    dataset_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("dataset_versions.id", ondelete="RESTRICT"))
    pipeline_id: Mapped[UUID | None] = mapped_column(ForeignKey("pipelines.id", ondelete="RESTRICT"))
    snapshot_id: Mapped[UUID | None] = mapped_column(ForeignKey("pipeline_snapshots.id", ondelete="RESTRICT"))
    model_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id", ondelete="RESTRICT", use_alter=True))
    worker_id: Mapped[UUID | None] = mapped_column(ForeignKey("workers.id", ondelete="RESTRICT"), index=True)
    lease_until: Mapped[datetime | None]
    run_after: Mapped[datetime | None]
    dispatch_no: Mapped[int] = mapped_column(server_default="0")
    dispatched_at: Mapped[datetime | None]
    timeout_seconds: Mapped[float | None]
    credit_cost: Mapped[int] = bigint_column(server_default="0")
    estimated_completed_at: Mapped[datetime | None]
    waiting_since: Mapped[datetime] = now_column()
    created_by_id: Mapped[UUID | None] = created_by_column()
    created_at: Mapped[datetime] = now_column()
    updated_at: Mapped[datetime] = now_column()
    queued_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


class JobDocument(Table, policy=Through("job_id")):
    """What a job was given and what it answers, as JSON, where that is too large for `jobs`, whose rows lists read.

    The input is written with the job, the result with its completion.
    """

    __tablename__ = "job_documents"
    __table_args__ = (CheckConstraint("num_nonnulls(input, result) > 0", name="is_not_empty"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    input: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class JobAttempt(Table, policy=Through("job_id")):
    """One claim of a job by a worker. `outcome` is completed, failed, cancelled, retrying, given_back or lost."""

    __tablename__ = "job_attempts"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[UUID | None] = mapped_column(ForeignKey("workers.id", ondelete="SET NULL"), index=True)
    worker: Mapped[str]
    started_at: Mapped[datetime] = now_column()
    heartbeat_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class JobNode(Table, policy=Through("job_id")):
    """One node of the job's pipeline (or one stage of an ingest) in one attempt."""

    __tablename__ = "job_nodes"
    __table_args__ = (CheckConstraint("progress BETWEEN 0 AND 100", name="progress_is_a_percentage"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    step: Mapped[str]
    status: Mapped[JobNodeStatus] = enum_column("status", JobNodeStatus, server_default="pending")
    progress: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    output: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


class JobEvent(Table, policy=Through("job_id")):
    """An event of a job, numbered from 1 without gaps. Partitioned by month of the job's id."""

    __tablename__ = "job_events"
    __table_args__ = {"postgresql_partition_by": "RANGE (job_id)"}  # noqa: RUF012 - SQLAlchemy's own class attribute

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    type: Mapped[JobEventType] = enum_column("type", JobEventType)
    status: Mapped[JobStatus] = enum_column("status", JobStatus)
    progress: Mapped[int] = mapped_column(SmallInteger)
    step: Mapped[str | None]
    message: Mapped[str | None]
    data: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[datetime] = now_column()


class JobCheckpoint(Table, policy=Internal("State that the next attempt of the job resumes from.")):
    """A checkpoint of a job, from which the next attempt resumes; deleted when the job ends.

    `position` counts what is done (row groups, boosting rounds) and only grows. What does not fit `state` is in the store.
    """

    __tablename__ = "job_checkpoints"
    __table_args__ = (
        CheckConstraint("position >= 0 AND size_bytes >= 0", name="counts_not_negative"),
        CheckConstraint("num_nonnulls(object_key, size_bytes, sha256) IN (0, 3)", name="object_is_whole"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    position: Mapped[int] = bigint_column()
    state: Mapped[dict[str, Any]] = jsonb_column("{}")
    object_key: Mapped[str | None] = mapped_column(unique=True)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    created_at: Mapped[datetime] = now_column()


class JobInput(Table, policy=Through("job_id")):
    """A version that a job reads; the lineage relation INPUT_OF."""

    __tablename__ = "job_inputs"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    dataset_version_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id", ondelete="RESTRICT"), primary_key=True, index=True)


class JobOutput(Table, policy=Through("job_id")):
    """An output of a completed job, in order. `kind` is the `output_kind` of the table that holds the row `target_id`.

    No foreign key protects the row; a trigger on its table does (`trellis_guard_output`). The transaction that inserts an output has
    inserted or updated its row before, so a concurrent delete waits for the row's lock and then sees the output.
    """

    __tablename__ = "job_outputs"
    __table_args__ = (UniqueConstraint("kind", "target_id"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    target_id: Mapped[UUID]


class IdempotencyKey(Table, policy=Personal("owner_id")):
    """An idempotency key, its first request and result, as ids; kept for a day."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    operation: Mapped[str]
    request_sha256: Mapped[str]
    answer: Mapped[dict[str, Any]] = jsonb_column("{}")
    created_at: Mapped[datetime] = now_column()


class Worker(Table, policy=Internal("Worker processes, for operators.")):
    """A worker process and its last heartbeat. `queues` are those that it serves, and their routes by its extras (see `db.core.queues`)."""

    __tablename__ = "workers"
    __table_args__ = (UniqueConstraint("name"), Index("ix_workers_live", "heartbeat_at", postgresql_where=text("stopped_at IS NULL")))

    id: Mapped[UUID] = uuid_primary_key()
    name: Mapped[str]
    queues: Mapped[list[str]] = mapped_column(ARRAY(Text))
    slots: Mapped[int]
    extras: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """Those that are installed; None if it is of a release that did not say."""
    started_at: Mapped[datetime] = now_column()
    heartbeat_at: Mapped[datetime] = now_column()
    stopped_at: Mapped[datetime | None]


class OwnerTurn(Table, policy=Internal("When a job of each owner last started, for the scheduler.")):
    """When a job of this owner last started in this queue; the scheduler alternates between owners by it."""

    __tablename__ = "owner_turns"

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[datetime] = now_column()


class Uptime(Table, policy=Internal("When PostgreSQL was last restarted, for the reaper.")):
    """One row: an upper bound of when PostgreSQL last started or recovered. Unlogged, so that crash recovery empties it."""

    __tablename__ = "uptime"
    __table_args__ = (CheckConstraint("is_only", name="one_row"), {"prefixes": ["UNLOGGED"]})

    is_only: Mapped[bool] = mapped_column(primary_key=True, server_default="true")
    since: Mapped[datetime] = now_column()


class MaintenanceTaskState(Table, policy=Internal("How the maintenance tasks ran, for workers and operators.")):
    """The last run of a maintenance task and its outcome. An advisory lock keeps it to one worker at a time."""

    __tablename__ = "chores"
    __table_args__ = (CheckConstraint("runs >= 0 AND failures >= 0", name="counts_not_negative"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    worker: Mapped[str | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    runs: Mapped[int] = bigint_column(server_default="0")
    failures: Mapped[int] = bigint_column(server_default="0")
    changed: Mapped[int] = bigint_column(server_default="0")
    error: Mapped[str | None]
