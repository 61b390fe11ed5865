"""Every list can be exported."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum

revision = "0085"
down_revision = "0084"
branch_labels = None
depends_on = None

BEFORE = (
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
ADDED = (
    "users",
    "tags",
    "exports",
    "explanations",
    "schema_proposals",
    "alias_events",
    "artifacts",
    "job_events",
    "notifications",
    "credit_transactions",
    "audit_events",
    "login_events",
    "api_requests",
    "webhook_deliveries",
)


def upgrade() -> None:
    change_enum(op, "exports", "target", (*BEFORE, *ADDED))


def downgrade() -> None:
    added = sa.bindparam("added", list(ADDED), type_=postgresql.ARRAY(sa.Text()))
    op.execute(sa.text("DELETE FROM exports WHERE target = ANY(:added)").bindparams(added))  # with their artifacts
    change_enum(op, "exports", "target", BEFORE)
