"""Exports for libraries of machine learning."""

from __future__ import annotations

from alembic import op

from db.migrations.enums import change_enum

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

TABLES = ("csv", "json", "jsonl", "parquet")


def upgrade() -> None:
    change_enum(op, "exports", "format", (*TABLES, "huggingface", "pytorch", "tensorflow"))


def downgrade() -> None:
    op.execute("DELETE FROM exports WHERE format NOT IN ('csv', 'json', 'jsonl', 'parquet')")
    change_enum(op, "exports", "format", TABLES)
