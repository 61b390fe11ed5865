"""Studies search for the parameters of a pipeline with which a metric is best. Each of their trials is a run."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, Uuid, text
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
from db.core.goal import Goal
from db.core.policy import Owned, Through


class StudyKind(StrEnum):
    """What a study searches for."""

    HPO = "hpo"
    NAS = "nas"


class StudyMethod(StrEnum):
    """How the parameters of a trial are chosen."""

    GRID = "grid"
    RANDOM = "random"
    BAYESIAN = "bayesian"
    HYPERBAND = "hyperband"
    EVOLUTION = "evolution"


class StudyStatus(StrEnum):
    """The status of a study."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StudyReason(StrEnum):
    """Why a study starts no further trials."""

    USER = "user"
    TARGET = "target"
    TRIALS = "trials"
    FAILURES = "failures"
    TIME = "time"
    CREDITS = "credits"


class TrialStatus(StrEnum):
    """The status of a trial."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    PRUNED = "pruned"
    FAILED = "failed"
    CANCELLED = "cancelled"


STUDY_ENDS = frozenset({StudyStatus.COMPLETED, StudyStatus.FAILED, StudyStatus.CANCELLED})
OPEN_TRIAL = (TrialStatus.PENDING, TrialStatus.RUNNING)
_HAS_NOT_ENDED = text("status IN ('pending', 'running', 'paused')")
_IS_OPEN = text("status IN ('pending', 'running')")


class Study(Table, policy=Owned()):
    """A search. Its row's lock orders all that happens to its trials; only `db.services.studies` changes it.

    `space` is [{node, name, type, low, high, step, log, choices, condition}], see `db.core.search_space`. `snapshot_id` is the definition without the
    parameters of a trial; `input_version_ids` are the dataset versions that its jobs read, `extras` what their workers must have. `last_number` and
    `open_trials` count the trials that were made, and those that have not ended. `ends_as` is set once it is decided how the study ends: no further trial
    is made, and the status follows when the last one has ended. `seconds_used` is the time before `running_since`, from when it has been running without
    a pause.
    `importances` are [{parameter, importance}], of the `importances_of` trials that had completed when they were ranked.
    """

    __tablename__ = "studies"
    __table_args__ = (
        unique_name_index("studies"),
        *listing_indexes("studies"),
        filter_index("studies", "owner_id", "status", deletable=True),
        filter_index("studies", "status", deletable=True),
        Index("ix_studies_unfinished", "id", postgresql_where=_HAS_NOT_ENDED),
        CheckConstraint("max_trials BETWEEN 1 AND 100000 AND max_parallel BETWEEN 1 AND 1000 AND max_failed >= 0", name="budget_is_sane"),
        CheckConstraint("last_number BETWEEN 0 AND trials_total AND open_trials BETWEEN 0 AND last_number", name="trials_within_total"),
        CheckConstraint(
            "trials_completed + trials_pruned + trials_failed + trials_cancelled + open_trials = last_number", name="every_trial_is_counted"
        ),
        CheckConstraint(
            "(method = 'hyperband') = (min_steps IS NOT NULL) AND num_nulls(min_steps, max_steps, reduction_factor) IN (0, 3)",
            name="halving_is_hyperband",
        ),
        CheckConstraint("min_steps BETWEEN 1 AND max_steps - 1 AND reduction_factor BETWEEN 2 AND 10", name="halving_is_sane"),
        # A point of a grid cannot be drawn again, and of trials that are drawn at once one must be the first.
        CheckConstraint(
            "kind <> 'nas' OR (method <> 'grid' AND (NOT is_reproducible OR max_parallel = 1))", name="architectures_can_be_drawn_again"
        ),
        CheckConstraint("credits_held >= 0 AND credits_charged >= 0 AND seconds_used >= 0", name="use_not_negative"),
        CheckConstraint("(status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)", name="completed_at_says_final"),
        CheckConstraint(
            "status NOT IN ('completed', 'failed', 'cancelled') OR (open_trials = 0 AND ends_as = status)", name="ends_without_trials"
        ),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    created_by_id: Mapped[UUID | None] = created_by_column()
    name: Mapped[str]
    kind: Mapped[StudyKind] = enum_column("kind", StudyKind)
    method: Mapped[StudyMethod] = enum_column("method", StudyMethod)
    status: Mapped[StudyStatus] = enum_column("status", StudyStatus, server_default="pending")
    reason: Mapped[StudyReason | None] = enum_column("reason", StudyReason, nullable=True)
    ends_as: Mapped[StudyStatus | None] = enum_column("ends_as", StudyStatus, nullable=True)
    experiment_id: Mapped[UUID] = mapped_column(ForeignKey("experiments.id", ondelete="RESTRICT"), index=True)
    pipeline_id: Mapped[UUID | None] = mapped_column(ForeignKey("pipelines.id", ondelete="RESTRICT"), index=True)
    snapshot_id: Mapped[UUID] = mapped_column(ForeignKey("pipeline_snapshots.id", ondelete="RESTRICT"), index=True)
    dataset_version_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id", ondelete="RESTRICT"), index=True)
    input_version_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    extras: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    metric: Mapped[str]
    goal: Mapped[Goal] = enum_column("goal", Goal)
    target: Mapped[float | None]
    space: Mapped[list[Any]] = jsonb_column("[]")
    seed: Mapped[int] = bigint_column()
    is_reproducible: Mapped[bool] = mapped_column(server_default=text("false"))
    max_trials: Mapped[int]
    max_parallel: Mapped[int]
    max_failed: Mapped[int]
    max_seconds: Mapped[int | None]
    max_credits: Mapped[int | None] = bigint_column()
    min_steps: Mapped[int | None]
    max_steps: Mapped[int | None]
    reduction_factor: Mapped[int | None]
    trials_total: Mapped[int]
    last_number: Mapped[int] = mapped_column(server_default="0")
    open_trials: Mapped[int] = mapped_column(server_default="0")
    trials_completed: Mapped[int] = mapped_column(server_default="0")
    trials_pruned: Mapped[int] = mapped_column(server_default="0")
    trials_failed: Mapped[int] = mapped_column(server_default="0")
    trials_cancelled: Mapped[int] = mapped_column(server_default="0")
    credits_held: Mapped[int] = bigint_column(server_default="0")
    credits_charged: Mapped[int] = bigint_column(server_default="0")
    seconds_used: Mapped[float] = mapped_column(server_default="0")
    running_since: Mapped[datetime | None]
    best_trial_id: Mapped[UUID | None] = mapped_column(Uuid)
    best_value: Mapped[float | None]
    last_sequence: Mapped[int] = bigint_column(server_default="0")
    importances: Mapped[list[Any]] = jsonb_column("[]")
    importances_of: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = now_column()
    updated_at: Mapped[datetime] = now_column()
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]


class Trial(Table, policy=Through("study_id")):
    """One run of a study, numbered from 1. Its status changes under the lock of the study alone, after that of its job.

    `parameters` are {"node.name": value}, written once, by the attempt that drew them, and with them in a study of architectures `architecture_hash`, of
    which each trial has another. `value`, `result`, what a model version is made of, and `parameter_count`, where a neural network was trained, are
    written by the settle of its job. `pruning` is {rung, step, value, rank, of}, written when it is decided that it ends at a rung. `is_best` if its
    value was the best of all that had ended when it was counted.
    """

    __tablename__ = "trials"
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        UniqueConstraint("job_id"),
        UniqueConstraint("run_id"),
        filter_index("trials", "study_id"),
        filter_index("trials", "study_id", "status"),
        Index("ix_trials_study_id_number", "study_id", "number", "id"),
        Index("ix_trials_study_id_value", "study_id", "value", "id"),
        Index(
            "uq_trials_study_id_architecture_hash",
            "study_id",
            "architecture_hash",
            unique=True,
            postgresql_where=text("architecture_hash IS NOT NULL"),
        ),
        Index(
            "ix_trials_study_id_parameter_count",
            "study_id",
            "parameter_count",
            "value",
            "number",
            postgresql_where=text("parameter_count IS NOT NULL"),
        ),
        Index("ix_trials_open", "study_id", "number", postgresql_where=_IS_OPEN),
        Index("ix_trials_best", "study_id", "number", postgresql_where=text("is_best")),
        CheckConstraint("number > 0", name="number_is_positive"),
        CheckConstraint("status <> 'completed' OR (value IS NOT NULL AND parameters IS NOT NULL)", name="completed_with_a_value"),
        CheckConstraint("(status IN ('pending', 'running')) = (completed_at IS NULL)", name="completed_at_says_final"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id", ondelete="RESTRICT"))
    number: Mapped[int]
    status: Mapped[TrialStatus] = enum_column("status", TrialStatus, server_default="pending")
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="RESTRICT"))
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="RESTRICT"))
    parameters: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    suggested_from: Mapped[int | None]
    architecture_hash: Mapped[str | None]
    value: Mapped[float | None]
    parameter_count: Mapped[int | None] = bigint_column()
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    is_best: Mapped[bool] = mapped_column(server_default=text("false"))
    pruning: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[datetime] = now_column()
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


class TrialRung(Table, policy=Through("trial_id")):
    """What a trial has at a rung of its study, of whatever attempt: a trial counts once. `study_id` and `number` are those of the trial."""

    __tablename__ = "trial_rungs"
    __table_args__ = (Index("ix_trial_rungs_study_id_rung", "study_id", "rung"),)

    trial_id: Mapped[UUID] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True)
    rung: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    number: Mapped[int]
    value: Mapped[float]


class StudyEvent(Table, policy=Through("study_id")):
    """A change of a trial, or of the study itself where there is none, numbered from 1 without a gap under the study's lock."""

    __tablename__ = "study_events"

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = bigint_column(primary_key=True, autoincrement=False)
    trial_id: Mapped[UUID | None] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = now_column()
