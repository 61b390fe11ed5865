"""Predictions: a job has a model version as its input, and a document with what it was given and what it answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum
from db.migrations.functions import install_function

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

KINDS = (
    "ingest",
    "profile",
    "deduce_schema",
    "process",
    "train",
    "study",
    "trial",
    "explain",
    "export",
    "import",
    "generate",
    "purge",
)


def upgrade() -> None:
    change_enum(op, "jobs", "kind", (*KINDS, "predict"))
    op.add_column("jobs", sa.Column("model_version_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_jobs_model_version_id"), "jobs", "model_versions", ["model_version_id"], ["id"], ondelete="RESTRICT")
    op.create_index(
        "ix_jobs_model_version_id_created_at", "jobs", ["model_version_id", sa.text("created_at DESC"), sa.text("id DESC")], unique=False
    )
    install_function(op, "trellis_guard_job", revision)
    op.create_table(
        "job_documents",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("input", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("result", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint("num_nonnulls(input, result) > 0", name=op.f("ck_job_documents_is_not_empty")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_documents_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_documents")),
    )
    op.add_column("model_versions", sa.Column("format", sa.Text(), server_default="opaque", nullable=False))
    op.add_column("model_versions", sa.Column("is_trusted", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    change_enum(op, "model_versions", "format", ("skops", "lightgbm", "onnx", "safetensors", "opaque"))
    # Until here every version came from a training, which writes skops.
    op.execute("UPDATE model_versions SET format = 'skops', is_trusted = true WHERE job_id IS NOT NULL")


def downgrade() -> None:
    op.drop_column("model_versions", "is_trusted")
    op.drop_column("model_versions", "format")
    op.drop_table("job_documents")
    # What they made stays, and so must they: the release before knows a job that makes a dataset version as `process`.
    op.execute("ALTER TABLE jobs DISABLE TRIGGER USER")
    op.execute("UPDATE jobs SET kind = 'process' WHERE kind = 'predict'")
    op.execute("ALTER TABLE jobs ENABLE TRIGGER USER")
    install_function(op, "trellis_guard_job", "0022")
    op.drop_index("ix_jobs_model_version_id_created_at", "jobs")
    op.drop_column("jobs", "model_version_id")
    change_enum(op, "jobs", "kind", KINDS)
