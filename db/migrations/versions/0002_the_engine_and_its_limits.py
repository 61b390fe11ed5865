"""What the job engine and the limits store: checkpoints, maintenance tasks, staged points, tiers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum, drop_enum
from db.migrations.functions import drop_function, install_function

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


# The values that each column takes. The first revision left these checks out: autogenerate passes over the checks of a column.
ENUMS = (
    ("dataset_versions", "status", "pending uploading uploaded processing ready failed"),
    ("dataset_versions", "source", "upload api scheduled imported generated derived"),
    ("dataset_versions", "format", "csv json jsonl parquet excel npy segy mat wav zip unknown"),
    ("datasets", "modality", "tabular text image audio video signal multimodal"),
    ("datasets", "problem_type", "classification regression clustering other"),
    ("datasets", "source", "upload api scheduled imported generated derived"),
    (
        "job_events",
        "type",
        "created queued started step_started progress step_completed log metric retrying cancel_requested completed failed cancelled",
    ),
    ("job_events", "status", "pending queued running cancelling completed failed cancelled"),
    ("job_nodes", "status", "pending running completed failed skipped cancelled"),
    ("jobs", "kind", "ingest profile deduce_schema process train study trial explain export import generate purge"),
    ("jobs", "status", "pending queued running cancelling completed failed cancelled"),
    ("model_versions", "problem_type", "classification regression clustering other"),
    ("models", "problem_type", "classification regression clustering other"),
    ("pipelines", "modality", "tabular text image audio video signal multimodal"),
    ("pipelines", "status", "draft validated archived"),
    ("runs", "status", "pending running completed failed cancelled"),
    ("step_definitions", "type", "dataset transform filter augment split train evaluate explain export"),
    ("uploads", "state", "open completed mismatched expired"),
    ("users", "role", "viewer member admin"),
    ("users", "tier", "free pro enterprise"),
)


def upgrade() -> None:
    op.create_table(
        "chores",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("runs", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failures", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("changed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("runs >= 0 AND failures >= 0", name=op.f("ck_chores_counts_not_negative")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chores")),
    )
    op.create_table(
        "staged_points",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("staged_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "position", name=op.f("pk_staged_points")),
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_staged_points_staged_at", "staged_points", ["staged_at"], unique=False)
    op.create_table(
        "job_checkpoints",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("state", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("num_nonnulls(object_key, size_bytes, sha256) IN (0, 3)", name=op.f("ck_job_checkpoints_object_is_whole")),
        sa.CheckConstraint("position >= 0 AND size_bytes >= 0", name=op.f("ck_job_checkpoints_counts_not_negative")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_checkpoints_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_job_checkpoints")),
        sa.UniqueConstraint("object_key", name=op.f("uq_job_checkpoints_object_key")),
    )
    op.create_table(
        "owner_turns",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_owner_turns_owner_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner_id", "queue", name=op.f("pk_owner_turns")),
    )
    op.create_table(
        "uptime",
        sa.Column("is_only", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("is_only", name=op.f("ck_uptime_one_row")),
        sa.PrimaryKeyConstraint("is_only", name=op.f("pk_uptime")),
        prefixes=["UNLOGGED"],
    )
    op.add_column("artifacts", sa.Column("attempt", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("estimated_completed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("postponements", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("waiting_since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False))
    op.add_column("users", sa.Column("tier", sa.Text(), server_default="free", nullable=False))
    install_function(op, "trellis_guard_job", revision)
    install_function(op, "trellis_guard_new_job", revision)
    op.execute("CREATE TRIGGER guard_beginning BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION trellis_guard_new_job()")
    for table, column, values in ENUMS:
        change_enum(op, table, column, values.split())


def downgrade() -> None:
    for table, column, _ in reversed(ENUMS):
        drop_enum(op, table, column)
    op.execute("DROP TRIGGER guard_beginning ON jobs")
    drop_function(op, "trellis_guard_new_job")
    install_function(op, "trellis_guard_job", down_revision)
    op.drop_column("users", "tier")
    op.drop_column("jobs", "waiting_since")
    op.drop_column("jobs", "postponements")
    op.drop_column("jobs", "estimated_completed_at")
    op.drop_column("artifacts", "attempt")
    op.drop_table("uptime")
    op.drop_table("owner_turns")
    op.drop_table("job_checkpoints")
    op.drop_index("ix_staged_points_staged_at", table_name="staged_points")
    op.drop_table("staged_points")
    op.drop_table("chores")
