"""Users are listed and filtered from indexes, may have a quota of their own, and what they own is counted.

The triggers lock the counted tables against writes until the revision is committed, so the numbers that it begins with are exact.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.functions import drop_function, install_function

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

LIVE = " WHERE deleted_at IS NULL"
NEWEST = "created_at DESC, id DESC"
SEARCHED = ("email", "username", "full_name")
INDEXES = {
    "ix_users_created_at": f"users ({NEWEST}){LIVE}",
    "ix_users_role_created_at": f"users (role, {NEWEST}){LIVE}",
    "ix_users_tier_created_at": f"users (tier, {NEWEST}){LIVE}",
    "ix_users_disabled_created_at": f"users ({NEWEST}){LIVE} AND disabled_at IS NOT NULL",
    "ix_users_last_login_at": f"users (last_login_at, id){LIVE}",
    "ix_users_newest_login_at": f"users (last_login_at DESC NULLS LAST, id DESC){LIVE}",
    **{f"ix_users_{column}_trigrams": f"users USING gin (lower({column}) gin_trgm_ops){LIVE}" for column in SEARCHED},
}
COUNTED = {"datasets": True, "pipelines": True, "models": True, "experiments": True, "jobs": False}  # whether rows are marked as deleted
FUNCTIONS = ("trellis_add_to_counter", "trellis_count_owned")


def upgrade() -> None:
    op.add_column("users", sa.Column("storage_quota_bytes", sa.BigInteger(), nullable=True))
    op.create_check_constraint("storage_quota_not_negative", "users", "storage_quota_bytes >= 0")
    for name, definition in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON {definition}")
    for column in SEARCHED:  # the planner does not use the statistics of a partial index
        op.execute(f"CREATE STATISTICS st_users_lower_{column} ON (lower({column})) FROM users")
    op.execute("ANALYZE users")
    op.create_table(
        "user_counters",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_user_counters_owner_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_counters")),
    )
    op.create_index("ix_user_counters_owner_id_kind", "user_counters", ["owner_id", "kind"])
    for name in FUNCTIONS:
        install_function(op, name, revision)
    for table, deletable in COUNTED.items():
        argument = "'deletable'" if deletable else ""
        counted = f"EXECUTE FUNCTION trellis_count_owned({argument})"
        op.execute(
            f"CREATE TRIGGER count_inserted AFTER INSERT ON {table} REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT {counted}"
        )
        op.execute(
            f"CREATE TRIGGER count_removed AFTER DELETE ON {table} REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT {counted}"
        )
        columns = "owner_id, deleted_at" if deletable else "owner_id"
        is_counted_otherwise = "OLD.owner_id <> NEW.owner_id"
        if deletable:
            is_counted_otherwise += " OR (OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)"
        op.execute(
            f"CREATE TRIGGER count_changed AFTER UPDATE OF {columns} ON {table} FOR EACH ROW WHEN ({is_counted_otherwise}) {counted}"
        )
        live = LIVE if deletable else ""
        numbers = f"SELECT owner_id, '{table}', count(*) FROM {table}{live} GROUP BY owner_id"  # noqa: S608 - constants
        op.execute(f"INSERT INTO user_counters (owner_id, kind, value) {numbers}")


def downgrade() -> None:
    for table in COUNTED:
        for trigger in ("count_changed", "count_removed", "count_inserted"):
            op.execute(f"DROP TRIGGER {trigger} ON {table}")
    for name in reversed(FUNCTIONS):
        drop_function(op, name)
    op.drop_table("user_counters")
    for column in SEARCHED:
        op.execute(f"DROP STATISTICS st_users_lower_{column}")
    for name in INDEXES:
        op.execute(f"DROP INDEX {name}")
    op.drop_column("users", "storage_quota_bytes")
