"""Pipelines are found by a step of theirs."""

from __future__ import annotations

from alembic import op

from db.migrations.functions import drop_function, install_function

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    install_function(op, "trellis_step_keys", "0030")
    # Adding the column rewrites the table, which is small: some ten thousand rows.
    op.execute("ALTER TABLE pipelines ADD COLUMN step_keys text[] GENERATED ALWAYS AS (trellis_step_keys(definition)) STORED")
    op.execute("CREATE INDEX ix_pipelines_step_keys ON pipelines USING gin (step_keys) WHERE deleted_at IS NULL")


def downgrade() -> None:
    op.execute("ALTER TABLE pipelines DROP COLUMN step_keys")
    drop_function(op, "trellis_step_keys(jsonb)")
