"""What the job engine and the limits keep: checkpoints, chores, points on their way in, tiers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


# The words that each column takes. The first revision left these checks out: autogenerate passes over the checks of a column.
WORDS = (
    ("dataset_versions", "status_is_known", "status IN ('pending', 'uploading', 'uploaded', 'processing', 'ready', 'failed')"),
    ("dataset_versions", "source_is_known", "source IN ('upload', 'api', 'scheduled', 'imported', 'generated', 'derived')"),
    (
        "dataset_versions",
        "format_is_known",
        "format IN ('csv', 'json', 'jsonl', 'parquet', 'excel', 'npy', 'segy', 'mat', 'wav', 'zip', 'unknown')",
    ),
    ("datasets", "modality_is_known", "modality IN ('tabular', 'text', 'image', 'audio', 'video', 'signal', 'multimodal')"),
    ("datasets", "problem_type_is_known", "problem_type IN ('classification', 'regression', 'clustering', 'other')"),
    ("datasets", "source_is_known", "source IN ('upload', 'api', 'scheduled', 'imported', 'generated', 'derived')"),
    (
        "job_events",
        "type_is_known",
        (
            "type IN ('created', 'queued', 'started', 'step_started', 'progress', 'step_completed', 'log', 'metric', "
            "'retrying', 'cancel_requested', 'completed', 'failed', 'cancelled')"
        ),
    ),
    ("job_events", "status_is_known", "status IN ('pending', 'queued', 'running', 'cancelling', 'completed', 'failed', 'cancelled')"),
    ("job_nodes", "status_is_known", "status IN ('pending', 'running', 'completed', 'failed', 'skipped', 'cancelled')"),
    (
        "jobs",
        "kind_is_known",
        (
            "kind IN ('ingest', 'profile', 'deduce_schema', 'process', 'train', 'study', 'trial', 'explain', 'export', "
            "'import', 'generate', 'purge')"
        ),
    ),
    ("jobs", "status_is_known", "status IN ('pending', 'queued', 'running', 'cancelling', 'completed', 'failed', 'cancelled')"),
    ("model_versions", "problem_type_is_known", "problem_type IN ('classification', 'regression', 'clustering', 'other')"),
    ("models", "problem_type_is_known", "problem_type IN ('classification', 'regression', 'clustering', 'other')"),
    ("pipelines", "modality_is_known", "modality IN ('tabular', 'text', 'image', 'audio', 'video', 'signal', 'multimodal')"),
    ("pipelines", "status_is_known", "status IN ('draft', 'validated', 'archived')"),
    ("runs", "status_is_known", "status IN ('pending', 'running', 'completed', 'failed', 'cancelled')"),
    (
        "step_definitions",
        "type_is_known",
        "type IN ('dataset', 'transform', 'filter', 'augment', 'split', 'train', 'evaluate', 'explain', 'export')",
    ),
    ("uploads", "state_is_known", "state IN ('open', 'completed', 'mismatched', 'expired')"),
    ("users", "role_is_known", "role IN ('viewer', 'member', 'admin')"),
    ("users", "tier_is_known", "tier IN ('free', 'pro', 'enterprise')"),
)

# What the first revision let pass and what replaces it, frozen as `db.tables.jobstates` rendered them.
LOOSE_GUARD = """\
CREATE OR REPLACE FUNCTION trellis_guard_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.status IN ('completed', 'failed', 'cancelled') THEN
    RAISE EXCEPTION 'job % is % and final', OLD.id, OLD.status USING ERRCODE = 'TR001';
  END IF;
  IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
    ('pending', 'queued'),
    ('pending', 'running'),
    ('queued', 'running'),
    ('pending', 'cancelled'),
    ('queued', 'cancelled'),
    ('running', 'completed'),
    ('running', 'failed'),
    ('running', 'pending'),
    ('running', 'cancelling'),
    ('cancelling', 'cancelled')
  ) THEN
    RAISE EXCEPTION 'job % cannot go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'TR001';
  END IF;
  IF (OLD.status, NEW.status) IN (('pending', 'running'), ('queued', 'running')) THEN
    IF NEW.attempt <> OLD.attempt + 1 THEN
      RAISE EXCEPTION 'job %: a claim counts the attempt up by one', OLD.id USING ERRCODE = 'TR001';
    END IF;
  ELSIF NEW.attempt <> OLD.attempt THEN
    RAISE EXCEPTION 'job %: only a claim changes the attempt', OLD.id USING ERRCODE = 'TR001';
  END IF;
  IF NEW.status <> OLD.status AND NEW.last_sequence <= OLD.last_sequence THEN
    RAISE EXCEPTION 'job %: a change of status takes the next event sequence', OLD.id USING ERRCODE = 'TR001';
  END IF;
  IF NEW.status <> OLD.status THEN
    UPDATE runs SET started_at = coalesce(started_at, NEW.started_at), completed_at = NEW.completed_at, status = CASE NEW.status
      WHEN 'pending' THEN 'pending'
      WHEN 'queued' THEN 'pending'
      WHEN 'running' THEN 'running'
      WHEN 'cancelling' THEN 'running'
      WHEN 'completed' THEN 'completed'
      WHEN 'failed' THEN 'failed'
      WHEN 'cancelled' THEN 'cancelled'
      END
    WHERE job_id = NEW.id;
  END IF;
  RETURN NEW;
