"""Explanations of model versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum
from db.migrations.outputs import guard_outputs

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

ONE_PARENT = "ck_artifacts_has_one_parent"
REFERENCES = (
    ("owner_id", "users", "RESTRICT"),
    ("job_id", "jobs", "RESTRICT"),
    ("model_version_id", "model_versions", "RESTRICT"),
    ("run_id", "runs", "SET NULL"),
    ("dataset_version_id", "dataset_versions", "RESTRICT"),
    ("item_id", "dataset_items", "SET NULL"),
)


def upgrade() -> None:
    op.create_table(
        "explanations",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        *(sa.Column(name, sa.Uuid(), nullable=True) for name in ("run_id", "dataset_version_id", "item_id")),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("attributions", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("data", postgresql.JSONB(), nullable=True),
        sa.Column("additivity_error", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        *(
            sa.ForeignKeyConstraint([column], [f"{table}.id"], name=op.f(f"fk_explanations_{column}"), ondelete=on_delete)
            for column, table, on_delete in REFERENCES
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_explanations")),
    )
    change_enum(op, "explanations", "method", ("tree_shap", "linear", "permutation", "partial_dependence", "occlusion"))
    newest_first = [sa.text("created_at DESC"), sa.text("id DESC")]
    for column in ("model_version_id", "run_id", "item_id"):
        op.create_index(f"ix_explanations_{column}_created_at", "explanations", [column, *newest_first])
    for column in ("owner_id", "job_id", "dataset_version_id"):
        op.create_index(op.f(f"ix_explanations_{column}"), "explanations", [column])
    guard_outputs(op, "explanations", "explanation", "cascade")

    op.add_column("artifacts", sa.Column("explanation_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_artifacts_explanation_id"), "artifacts", "explanations", ["explanation_id"], ["id"], ondelete="CASCADE")
    op.create_index(op.f("ix_artifacts_explanation_id"), "artifacts", ["explanation_id"])
    op.drop_constraint(op.f(ONE_PARENT), "artifacts")
    op.create_check_constraint(
        op.f(ONE_PARENT), "artifacts", "num_nonnulls(dataset_version_id, model_version_id, export_id, explanation_id) <= 1"
    )


def downgrade() -> None:
    op.execute("DELETE FROM explanations")  # with their artifacts
    op.drop_constraint(op.f(ONE_PARENT), "artifacts")
    op.create_check_constraint(op.f(ONE_PARENT), "artifacts", "num_nonnulls(dataset_version_id, model_version_id, export_id) <= 1")
    op.drop_column("artifacts", "explanation_id")
    op.drop_table("explanations")
