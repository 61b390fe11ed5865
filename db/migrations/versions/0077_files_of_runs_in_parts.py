"""Files of external runs are sent in parts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum

revision = "0077"
down_revision = "0076"
branch_labels = None
depends_on = None

STATES = ("open", "completed", "mismatched", "expired")


def upgrade() -> None:
    op.add_column("artifact_uploads", sa.Column("part_count", sa.Integer(), nullable=True))
    op.add_column("artifact_uploads", sa.Column("multipart_id", sa.Text(), nullable=True))
    change_enum(op, "artifact_uploads", "state", (*STATES, "aborted"))


def downgrade() -> None:
    op.execute("UPDATE artifact_uploads SET state = 'expired' WHERE state = 'aborted'")
    change_enum(op, "artifact_uploads", "state", STATES)
    op.drop_column("artifact_uploads", "multipart_id")
    op.drop_column("artifact_uploads", "part_count")
