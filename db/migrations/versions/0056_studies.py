"""Studies and their trials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum

revision = "0056"
down_revision = "0055"
branch_labels = None
depends_on = None

STUDY_STATUSES = ("pending", "running", "paused", "completed", "failed", "cancelled")
TRIAL_STATUSES = ("pending", "running", "completed", "pruned", "failed", "cancelled")
NEWEST_FIRST = (sa.text("created_at DESC"), sa.text("id DESC"))
LIVE = sa.text("deleted_at IS NULL")


def _time(name: str, *, now: bool = False) -> sa.Column[sa.DateTime]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()") if now else None, nullable=not now)


def _counter(name: str, type_: type[sa.Integer] = sa.Integer) -> sa.Column[int]:
    return sa.Column(name, type_(), server_default="0", nullable=False)


def _reference(table: str, column: str, target: str, on_delete: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=op.f(f"fk_{table}_{column}"), ondelete=on_delete)


def upgrade() -> None:
    _create_studies()
    _create_trials()
    op.create_table(
        "study_events",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("trial_id", sa.Uuid(), nullable=True),
        _time("created_at", now=True),
        _reference("study_events", "study_id", "studies", "CASCADE"),
        _reference("study_events", "trial_id", "trials", "CASCADE"),
        sa.PrimaryKeyConstraint("study_id", "sequence", name=op.f("pk_study_events")),
    )
    op.create_index(op.f("ix_study_events_trial_id"), "study_events", ["trial_id"])
    op.add_column("runs", sa.Column("study_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_runs_study_id"), "runs", "studies", ["study_id"], ["id"], ondelete="RESTRICT")
    op.create_index("ix_runs_study_id_created_at", "runs", ["study_id", *NEWEST_FIRST])


def _create_studies() -> None:
    op.create_table(
        "studies",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("name", "kind", "method")),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        *(sa.Column(name, sa.Text(), nullable=True) for name in ("reason", "ends_as")),
        sa.Column("experiment_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=True),
        *(sa.Column(name, sa.Uuid(), nullable=False) for name in ("snapshot_id", "dataset_version_id")),
        sa.Column("input_version_ids", postgresql.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("extras", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("metric", "goal")),
        sa.Column("target", sa.Double(), nullable=True),
        sa.Column("space", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("is_reproducible", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("max_trials", "max_parallel", "max_failed")),
        sa.Column("max_seconds", sa.Integer(), nullable=True),
        sa.Column("max_credits", sa.BigInteger(), nullable=True),
        sa.Column("trials_total", sa.Integer(), nullable=False),
        *map(_counter, ("last_number", "open_trials", "trials_completed", "trials_pruned", "trials_failed", "trials_cancelled")),
        *(_counter(name, sa.BigInteger) for name in ("credits_held", "credits_charged")),
        sa.Column("seconds_used", sa.Double(), server_default="0", nullable=False),
        _time("running_since"),
        sa.Column("best_trial_id", sa.Uuid(), nullable=True),
        sa.Column("best_value", sa.Double(), nullable=True),
        _counter("last_sequence", sa.BigInteger),
        _time("created_at", now=True),
        _time("updated_at", now=True),
        *map(_time, ("started_at", "completed_at", "deleted_at")),
        sa.CheckConstraint(
            "max_trials BETWEEN 1 AND 100000 AND max_parallel BETWEEN 1 AND 1000 AND max_failed >= 0",
            name=op.f("ck_studies_budget_is_sane"),
        ),
        sa.CheckConstraint(
            "last_number BETWEEN 0 AND trials_total AND open_trials BETWEEN 0 AND last_number", name=op.f("ck_studies_trials_within_total")
        ),
        sa.CheckConstraint(
            "trials_completed + trials_pruned + trials_failed + trials_cancelled + open_trials = last_number",
            name=op.f("ck_studies_every_trial_is_counted"),
        ),
        sa.CheckConstraint("credits_held >= 0 AND credits_charged >= 0 AND seconds_used >= 0", name=op.f("ck_studies_use_not_negative")),
        sa.CheckConstraint(
            "(status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)", name=op.f("ck_studies_completed_at_says_final")
        ),
        sa.CheckConstraint(
            "status NOT IN ('completed', 'failed', 'cancelled') OR (open_trials = 0 AND ends_as = status)",
            name=op.f("ck_studies_ends_without_trials"),
        ),
        *(
            _reference("studies", column, target, "RESTRICT")
            for column, target in (
                ("owner_id", "users"),
                ("experiment_id", "experiments"),
                ("pipeline_id", "pipelines"),
                ("snapshot_id", "pipeline_snapshots"),
                ("dataset_version_id", "dataset_versions"),
            )
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
    )
    for column, values in (
        ("kind", ("hpo",)),
        ("method", ("grid", "random")),
        ("status", STUDY_STATUSES),
        ("reason", ("user", "target", "trials", "failures", "time", "credits")),
        ("ends_as", STUDY_STATUSES),
        ("goal", ("maximize", "minimize")),
    ):
        change_enum(op, "studies", column, values)
    for column in ("owner_id", "experiment_id", "pipeline_id", "snapshot_id", "dataset_version_id"):
        op.create_index(op.f(f"ix_studies_{column}"), "studies", [column])
    op.create_index("uq_studies_owner_id_name", "studies", ["owner_id", sa.text("lower(name)")], unique=True, postgresql_where=LIVE)
    for columns in (("owner_id",), (), ("owner_id", "status"), ("status",)):
        name = "_".join(("ix_studies", *columns, "created_at"))
        op.create_index(name, "studies", [*columns, *NEWEST_FIRST], postgresql_where=LIVE)
    last_changed = [sa.text("updated_at DESC"), sa.text("id DESC")]
    op.create_index("ix_studies_owner_id_updated_at", "studies", ["owner_id", *last_changed], postgresql_where=LIVE)
    op.create_index("ix_studies_updated_at", "studies", last_changed, postgresql_where=LIVE)
    op.create_index("ix_studies_name", "studies", [sa.text("lower(name)"), "id"], postgresql_where=LIVE)
    op.execute("CREATE INDEX ix_studies_name_trigrams ON studies USING gin (lower(name) gin_trgm_ops) WHERE deleted_at IS NULL")
    op.create_index("ix_studies_unfinished", "studies", ["id"], postgresql_where=sa.text("status IN ('pending', 'running', 'paused')"))
    op.execute("CREATE TRIGGER touch BEFORE UPDATE ON studies FOR EACH ROW EXECUTE FUNCTION trellis_touch()")


def _create_trials() -> None:
    op.create_table(
        "trials",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        *(sa.Column(name, sa.Uuid(), nullable=False) for name in ("job_id", "run_id")),
        sa.Column("parameters", postgresql.JSONB(), nullable=True),
        sa.Column("suggested_from", sa.Integer(), nullable=True),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("result", postgresql.JSONB(), nullable=True),
        sa.Column("is_best", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        _time("created_at", now=True),
        *map(_time, ("started_at", "completed_at")),
        sa.CheckConstraint("number > 0", name=op.f("ck_trials_number_is_positive")),
        sa.CheckConstraint(
            "status <> 'completed' OR (value IS NOT NULL AND parameters IS NOT NULL)", name=op.f("ck_trials_completed_with_a_value")
        ),
        sa.CheckConstraint("(status IN ('pending', 'running')) = (completed_at IS NULL)", name=op.f("ck_trials_completed_at_says_final")),
        *(
            _reference("trials", column, target, "RESTRICT")
            for column, target in (("study_id", "studies"), ("job_id", "jobs"), ("run_id", "runs"))
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trials")),
        sa.UniqueConstraint("study_id", "number", name=op.f("uq_trials_study_id_number")),
        sa.UniqueConstraint("job_id", name=op.f("uq_trials_job_id")),
        sa.UniqueConstraint("run_id", name=op.f("uq_trials_run_id")),
    )
    change_enum(op, "trials", "status", TRIAL_STATUSES)
    for columns in (("study_id",), ("study_id", "status")):
        op.create_index("_".join(("ix_trials", *columns, "created_at")), "trials", [*columns, *NEWEST_FIRST])
    for column in ("number", "value"):
        op.create_index(f"ix_trials_study_id_{column}", "trials", ["study_id", column, "id"])
    is_open = sa.text("status IN ('pending', 'running')")
    op.create_index("ix_trials_open", "trials", ["study_id", "number"], postgresql_where=is_open)
    op.create_index("ix_trials_best", "trials", ["study_id", "number"], postgresql_where=sa.text("is_best"))


def downgrade() -> None:
    op.drop_column("runs", "study_id")
    for table in ("study_events", "trials", "studies"):
        op.drop_table(table)
