"""What was deleted and can be restored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum

revision = "0070"
down_revision = "0069"
branch_labels = None
depends_on = None

# What was deleted by itself before: datasets and studies. What an account took along has its time.
_DELETED = """
INSERT INTO deletions (id, owner_id, kind, name, created_at, restorable_until)
SELECT t.id, t.owner_id, '{kind}', t.name, t.deleted_at, now() + interval '30 days'
FROM {table} t JOIN users u ON u.id = t.owner_id
WHERE t.deleted_at IS NOT NULL AND u.purge_started_at IS NULL AND t.deleted_at IS DISTINCT FROM u.deleted_at
"""


def upgrade() -> None:
    op.create_table(
        "deletions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("restorable_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_deletions_size_not_negative")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_deletions_owner_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletions")),
    )
    change_enum(op, "deletions", "kind", ("dataset", "pipeline", "model", "experiment", "study"))
    newest_first = [sa.text("created_at DESC"), sa.text("id DESC")]
    op.create_index("ix_deletions_owner_id_created_at", "deletions", ["owner_id", *newest_first])
    op.create_index("ix_deletions_created_at", "deletions", newest_first)
    op.create_index("ix_deletions_restorable_until", "deletions", ["restorable_until", "id"])
    for table, kind in (("datasets", "dataset"), ("studies", "study")):
        op.execute(_DELETED.format(table=table, kind=kind))


def downgrade() -> None:
    op.drop_table("deletions")
