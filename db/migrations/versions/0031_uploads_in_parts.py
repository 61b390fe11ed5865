"""Uploads in parts, which can be aborted; who made an upload, and the bytes that are there already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

STATES = ("open", "completed", "ingested", "mismatched", "expired")


def upgrade() -> None:
    op.add_column("uploads", sa.Column("created_by_id", sa.Uuid(), nullable=True))
    op.add_column("uploads", sa.Column("part_bytes", sa.BigInteger(), nullable=True))
    op.add_column("uploads", sa.Column("multipart_id", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("ck_uploads_parts_have_a_size"), "uploads", "part_bytes > 0")
    change_enum(op, "uploads", "state", (*STATES[:4], "aborted", "expired"))
    op.create_index(
        "ix_dataset_versions_sha256", "dataset_versions", ["sha256", "size_bytes"], postgresql_where=sa.text("status = 'ready'")
    )


def downgrade() -> None:
    op.drop_index("ix_dataset_versions_sha256", "dataset_versions")
    op.execute("UPDATE uploads SET state = 'expired' WHERE state = 'aborted'")
    change_enum(op, "uploads", "state", STATES)
    for column in ("multipart_id", "part_bytes", "created_by_id"):
        op.drop_column("uploads", column)
