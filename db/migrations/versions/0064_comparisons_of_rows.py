"""Comparisons of the rows of versions."""

from __future__ import annotations

from alembic import op

from db.migrations.enums import change_enum

revision = "0064"
down_revision = "0063"
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
    "export_list",
    "import",
    "generate",
    "purge",
    "predict",
)


def upgrade() -> None:
    change_enum(op, "jobs", "kind", (*KINDS, "compare"))


def downgrade() -> None:
    op.execute("ALTER TABLE jobs DISABLE TRIGGER USER")
    op.execute("UPDATE jobs SET kind = 'process' WHERE kind = 'compare'")
    op.execute("ALTER TABLE jobs ENABLE TRIGGER USER")
    change_enum(op, "jobs", "kind", KINDS)
