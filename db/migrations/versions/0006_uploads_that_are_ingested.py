"""An upload says whether its object is still needed: ingested ones count no longer in the storage quota."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    change_enum(op, "uploads", "state", ("open", "completed", "ingested", "mismatched", "expired"))
    op.execute(
        "UPDATE uploads u SET state = 'ingested' FROM dataset_versions v WHERE v.id = u.version_id AND v.status = 'ready' AND u.state = 'completed'"
    )
    op.create_index(
        "ix_uploads_holding",
        "uploads",
        ["owner_id"],
        postgresql_include=["size_bytes"],
        postgresql_where=sa.text("state IN ('open', 'completed')"),
    )


def downgrade() -> None:
    op.drop_index("ix_uploads_holding", table_name="uploads")
    op.execute("UPDATE uploads SET state = 'completed' WHERE state = 'ingested'")
    change_enum(op, "uploads", "state", ("open", "completed", "mismatched", "expired"))
