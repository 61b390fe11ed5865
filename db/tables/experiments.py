"""Experiments group runs. A run is one training; its metrics are points, with a summary per key that listings sort by."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Computed, ForeignKey, Index, Text, UniqueConstraint, literal_column, text
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


class RunStatus(StrEnum):
    """The status of a run, which follows its job."""

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


class Run(Table, policy=Owned()):
    """One training. A trigger on `jobs` keeps status and times equal to the job's. `hyperparameter_paths` are for filters alone.
    `best_step` is the step of the training that its model is of, if it stopped early.

    `architecture` is {definition, hash, parameterCount, flops, sizeBytes} of a neural network, once it is trained.
    `dataset_id` is that of the version: no index on the version would have the runs of a dataset in their order; `pipeline_id` that of the job likewise.
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
    created_at: Mapped[datetime] = now_column()
    updated_at: Mapped[datetime] = now_column()
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    duration: Mapped[float | None] = mapped_column(Computed("EXTRACT(epoch FROM completed_at - started_at)::float8", persisted=True))


class RunParameter(Table, policy=Through("run_id")):
    """One hyperparameter of a run, by its path. A trigger on `runs` keeps these rows; of values that are no numbers it keeps the text."""

    __tablename__ = "run_parameters"
    __table_args__ = (Index("ix_run_parameters_key_number", "key", "number", "run_id"),)

    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[float | None]
    text: Mapped[str | None]


class RunMetric(Table, policy=Through("run_id")):
    """Last, least and greatest value of one metric of one run. NaN and infinities count only as last.

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
    staged_at: Mapped[datetime] = now_column()


class MetricPoint(Table, policy=Through("run_id")):
    """One value at one step. `batch` is the sequence of the job event that announced it, and so the stream's cursor. Partitioned by month of the run's id."""

    __tablename__ = "metric_points"
    __table_args__ = (
        Index("ix_metric_points_run_id_batch", "run_id", "batch"),
        {"postgresql_partition_by": "RANGE (run_id)"},
    )

    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[float]
    batch: Mapped[int] = mapped_column(BigInteger)
    recorded_at: Mapped[datetime] = now_column()