END $$"""
GUARD = """\
CREATE OR REPLACE FUNCTION trellis_guard_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.status IN ('completed', 'failed', 'cancelled') THEN
    RAISE EXCEPTION 'job % is % and final', OLD.id, OLD.status USING ERRCODE = 'TR001';
  END IF;
  IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
    ('pending', 'queued'),
    ('pending', 'running'),
    ('queued', 'running'),
    ('pending', 'cancelled'),
    ('queued', 'cancelled'),
    ('running', 'completed'),
    ('running', 'failed'),
    ('running', 'pending'),
    ('running', 'cancelling'),
    ('cancelling', 'cancelled')
  ) THEN
    RAISE EXCEPTION 'job % cannot go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'TR001';
  END IF;
  IF (OLD.status, NEW.status) IN (('pending', 'running'), ('queued', 'running')) THEN
    IF NEW.attempt <> OLD.attempt + 1 THEN
      RAISE EXCEPTION 'job %: a claim counts the attempt up by one', OLD.id USING ERRCODE = 'TR001';
    END IF;
  ELSIF NEW.attempt <> OLD.attempt THEN
    RAISE EXCEPTION 'job %: only a claim changes the attempt', OLD.id USING ERRCODE = 'TR001';
  END IF;
  IF OLD.status IN ('running', 'cancelling') AND NEW.status IN ('running', 'cancelling') AND NEW.worker_id IS DISTINCT FROM OLD.worker_id THEN
    RAISE EXCEPTION 'job %: an attempt stays with its worker', OLD.id USING ERRCODE = 'TR001';
  END IF;
  IF NEW.status <> OLD.status AND NEW.last_sequence <> OLD.last_sequence + 1 THEN
    RAISE EXCEPTION 'job %: a change of status takes the next event sequence', OLD.id USING ERRCODE = 'TR001';
  END IF;
  IF NEW.last_sequence NOT IN (OLD.last_sequence, OLD.last_sequence + 1) THEN
    RAISE EXCEPTION 'job %: events are numbered one by one', OLD.id USING ERRCODE = 'TR001';
  END IF;
  IF NEW.status <> OLD.status THEN
    UPDATE runs SET started_at = coalesce(started_at, NEW.started_at), completed_at = NEW.completed_at, status = CASE NEW.status
      WHEN 'pending' THEN 'pending'
      WHEN 'queued' THEN 'pending'
      WHEN 'running' THEN 'running'
      WHEN 'cancelling' THEN 'running'
      WHEN 'completed' THEN 'completed'
      WHEN 'failed' THEN 'failed'
      WHEN 'cancelled' THEN 'cancelled'
      END
    WHERE job_id = NEW.id;
  END IF;
  RETURN NEW;
END $$"""
BEGINNING = """\
CREATE OR REPLACE FUNCTION trellis_guard_new_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.status, NEW.attempt, NEW.last_sequence) IS DISTINCT FROM ('pending', 0, 1) THEN
    RAISE EXCEPTION 'job %: a job begins as pending, without an attempt and with its first event', NEW.id USING ERRCODE = 'TR001';
  END IF;
  RETURN NEW;
END $$"""


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
    op.execute(GUARD)
    op.execute(BEGINNING)
    op.execute("CREATE TRIGGER guard_beginning BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION trellis_guard_new_job()")
    for table, name, condition in WORDS:
        op.create_check_constraint(name, table, condition)


def downgrade() -> None:
    for table, name, _ in reversed(WORDS):
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
    op.execute("DROP TRIGGER guard_beginning ON jobs")
    op.execute("DROP FUNCTION trellis_guard_new_job()")
    op.execute(LOOSE_GUARD)
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
