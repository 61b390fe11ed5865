"""Studies of architectures: each trial has another one, and the size of what it trained is compared with its value."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum

revision = "0061"
down_revision = "0060"
branch_labels = None
depends_on = None


def upgrade() -> None:
    change_enum(op, "studies", "kind", ("hpo", "nas"))
    op.create_check_constraint(
        op.f("ck_studies_architectures_can_be_drawn_again"),
        "studies",
        "kind <> 'nas' OR (method <> 'grid' AND (NOT is_reproducible OR max_parallel = 1))",
    )
    op.add_column("trials", sa.Column("architecture_hash", sa.Text(), nullable=True))
    op.add_column("trials", sa.Column("parameter_count", sa.BigInteger(), nullable=True))
    op.create_index(
        "uq_trials_study_id_architecture_hash",
        "trials",
        ["study_id", "architecture_hash"],
        unique=True,
        postgresql_where=sa.text("architecture_hash IS NOT NULL"),
    )
    op.execute(
        "UPDATE trials t SET parameter_count = (r.architecture ->> 'parameterCount')::bigint FROM runs r"
        " WHERE r.id = t.run_id AND r.architecture IS NOT NULL AND t.status = 'completed'"
    )
    op.create_index(
        "ix_trials_study_id_parameter_count",
        "trials",
        ["study_id", "parameter_count", "value", "number"],
        postgresql_where=sa.text("parameter_count IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_column("trials", "parameter_count")
    op.drop_column("trials", "architecture_hash")
    op.drop_constraint(op.f("ck_studies_architectures_can_be_drawn_again"), "studies", type_="check")
    op.execute("UPDATE studies SET kind = 'hpo'")
    change_enum(op, "studies", "kind", ("hpo",))
