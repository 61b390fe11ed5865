"""Experiments group runs. A run is one training; its metrics are points, with a summary per key that listings sort by."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Computed, ForeignKey, Index, Text, UniqueConstraint, func, literal_column, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import (
    Table,
    bigint_column,
    created_by_column,
    enum_column,
    filter_index,
    jsonb_column,
    listing_indexes,
    now_column,
    unique_name_index,
    uuid_primary_key,
)
from db.core.policy import Internal, Owned, Through
from db.tables.jobstates import JobStatus


class RunSource(StrEnum):
    """Where a run is made: by a job, or by code that reports to the API."""

    JOB = "job"
    EXTERNAL = "external"


class RunStatus(StrEnum):
    """The status of a run, which follows its job; of an external run, what its code says."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


RUN_STATUS: dict[JobStatus, RunStatus] = {
    JobStatus.PENDING: RunStatus.PENDING,
    JobStatus.QUEUED: RunStatus.PENDING,
    JobStatus.RUNNING: RunStatus.RUNNING,
    JobStatus.CANCELLING: RunStatus.RUNNING,
    JobStatus.COMPLETED: RunStatus.COMPLETED,
    JobStatus.FAILED: RunStatus.FAILED,
    JobStatus.CANCELLED: RunStatus.CANCELLED,
}


def run_follows_job_sql() -> str:
    """Render the trigger function that copies a job's status and times to its run; a test compares it with its newest SQL file."""
    run_status = "\n    ".join(f"WHEN '{job}' THEN '{run}'" for job, run in RUN_STATUS.items())
    return f"""\
CREATE OR REPLACE FUNCTION trellis_run_follows_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE runs SET started_at = coalesce(started_at, NEW.started_at), completed_at = NEW.completed_at, status = CASE NEW.status
    {run_status}
    END
  WHERE job_id = NEW.id;
  RETURN NULL;
END $$;
"""  # noqa: S608 - built from our own enums


class Experiment(Table, policy=Owned()):
    """A group of runs that answer one question."""

    __tablename__ = "experiments"
    __table_args__ = (unique_name_index("experiments"), *listing_indexes("experiments"))

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    name: Mapped[str]
    description: Mapped[str | None]
    notes: Mapped[str | None]
    annotations: Mapped[dict[str, str]] = jsonb_column("{}")
    last_number: Mapped[int] = mapped_column(server_default="0")
    created_by_id: Mapped[UUID | None] = created_by_column()
    created_at: Mapped[datetime] = now_column()
    updated_at: Mapped[datetime] = now_column()
    deleted_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]


