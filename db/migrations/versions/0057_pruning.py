"""Methods of studies that learn from trials: rungs, decisions to end a trial, importances of parameters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum

revision = "0057"
down_revision = "0056"
branch_labels = None
depends_on = None

HALVING = ("min_steps", "max_steps", "reduction_factor")


def upgrade() -> None:
    change_enum(op, "studies", "method", ("grid", "random", "bayesian", "hyperband", "evolution"))
    for name in HALVING:
        op.add_column("studies", sa.Column(name, sa.Integer(), nullable=True))
    op.add_column("studies", sa.Column("importances", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False))
    op.add_column("studies", sa.Column("importances_of", sa.Integer(), server_default="0", nullable=False))
    op.create_check_constraint(
        op.f("ck_studies_halving_is_hyperband"),
        "studies",
        "(method = 'hyperband') = (min_steps IS NOT NULL) AND num_nulls(min_steps, max_steps, reduction_factor) IN (0, 3)",
    )
    op.create_check_constraint(
        op.f("ck_studies_halving_is_sane"), "studies", "min_steps BETWEEN 1 AND max_steps - 1 AND reduction_factor BETWEEN 2 AND 10"
    )
    op.add_column("trials", sa.Column("pruning", postgresql.JSONB(), nullable=True))
    op.create_table(
        "trial_rungs",
        sa.Column("trial_id", sa.Uuid(), nullable=False),
        sa.Column("rung", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        *(
            sa.ForeignKeyConstraint([column], [f"{target}.id"], name=op.f(f"fk_trial_rungs_{column}"), ondelete="CASCADE")
            for column, target in (("trial_id", "trials"), ("study_id", "studies"))
        ),
        sa.PrimaryKeyConstraint("trial_id", "rung", name=op.f("pk_trial_rungs")),
    )
    op.create_index("ix_trial_rungs_study_id_rung", "trial_rungs", ["study_id", "rung"])


def downgrade() -> None:
    op.drop_table("trial_rungs")
    op.drop_column("trials", "pruning")
    op.execute("UPDATE studies SET method = 'random' WHERE method NOT IN ('grid', 'random')")
    for constraint in ("halving_is_sane", "halving_is_hyperband"):
        op.drop_constraint(op.f(f"ck_studies_{constraint}"), "studies", type_="check")
    for name in ("importances_of", "importances", *HALVING):
        op.drop_column("studies", name)
    change_enum(op, "studies", "method", ("grid", "random"))
