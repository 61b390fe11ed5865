"""Models that the code of external runs logs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum

revision = "0073"
down_revision = "0072"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "logged_models",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model_type", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        *(
            sa.Column(name, postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False)
            for name in ("parameters", "annotations")
        ),
        sa.Column("step", sa.BigInteger(), nullable=True),
        *(
            sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)
            for name in ("created_at", "updated_at")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_logged_models_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logged_models")),
    )
    change_enum(op, "logged_models", "status", ("pending", "ready", "failed"))
    op.create_index(op.f("ix_logged_models_run_id"), "logged_models", ["run_id"])
    op.create_index("ix_logged_models_name", "logged_models", ["name", "id"])
    op.execute("CREATE TRIGGER touch BEFORE UPDATE ON logged_models FOR EACH ROW EXECUTE FUNCTION trellis_touch()")


def downgrade() -> None:
    op.drop_table("logged_models")