class Run(Table, policy=Owned()):
    """One training. A trigger on `jobs` keeps status and times equal to the job's; those of an external run, which has none, are the service's.

    `last_batch` numbers what was written to an external run, under the row's lock, and is the cursor of its stream; `last_written_at` is its heartbeat,
    and `error` {code, message}. A batch of points alone does not change `updated_at`. `hyperparameter_paths` are for filters alone.
    `best_step` is the step of the training that its model is of, if it stopped early.

    `architecture` is {definition, hash, parameterCount, flops, sizeBytes} of a neural network, once it is trained.
    `dataset_id` is that of the version: no index on the version would have the runs of a dataset in their order; `pipeline_id` that of the job likewise.
    `original_run_id` is the run that it is to reproduce.
    """

    __tablename__ = "runs"
    __table_args__ = (
        *listing_indexes("runs", deletable=False),
        UniqueConstraint("experiment_id", "number"),
        UniqueConstraint("job_id"),
        filter_index("runs", "experiment_id"),
        filter_index("runs", "dataset_id"),
        filter_index("runs", "dataset_version_id"),
        filter_index("runs", "pipeline_id"),
        filter_index("runs", "algorithm"),
        Index("ix_runs_algorithm_experiment_id", "algorithm", "experiment_id"),
        filter_index("runs", "study_id"),
        filter_index("runs", "source"),
        filter_index("runs", "parent_run_id"),
        filter_index("runs", "original_run_id"),
        Index("ix_runs_live_external", "id", postgresql_where=text("source = 'external' AND status IN ('pending', 'running')")),
        filter_index("runs", "status"),
        Index("ix_runs_number", "number", "id"),
        *(Index(f"ix_runs_{column}_number", column, "number", "id") for column in ("owner_id", "dataset_id", "dataset_version_id")),
        *(
            Index(f"ix_runs_{prefix}{name}", *columns, text(expression), "id")
            for name, expression in (("name", "lower(name)"), *((column, column) for column in ("started_at", "completed_at", "duration")))
            for prefix, columns in (("", ()), ("owner_id_", ("owner_id",)))
        ),
        Index(
            "ix_runs_name_trigrams",
            literal_column("lower(name)", Text).label("lower_name"),
            postgresql_using="gin",
            postgresql_ops={"lower_name": "gin_trgm_ops"},
        ),
        Index("ix_runs_owner_id_status", "owner_id", "status", text("created_at DESC"), text("id DESC")),
        Index("ix_runs_hyperparameters", "hyperparameters", postgresql_using="gin", postgresql_ops={"hyperparameters": "jsonb_path_ops"}),
        Index("ix_runs_hyperparameter_paths", "hyperparameter_paths", postgresql_using="gin"),
        Index("ix_runs_annotations", "annotations", postgresql_using="gin"),
        CheckConstraint("number > 0", name="number_is_positive"),
        CheckConstraint("source = 'job' OR job_id IS NULL", name="external_without_job"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    experiment_id: Mapped[UUID] = mapped_column(ForeignKey("experiments.id", ondelete="RESTRICT"))
    number: Mapped[int]
    name: Mapped[str | None]
    status: Mapped[RunStatus] = enum_column("status", RunStatus, server_default="pending")
    hyperparameters: Mapped[dict[str, Any]] = jsonb_column("{}")
    hyperparameter_paths: Mapped[list[str]] = mapped_column(ARRAY(Text), Computed("trellis_json_paths(hyperparameters)", persisted=True))
    config: Mapped[dict[str, Any]] = jsonb_column("{}")
    architecture: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    notes: Mapped[str | None]
    annotations: Mapped[dict[str, str]] = jsonb_column("{}")
    algorithm: Mapped[str | None]
    seed: Mapped[int] = bigint_column()
    best_step: Mapped[int | None]
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="RESTRICT"))
    dataset_id: Mapped[UUID | None] = mapped_column(ForeignKey("datasets.id", ondelete="RESTRICT"))
    dataset_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("dataset_versions.id", ondelete="RESTRICT"))
    pipeline_id: Mapped[UUID | None] = mapped_column(ForeignKey("pipelines.id", ondelete="RESTRICT"))
    study_id: Mapped[UUID | None] = mapped_column(ForeignKey("studies.id", ondelete="RESTRICT"))
    source: Mapped[RunSource] = enum_column("source", RunSource, server_default="job")
    parent_run_id: Mapped[UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    original_run_id: Mapped[UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    last_batch: Mapped[int] = bigint_column(server_default="0")
    last_written_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = now_column()
    updated_at: Mapped[datetime] = now_column()
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]
    duration: Mapped[float | None] = mapped_column(Computed("EXTRACT(epoch FROM completed_at - started_at)::float8", persisted=True))


class RunParameter(Table, policy=Through("run_id")):
    """One hyperparameter of a run, by its path. A trigger on `runs` keeps these rows; of values that are no numbers it keeps the text."""

    __tablename__ = "run_parameters"
    __table_args__ = (Index("ix_run_parameters_key_number", "key", "number", "run_id"),)

    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[float | None]
    text: Mapped[str | None]


class ArtifactUploadState(StrEnum):
    """The state of the upload of a file of an external run."""

    OPEN = "open"
    COMPLETED = "completed"
    MISMATCHED = "mismatched"
    EXPIRED = "expired"
    ABORTED = "aborted"


class ArtifactUpload(Table, policy=Owned()):
    """A file of an external run that is announced, and sent to `object_key`, which nothing else refers to: by one presigned PUT, or in `part_count` parts.

    `path` is its name. `size_bytes` of one in parts is what has arrived as it was last measured. `multipart_id` is the store's id of these parts, null until
    they are begun. `due_at` is when a maintenance task looks at it: first when its URL expires, or at once if that is left to the task.
    """

    __tablename__ = "artifact_uploads"
    __table_args__ = (
        Index("ix_artifact_uploads_due", "due_at", postgresql_where=text("state = 'open'")),
        Index("ix_artifact_uploads_holding", "owner_id", postgresql_include=["size_bytes"], postgresql_where=text("state = 'open'")),
        CheckConstraint("size_bytes >= 0", name="size_not_negative"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    created_by_id: Mapped[UUID | None] = created_by_column()
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    artifact_id: Mapped[UUID | None] = mapped_column(ForeignKey("artifacts.id", ondelete="SET NULL"), index=True)
    path: Mapped[str]
    object_key: Mapped[str] = mapped_column(unique=True)
    content_type: Mapped[str]
    size_bytes: Mapped[int] = bigint_column()
    sha256: Mapped[str | None]
    part_count: Mapped[int | None]
    multipart_id: Mapped[str | None]
    state: Mapped[ArtifactUploadState] = enum_column("state", ArtifactUploadState, server_default="open")
    created_at: Mapped[datetime] = now_column()
    due_at: Mapped[datetime]


class LoggedModelStatus(StrEnum):
    """Whether the files of a logged model are complete, as its code says."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class LoggedModel(Table, policy=Through("run_id")):
    """A model that the code of an external run logged, before it is registered. Its files are the run's, in a folder of its id.

    `step` is that at which the run named it as an output; null until then. `parameters` and `annotations` are texts by key.
    """

    __tablename__ = "logged_models"
    __table_args__ = (Index("ix_logged_models_name", "name", "id"),)

    id: Mapped[UUID] = uuid_primary_key()
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    model_type: Mapped[str | None]
    status: Mapped[LoggedModelStatus] = enum_column("status", LoggedModelStatus, server_default="pending")
    parameters: Mapped[dict[str, str]] = jsonb_column("{}")
    annotations: Mapped[dict[str, str]] = jsonb_column("{}")
    step: Mapped[int | None] = bigint_column()
    created_at: Mapped[datetime] = now_column()
    updated_at: Mapped[datetime] = now_column()


class RunInput(Table, policy=Through("run_id")):
    """Data that an external run said it reads, as it named it: `source` and `digest`, '' for none. The version is that of the run's owner that they mean."""

    __tablename__ = "run_inputs"

    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True, server_default="")
    name: Mapped[str | None]
    context: Mapped[str | None]
    dataset_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("dataset_versions.id", ondelete="RESTRICT"), index=True)
    created_at: Mapped[datetime] = now_column()


class RunMetric(Table, policy=Through("run_id")):
    """Last, least and greatest value of one metric of one run. The last point is that of the greatest (step, time, value). NaN and infinities count
    only as last.

    `experiment_id` is that of the run: no other index would have the runs of an experiment in the order of a metric. A run that moves takes it along.
    """

    __tablename__ = "run_metrics"
    __table_args__ = (
        Index("ix_run_metrics_key_last", "key", "last", "run_id"),
        Index("ix_run_metrics_experiment_id_key_last", "experiment_id", "key", "last", "run_id"),
    )

    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    experiment_id: Mapped[UUID] = mapped_column(ForeignKey("experiments.id", ondelete="RESTRICT"))
    key: Mapped[str] = mapped_column(primary_key=True)
    last: Mapped[float | None]
    last_step: Mapped[int | None]
    last_at: Mapped[datetime] = now_column()
    min: Mapped[float | None]
    min_step: Mapped[int | None]
    max: Mapped[float | None]
    max_step: Mapped[int | None]
    count: Mapped[int] = bigint_column(server_default="0")


class StagedPoint(Table, policy=Internal("Metric points between the worker's COPY and their move into metric_points.")):
    """Points copied here without a lock, then moved to `metric_points` under the job's lock. Unlogged: points lost in a crash are staged again."""

    __tablename__ = "staged_points"
    __table_args__ = (Index("ix_staged_points_staged_at", "staged_at"), {"prefixes": ["UNLOGGED"]})

    batch_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    key: Mapped[str]
    step: Mapped[int]
    value: Mapped[float]
    recorded_at: Mapped[datetime] = now_column()
    staged_at: Mapped[datetime] = now_column()


class MetricPoint(Table, policy=Through("run_id")):
    """One value at one step and time. Partitioned by month of the run's id. Of a job's run, each step has one point of a key; of an external run, several.

    `batch` is the stream's cursor: the sequence of the job event that announced it, or `last_batch` of an external run when it was written.
    """

    __tablename__ = "metric_points"
    __table_args__ = (
        Index("ix_metric_points_run_id_batch", "run_id", "batch"),
        {"postgresql_partition_by": "RANGE (run_id)"},
    )

    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    recorded_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.now())
    value: Mapped[float] = mapped_column(primary_key=True, autoincrement=False)
    batch: Mapped[int] = mapped_column(BigInteger)
