"""Exports of lists."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum

revision = "0060"
down_revision = "0059"
branch_labels = None
depends_on = None

KINDS = (
    "ingest",
    "profile",
    "deduce_schema",
    "process",
    "train",
    "study",
    "trial",
    "explain",
    "export",
    "import",
    "generate",
    "purge",
    "predict",
)
TARGETS = (
    "datasets",
    "dataset_versions",
    "dataset_items",
    "pipelines",
    "jobs",
    "experiments",
    "runs",
    "models",
    "model_versions",
    "studies",
    "trials",
)
ONE_SOURCE, PLANNED, FILTERED = "ck_exports_has_one_source", "ck_exports_list_with_columns_and_plan", "ck_exports_only_lists_are_filtered"


def _document(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True)


def upgrade() -> None:
    change_enum(op, "jobs", "kind", (*KINDS[:9], "export_list", *KINDS[9:]))
    for column in (
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("list_parent_id", sa.Uuid(), nullable=True),
        _document("filter"),
        _document("order_by"),
        sa.Column("columns", postgresql.ARRAY(sa.Text()), nullable=True),
        _document("plan"),
    ):
        op.add_column("exports", column)
    change_enum(op, "exports", "target", TARGETS)
    op.drop_constraint(op.f(ONE_SOURCE), "exports")
    op.create_check_constraint(op.f(ONE_SOURCE), "exports", "num_nonnulls(dataset_version_id, model_version_id, target) = 1")
    op.create_check_constraint(op.f(PLANNED), "exports", "num_nonnulls(target, columns, plan) IN (0, 3)")
    op.create_check_constraint(op.f(FILTERED), "exports", "target IS NOT NULL OR num_nonnulls(list_parent_id, filter, order_by) = 0")
    op.create_index("ix_exports_target_created_at", "exports", ["target", sa.text("created_at DESC"), sa.text("id DESC")])


def downgrade() -> None:
    op.execute("DELETE FROM exports WHERE target IS NOT NULL")  # with their artifacts
    op.drop_index("ix_exports_target_created_at", "exports")
    for constraint in (FILTERED, PLANNED, ONE_SOURCE):
        op.drop_constraint(op.f(constraint), "exports")
    for column in ("plan", "columns", "order_by", "filter", "list_parent_id", "target"):
        op.drop_column("exports", column)
    op.create_check_constraint(op.f(ONE_SOURCE), "exports", "num_nonnulls(dataset_version_id, model_version_id) = 1")
    op.execute("ALTER TABLE jobs DISABLE TRIGGER USER")
    op.execute("UPDATE jobs SET kind = 'export' WHERE kind = 'export_list'")
    op.execute("ALTER TABLE jobs ENABLE TRIGGER USER")
    change_enum(op, "jobs", "kind", KINDS)
