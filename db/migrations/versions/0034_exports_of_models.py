"""Exports of models."""

from __future__ import annotations

from alembic import op

from db.migrations.enums import change_enum

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

OF_DATA = ("csv", "json", "jsonl", "parquet", "huggingface", "pytorch", "tensorflow")


def upgrade() -> None:
    change_enum(op, "exports", "format", (*OF_DATA, "onnx"))


def downgrade() -> None:
    op.execute("DELETE FROM exports WHERE format = 'onnx'")
    change_enum(op, "exports", "format", OF_DATA)
