"""The core tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.functions import drop_function, install_function

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


FUNCTIONS = ("trellis_touch", "trellis_count_references", "trellis_count_storage", "trellis_make_partitions", "trellis_guard_job")


def upgrade() -> None:
    op.create_table(
        "step_definitions",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("modalities", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("parameter_schema", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_step_definitions")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("full_name", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("storage_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("storage_bytes >= 0", name=op.f("ck_users_storage_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    op.create_index(
        "uq_users_email", "users", [sa.literal_column("lower(email)")], unique=True, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_index(
        "uq_users_username", "users", [sa.literal_column("lower(username)")], unique=True, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("queues", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        sa.UniqueConstraint("name", name=op.f("uq_workers_name")),
    )
    op.create_index("ix_workers_live", "workers", ["heartbeat_at"], unique=False, postgresql_where=sa.text("stopped_at IS NULL"))
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_keys_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_api_keys_token_sha256")),
    )
    op.create_index(op.f("ix_api_keys_user_id"), "api_keys", ["user_id"], unique=False)
    op.create_table(
        "datasets",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("problem_type", sa.Text(), nullable=True),
        sa.Column("target_column", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("last_number", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("last_number >= 0", name=op.f("ck_datasets_last_number_not_negative")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_datasets_owner_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index(
        "ix_datasets_created_at",
        "datasets",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(op.f("ix_datasets_owner_id"), "datasets", ["owner_id"], unique=False)
    op.create_index(
        "ix_datasets_owner_id_created_at",
        "datasets",
        ["owner_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "ix_datasets_owner_id_updated_at",
        "datasets",
        ["owner_id", sa.literal_column("updated_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_datasets_owner_id_name",
        "datasets",
        ["owner_id", sa.literal_column("lower(name)")],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "experiments",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("last_number", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_experiments_owner_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
    )
    op.create_index(
        "ix_experiments_created_at",
        "experiments",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(op.f("ix_experiments_owner_id"), "experiments", ["owner_id"], unique=False)
    op.create_index(
        "ix_experiments_owner_id_created_at",
        "experiments",
        ["owner_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "ix_experiments_owner_id_updated_at",
        "experiments",
        ["owner_id", sa.literal_column("updated_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_experiments_owner_id_name",
        "experiments",
        ["owner_id", sa.literal_column("lower(name)")],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.Column("answer", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_idempotency_keys_owner_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "models",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("problem_type", sa.Text(), nullable=True),
        sa.Column("last_number", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_models_owner_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
    )
    op.create_index(
        "ix_models_created_at",
        "models",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(op.f("ix_models_owner_id"), "models", ["owner_id"], unique=False)
    op.create_index(
        "ix_models_owner_id_created_at",
        "models",
        ["owner_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "ix_models_owner_id_updated_at",
        "models",
        ["owner_id", sa.literal_column("updated_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_models_owner_id_name",
        "models",
        ["owner_id", sa.literal_column("lower(name)")],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "pipelines",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("is_template", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("definition", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("validated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("version > 0", name=op.f("ck_pipelines_version_is_positive")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_pipelines_owner_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipelines")),
    )
    op.create_index(
        "ix_pipelines_created_at",
        "pipelines",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(op.f("ix_pipelines_owner_id"), "pipelines", ["owner_id"], unique=False)
    op.create_index(
        "ix_pipelines_owner_id_created_at",
        "pipelines",
        ["owner_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "ix_pipelines_owner_id_updated_at",
        "pipelines",
        ["owner_id", sa.literal_column("updated_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_pipelines_owner_id_name",
        "pipelines",
        ["owner_id", sa.literal_column("lower(name)")],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "stored_objects",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("reference_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("size_bytes >= 0 AND reference_count >= 0", name=op.f("ck_stored_objects_counts_not_negative")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_stored_objects_owner_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stored_objects")),
        sa.UniqueConstraint("object_key", name=op.f("uq_stored_objects_object_key")),
        sa.UniqueConstraint("owner_id", "sha256", "size_bytes", name=op.f("uq_stored_objects_owner_id_sha256_size_bytes")),
    )
    op.create_index(op.f("ix_stored_objects_owner_id"), "stored_objects", ["owner_id"], unique=False)
    op.create_index(
        "ix_stored_objects_unreferenced", "stored_objects", ["created_at"], unique=False, postgresql_where=sa.text("reference_count = 0")
    )
    op.create_table(
        "dataset_versions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("original_filename", sa.Text(), nullable=True),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("format", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("row_count", sa.BigInteger(), nullable=True),
        sa.Column("column_count", sa.Integer(), nullable=True),
        sa.Column("columns", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("issues", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("issue_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("preview", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("produced_by_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "size_bytes >= 0 AND row_count >= 0 AND column_count >= 0 AND number > 0", name=op.f("ck_dataset_versions_counts_not_negative")
        ),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_dataset_versions_dataset_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_versions")),
        sa.UniqueConstraint("dataset_id", "number", name=op.f("uq_dataset_versions_dataset_id_number")),
    )
    op.create_index(op.f("ix_dataset_versions_dataset_id"), "dataset_versions", ["dataset_id"], unique=False)
    op.create_index(op.f("ix_dataset_versions_produced_by_id"), "dataset_versions", ["produced_by_id"], unique=False)
    op.create_index(
        "ix_dataset_versions_ready",
        "dataset_versions",
        ["dataset_id", sa.literal_column("number DESC")],
        unique=False,
        postgresql_where=sa.text("status = 'ready'"),
    )
    op.create_table(
        "pipeline_snapshots",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("definition", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_pipeline_snapshots_owner_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipelines.id"], name=op.f("fk_pipeline_snapshots_pipeline_id"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_snapshots")),
        sa.UniqueConstraint("pipeline_id", "sha256", name=op.f("uq_pipeline_snapshots_pipeline_id_sha256")),
    )
    op.create_index(op.f("ix_pipeline_snapshots_owner_id"), "pipeline_snapshots", ["owner_id"], unique=False)
    op.create_index(op.f("ix_pipeline_snapshots_pipeline_id"), "pipeline_snapshots", ["pipeline_id"], unique=False)
    op.create_table(
        "dataset_profiles",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("profiler_version", sa.Text(), nullable=False),
        sa.Column("generated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("generation_time", sa.Double(), nullable=False),
        sa.Column("is_exact", sa.Boolean(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("duplicate_row_count", sa.BigInteger(), nullable=False),
        sa.Column("missing_cell_ratio", sa.Double(), nullable=False),
        sa.Column("report", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("report_object_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("missing_cell_ratio BETWEEN 0 AND 1", name=op.f("ck_dataset_profiles_ratio_is_a_ratio")),
        sa.CheckConstraint("num_nonnulls(report, report_object_id) = 1", name=op.f("ck_dataset_profiles_report_lies_somewhere")),
        sa.ForeignKeyConstraint(
            ["report_object_id"], ["stored_objects.id"], name=op.f("fk_dataset_profiles_report_object_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["version_id"], ["dataset_versions.id"], name=op.f("fk_dataset_profiles_version_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_profiles")),
        sa.UniqueConstraint("version_id", "profiler_version", name=op.f("uq_dataset_profiles_version_id_profiler_version")),
    )
    op.create_index(op.f("ix_dataset_profiles_report_object_id"), "dataset_profiles", ["report_object_id"], unique=False)
    op.create_index(op.f("ix_dataset_profiles_version_id"), "dataset_profiles", ["version_id"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default="5", nullable=False),
        sa.Column("progress", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("current_step", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_tries", sa.Integer(), server_default="3", nullable=False),
        sa.Column("losses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("retry_of_id", sa.Uuid(), nullable=True),
        sa.Column("dataset_id", sa.Uuid(), nullable=True),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=True),
        sa.Column("pipeline_id", sa.Uuid(), nullable=True),
        sa.Column("snapshot_id", sa.Uuid(), nullable=True),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("run_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dispatch_no", sa.Integer(), server_default="0", nullable=False),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("timeout_seconds", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)", name=op.f("ck_jobs_completed_at_says_final")
        ),
        sa.CheckConstraint("(status IN ('running', 'cancelling')) = (lease_until IS NOT NULL)", name=op.f("ck_jobs_leased_while_active")),
        sa.CheckConstraint("status <> 'failed' OR error IS NOT NULL", name=op.f("ck_jobs_failure_has_an_error")),
        sa.CheckConstraint("attempt >= 0 AND tries >= 0 AND losses >= 0 AND max_tries > 0", name=op.f("ck_jobs_counts_not_negative")),
        sa.CheckConstraint("priority BETWEEN 1 AND 10", name=op.f("ck_jobs_priority_1_to_10")),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", name=op.f("ck_jobs_progress_is_a_percentage")),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_jobs_dataset_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"], ["dataset_versions.id"], name=op.f("fk_jobs_dataset_version_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_jobs_owner_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["pipeline_id"], ["pipelines.id"], name=op.f("fk_jobs_pipeline_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["retry_of_id"], ["jobs.id"], name=op.f("fk_jobs_retry_of_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["snapshot_id"], ["pipeline_snapshots.id"], name=op.f("fk_jobs_snapshot_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"], name=op.f("fk_jobs_worker_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(
        "ix_jobs_created_at",
        "jobs",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=None,
    )
    op.create_index(op.f("ix_jobs_dataset_id"), "jobs", ["dataset_id"], unique=False)
    op.create_index(op.f("ix_jobs_dataset_version_id"), "jobs", ["dataset_version_id"], unique=False)
    op.create_index(
        "ix_jobs_leased", "jobs", ["lease_until"], unique=False, postgresql_where=sa.text("status IN ('running', 'cancelling')")
    )
    op.create_index(op.f("ix_jobs_owner_id"), "jobs", ["owner_id"], unique=False)
    op.create_index(
        "ix_jobs_owner_id_created_at",
        "jobs",
        ["owner_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=None,
    )
    op.create_index(
        "ix_jobs_owner_id_priority", "jobs", ["owner_id", sa.literal_column("priority DESC"), sa.literal_column("id DESC")], unique=False
    )
    op.create_index(op.f("ix_jobs_pipeline_id"), "jobs", ["pipeline_id"], unique=False)
    op.create_index("ix_jobs_priority", "jobs", [sa.literal_column("priority DESC"), sa.literal_column("id DESC")], unique=False)
    op.create_index(op.f("ix_jobs_retry_of_id"), "jobs", ["retry_of_id"], unique=False)
    op.create_index(op.f("ix_jobs_snapshot_id"), "jobs", ["snapshot_id"], unique=False)
    op.create_index(
        "ix_jobs_unfinished_dataset",
        "jobs",
        ["dataset_id"],
        unique=False,
        postgresql_where=sa.text("status NOT IN ('completed', 'failed', 'cancelled')"),
    )
    op.create_index("ix_jobs_updated_at", "jobs", ["updated_at"], unique=False)
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["queue", "priority", "created_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'queued')"),
    )
    op.create_index(op.f("ix_jobs_worker_id"), "jobs", ["worker_id"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_uploads_size_not_negative")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_uploads_owner_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["version_id"], ["dataset_versions.id"], name=op.f("fk_uploads_version_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
        sa.UniqueConstraint("object_key", name=op.f("uq_uploads_object_key")),
        sa.UniqueConstraint("version_id", name=op.f("uq_uploads_version_id")),
    )
    op.create_index(op.f("ix_uploads_job_id"), "uploads", ["job_id"], unique=False)
    op.create_index("ix_uploads_open", "uploads", ["expires_at"], unique=False, postgresql_where=sa.text("state = 'open'"))
    op.create_index(op.f("ix_uploads_owner_id"), "uploads", ["owner_id"], unique=False)
    op.create_table(
        "job_attempts",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_attempts_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"], name=op.f("fk_job_attempts_worker_id"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_job_attempts")),
    )
    op.create_index(op.f("ix_job_attempts_worker_id"), "job_attempts", ["worker_id"], unique=False)
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("progress", sa.SmallInteger(), nullable=False),
        sa.Column("step", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("data", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "sequence", name=op.f("pk_job_events")),
        postgresql_partition_by="RANGE (job_id)",
    )
    op.create_table(
        "job_inputs",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"], ["dataset_versions.id"], name=op.f("fk_job_inputs_dataset_version_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_inputs_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "dataset_version_id", name=op.f("pk_job_inputs")),
    )
    op.create_index(op.f("ix_job_inputs_dataset_version_id"), "job_inputs", ["dataset_version_id"], unique=False)
    op.create_table(
        "job_nodes",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("progress", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("output", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", name=op.f("ck_job_nodes_progress_is_a_percentage")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_nodes_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "attempt", "key", name=op.f("pk_job_nodes")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("experiment_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("hyperparameters", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("number > 0", name=op.f("ck_runs_number_is_positive")),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"], ["dataset_versions.id"], name=op.f("fk_runs_dataset_version_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_runs_experiment_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_runs_job_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_runs_owner_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("experiment_id", "number", name=op.f("uq_runs_experiment_id_number")),
        sa.UniqueConstraint("job_id", name=op.f("uq_runs_job_id")),
    )
    op.create_index(
        "ix_runs_created_at",
        "runs",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=None,
    )
    op.create_index(op.f("ix_runs_dataset_version_id"), "runs", ["dataset_version_id"], unique=False)
    op.create_index(op.f("ix_runs_experiment_id"), "runs", ["experiment_id"], unique=False)
    op.create_index(
        "ix_runs_experiment_id_created_at",
        "runs",
        ["experiment_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index(
        "ix_runs_hyperparameters",
        "runs",
        ["hyperparameters"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"hyperparameters": "jsonb_path_ops"},
    )
    op.create_index(op.f("ix_runs_owner_id"), "runs", ["owner_id"], unique=False)
    op.create_index(
        "ix_runs_owner_id_created_at",
        "runs",
        ["owner_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=None,
    )
    op.create_index("ix_runs_owner_id_number", "runs", ["owner_id", "number", "id"], unique=False)
    op.create_index(
        "ix_runs_owner_id_status",
        "runs",
        ["owner_id", "status", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_table(
        "metric_points",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_metric_points_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "key", "step", name=op.f("pk_metric_points")),
        postgresql_partition_by="RANGE (run_id)",
    )
    op.create_index("ix_metric_points_run_id_batch", "metric_points", ["run_id", "batch"], unique=False)
    op.create_table(
        "model_versions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=True),
        sa.Column("framework", sa.Text(), nullable=False),
        sa.Column("problem_type", sa.Text(), nullable=True),
        sa.Column("metrics", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("hyperparameters", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("packages", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("snapshot_id", sa.Uuid(), nullable=True),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("number > 0", name=op.f("ck_model_versions_number_is_positive")),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"], ["dataset_versions.id"], name=op.f("fk_model_versions_dataset_version_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_model_versions_job_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_model_versions_model_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_model_versions_run_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["pipeline_snapshots.id"], name=op.f("fk_model_versions_snapshot_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_versions")),
        sa.UniqueConstraint("model_id", "number", name=op.f("uq_model_versions_model_id_number")),
    )
    op.create_index(op.f("ix_model_versions_dataset_version_id"), "model_versions", ["dataset_version_id"], unique=False)
    op.create_index(op.f("ix_model_versions_job_id"), "model_versions", ["job_id"], unique=False)
    op.create_index(op.f("ix_model_versions_model_id"), "model_versions", ["model_id"], unique=False)
    op.create_index(op.f("ix_model_versions_run_id"), "model_versions", ["run_id"], unique=False)
    op.create_index(op.f("ix_model_versions_snapshot_id"), "model_versions", ["snapshot_id"], unique=False)
    op.create_table(
        "run_metrics",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("last", sa.Double(), nullable=True),
        sa.Column("last_step", sa.Integer(), nullable=True),
        sa.Column("min", sa.Double(), nullable=True),
        sa.Column("min_step", sa.Integer(), nullable=True),
        sa.Column("max", sa.Double(), nullable=True),
        sa.Column("max_step", sa.Integer(), nullable=True),
        sa.Column("count", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_metrics_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "key", name=op.f("pk_run_metrics")),
    )
    op.create_index("ix_run_metrics_key_last", "run_metrics", ["key", "last", "run_id"], unique=False)
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=True),
        sa.Column("model_version_id", sa.Uuid(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("num_nonnulls(dataset_version_id, model_version_id) <= 1", name=op.f("ck_artifacts_has_one_parent")),
        sa.CheckConstraint(
            "num_nonnulls(dataset_version_id, model_version_id, job_id) >= 1", name=op.f("ck_artifacts_belongs_to_something")
        ),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"], ["dataset_versions.id"], name=op.f("fk_artifacts_dataset_version_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_artifacts_job_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_versions.id"], name=op.f("fk_artifacts_model_version_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["object_id"], ["stored_objects.id"], name=op.f("fk_artifacts_object_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_artifacts_owner_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
    )
    op.create_index(op.f("ix_artifacts_dataset_version_id"), "artifacts", ["dataset_version_id"], unique=False)
    op.create_index(op.f("ix_artifacts_job_id"), "artifacts", ["job_id"], unique=False)
    op.create_index(op.f("ix_artifacts_model_version_id"), "artifacts", ["model_version_id"], unique=False)
    op.create_index(op.f("ix_artifacts_object_id"), "artifacts", ["object_id"], unique=False)
    op.create_index(op.f("ix_artifacts_owner_id"), "artifacts", ["owner_id"], unique=False)
    op.create_table(
        "model_alias_events",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("set_by_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("set_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_model_alias_events_model_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_versions.id"], name=op.f("fk_model_alias_events_model_version_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["set_by_id"], ["users.id"], name=op.f("fk_model_alias_events_set_by_id"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_alias_events")),
    )
    op.create_index(
        "ix_model_alias_events_history", "model_alias_events", ["model_id", "name", sa.literal_column("set_at DESC")], unique=False
    )
    op.create_index(op.f("ix_model_alias_events_model_id"), "model_alias_events", ["model_id"], unique=False)
    op.create_index(op.f("ix_model_alias_events_model_version_id"), "model_alias_events", ["model_version_id"], unique=False)
    op.create_index(op.f("ix_model_alias_events_set_by_id"), "model_alias_events", ["set_by_id"], unique=False)
    op.create_index(
        "uq_model_alias_events_current",
        "model_alias_events",
        ["model_id", "name"],
        unique=True,
        postgresql_where=sa.text("superseded_at IS NULL"),
    )
    op.create_table(
        "job_outputs",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=True),
        sa.Column("profile_id", sa.Uuid(), nullable=True),
        sa.Column("model_version_id", sa.Uuid(), nullable=True),
        sa.Column("artifact_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "num_nonnulls(dataset_version_id, profile_id, model_version_id, artifact_id) = 1", name=op.f("ck_job_outputs_is_one_thing")
        ),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name=op.f("fk_job_outputs_artifact_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"], ["dataset_versions.id"], name=op.f("fk_job_outputs_dataset_version_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_outputs_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_versions.id"], name=op.f("fk_job_outputs_model_version_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["profile_id"], ["dataset_profiles.id"], name=op.f("fk_job_outputs_profile_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "position", name=op.f("pk_job_outputs")),
    )
    op.create_index(op.f("ix_job_outputs_artifact_id"), "job_outputs", ["artifact_id"], unique=False)
    op.create_index(op.f("ix_job_outputs_dataset_version_id"), "job_outputs", ["dataset_version_id"], unique=False)
    op.create_index(op.f("ix_job_outputs_model_version_id"), "job_outputs", ["model_version_id"], unique=False)
    op.create_index(op.f("ix_job_outputs_profile_id"), "job_outputs", ["profile_id"], unique=False)
    # The two sides of these circles exist only now.
    op.create_foreign_key(
        op.f("fk_dataset_versions_produced_by_id"), "dataset_versions", "jobs", ["produced_by_id"], ["id"], ondelete="SET NULL"
    )
    op.create_foreign_key(op.f("fk_uploads_job_id"), "uploads", "jobs", ["job_id"], ["id"], ondelete="SET NULL")
    for name in FUNCTIONS:
        install_function(op, name, revision)
    for table in ("users", "datasets", "dataset_versions", "pipelines", "jobs", "models", "experiments"):
        op.execute(f"CREATE TRIGGER touch BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION trellis_touch()")
    op.execute("CREATE TRIGGER guard BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION trellis_guard_job()")
    op.execute(
        "CREATE TRIGGER count_references AFTER INSERT OR DELETE OR UPDATE OF object_id ON artifacts FOR EACH ROW EXECUTE FUNCTION trellis_count_references('object_id')"
    )
    op.execute(
        "CREATE TRIGGER count_references AFTER INSERT OR DELETE OR UPDATE OF report_object_id ON dataset_profiles"
        " FOR EACH ROW EXECUTE FUNCTION trellis_count_references('report_object_id')"
    )
    op.execute(
        "CREATE TRIGGER count_storage AFTER INSERT OR DELETE ON stored_objects FOR EACH ROW EXECUTE FUNCTION trellis_count_storage()"
    )
    op.execute("SELECT trellis_make_partitions(3)")


def downgrade() -> None:
    op.drop_constraint(op.f("fk_dataset_versions_produced_by_id"), "dataset_versions")
    op.drop_constraint(op.f("fk_uploads_job_id"), "uploads")
    op.drop_index(op.f("ix_job_outputs_profile_id"), table_name="job_outputs")
    op.drop_index(op.f("ix_job_outputs_model_version_id"), table_name="job_outputs")
    op.drop_index(op.f("ix_job_outputs_dataset_version_id"), table_name="job_outputs")
    op.drop_index(op.f("ix_job_outputs_artifact_id"), table_name="job_outputs")
    op.drop_table("job_outputs")
    op.drop_index("uq_model_alias_events_current", table_name="model_alias_events", postgresql_where=sa.text("superseded_at IS NULL"))
    op.drop_index(op.f("ix_model_alias_events_set_by_id"), table_name="model_alias_events")
    op.drop_index(op.f("ix_model_alias_events_model_version_id"), table_name="model_alias_events")
    op.drop_index(op.f("ix_model_alias_events_model_id"), table_name="model_alias_events")
    op.drop_index("ix_model_alias_events_history", table_name="model_alias_events")
    op.drop_table("model_alias_events")
    op.drop_index(op.f("ix_artifacts_owner_id"), table_name="artifacts")
    op.drop_index(op.f("ix_artifacts_object_id"), table_name="artifacts")
    op.drop_index(op.f("ix_artifacts_model_version_id"), table_name="artifacts")
    op.drop_index(op.f("ix_artifacts_job_id"), table_name="artifacts")
    op.drop_index(op.f("ix_artifacts_dataset_version_id"), table_name="artifacts")
    op.drop_table("artifacts")
    op.drop_index("ix_run_metrics_key_last", table_name="run_metrics")
    op.drop_table("run_metrics")
    op.drop_index(op.f("ix_model_versions_snapshot_id"), table_name="model_versions")
    op.drop_index(op.f("ix_model_versions_run_id"), table_name="model_versions")
    op.drop_index(op.f("ix_model_versions_model_id"), table_name="model_versions")
    op.drop_index(op.f("ix_model_versions_job_id"), table_name="model_versions")
    op.drop_index(op.f("ix_model_versions_dataset_version_id"), table_name="model_versions")
    op.drop_table("model_versions")
    op.drop_index("ix_metric_points_run_id_batch", table_name="metric_points")
    op.drop_table("metric_points")
    op.drop_index("ix_runs_owner_id_status", table_name="runs")
    op.drop_index("ix_runs_owner_id_number", table_name="runs")
    op.drop_index("ix_runs_owner_id_created_at", table_name="runs", postgresql_where=None)
    op.drop_index(op.f("ix_runs_owner_id"), table_name="runs")
    op.drop_index(
        "ix_runs_hyperparameters", table_name="runs", postgresql_using="gin", postgresql_ops={"hyperparameters": "jsonb_path_ops"}
    )
    op.drop_index("ix_runs_experiment_id_created_at", table_name="runs")
    op.drop_index(op.f("ix_runs_experiment_id"), table_name="runs")
    op.drop_index(op.f("ix_runs_dataset_version_id"), table_name="runs")
    op.drop_index("ix_runs_created_at", table_name="runs", postgresql_where=None)
    op.drop_table("runs")
    op.drop_table("job_nodes")
    op.drop_index(op.f("ix_job_inputs_dataset_version_id"), table_name="job_inputs")
    op.drop_table("job_inputs")
    op.drop_table("job_events")
    op.drop_index(op.f("ix_job_attempts_worker_id"), table_name="job_attempts")
    op.drop_table("job_attempts")
    op.drop_index(op.f("ix_uploads_owner_id"), table_name="uploads")
    op.drop_index("ix_uploads_open", table_name="uploads", postgresql_where=sa.text("state = 'open'"))
    op.drop_index(op.f("ix_uploads_job_id"), table_name="uploads")
    op.drop_table("uploads")
    op.drop_index(op.f("ix_jobs_worker_id"), table_name="jobs")
    op.drop_index("ix_jobs_waiting", table_name="jobs", postgresql_where=sa.text("status IN ('pending', 'queued')"))
    op.drop_index("ix_jobs_updated_at", table_name="jobs")
    op.drop_index(
        "ix_jobs_unfinished_dataset", table_name="jobs", postgresql_where=sa.text("status NOT IN ('completed', 'failed', 'cancelled')")
    )
    op.drop_index(op.f("ix_jobs_snapshot_id"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_retry_of_id"), table_name="jobs")
    op.drop_index("ix_jobs_priority", table_name="jobs")
    op.drop_index(op.f("ix_jobs_pipeline_id"), table_name="jobs")
    op.drop_index("ix_jobs_owner_id_priority", table_name="jobs")
    op.drop_index("ix_jobs_owner_id_created_at", table_name="jobs", postgresql_where=None)
    op.drop_index(op.f("ix_jobs_owner_id"), table_name="jobs")
    op.drop_index("ix_jobs_leased", table_name="jobs", postgresql_where=sa.text("status IN ('running', 'cancelling')"))
    op.drop_index(op.f("ix_jobs_dataset_version_id"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_dataset_id"), table_name="jobs")
    op.drop_index("ix_jobs_created_at", table_name="jobs", postgresql_where=None)
    op.drop_table("jobs")
    op.drop_index(op.f("ix_dataset_profiles_version_id"), table_name="dataset_profiles")
    op.drop_index(op.f("ix_dataset_profiles_report_object_id"), table_name="dataset_profiles")
    op.drop_table("dataset_profiles")
    op.drop_index(op.f("ix_pipeline_snapshots_pipeline_id"), table_name="pipeline_snapshots")
    op.drop_index(op.f("ix_pipeline_snapshots_owner_id"), table_name="pipeline_snapshots")
    op.drop_table("pipeline_snapshots")
    op.drop_index("ix_dataset_versions_ready", table_name="dataset_versions", postgresql_where=sa.text("status = 'ready'"))
    op.drop_index(op.f("ix_dataset_versions_produced_by_id"), table_name="dataset_versions")
    op.drop_index(op.f("ix_dataset_versions_dataset_id"), table_name="dataset_versions")
    op.drop_table("dataset_versions")
    op.drop_index("ix_stored_objects_unreferenced", table_name="stored_objects", postgresql_where=sa.text("reference_count = 0"))
    op.drop_index(op.f("ix_stored_objects_owner_id"), table_name="stored_objects")
    op.drop_table("stored_objects")
    op.drop_index("uq_pipelines_owner_id_name", table_name="pipelines", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_pipelines_owner_id_updated_at", table_name="pipelines", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_pipelines_owner_id_created_at", table_name="pipelines", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index(op.f("ix_pipelines_owner_id"), table_name="pipelines")
    op.drop_index("ix_pipelines_created_at", table_name="pipelines", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_table("pipelines")
    op.drop_index("uq_models_owner_id_name", table_name="models", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_models_owner_id_updated_at", table_name="models", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_models_owner_id_created_at", table_name="models", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index(op.f("ix_models_owner_id"), table_name="models")
    op.drop_index("ix_models_created_at", table_name="models", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_table("models")
    op.drop_index("ix_idempotency_keys_created_at", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index("uq_experiments_owner_id_name", table_name="experiments", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_experiments_owner_id_updated_at", table_name="experiments", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_experiments_owner_id_created_at", table_name="experiments", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index(op.f("ix_experiments_owner_id"), table_name="experiments")
    op.drop_index("ix_experiments_created_at", table_name="experiments", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_table("experiments")
    op.drop_index("uq_datasets_owner_id_name", table_name="datasets", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_datasets_owner_id_updated_at", table_name="datasets", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("ix_datasets_owner_id_created_at", table_name="datasets", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index(op.f("ix_datasets_owner_id"), table_name="datasets")
    op.drop_index("ix_datasets_created_at", table_name="datasets", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_table("datasets")
    op.drop_index(op.f("ix_api_keys_user_id"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_index("ix_workers_live", table_name="workers", postgresql_where=sa.text("stopped_at IS NULL"))
    op.drop_table("workers")
    op.drop_index("uq_users_username", table_name="users", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_index("uq_users_email", table_name="users", postgresql_where=sa.text("deleted_at IS NULL"))
    op.drop_table("users")
    op.drop_table("step_definitions")
    for name in FUNCTIONS:
        drop_function(op, name)
