"""Jobs say which extras their workers must have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0055"
down_revision = "0054"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("extras", postgresql.ARRAY(sa.Text()), nullable=True))
    op.create_check_constraint(op.f("ck_jobs_extras_are_some_or_null"), "jobs", "cardinality(extras) > 0")


def downgrade() -> None:
    op.drop_column("jobs", "extras")
