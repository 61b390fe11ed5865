"""Tags on datasets, pipelines, models, experiments and runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.functions import drop_function, install_function

revision = "0053"
down_revision = "0052"
branch_labels = None
depends_on = None

THINGS = {"dataset_id": "datasets", "pipeline_id": "pipelines", "model_id": "models", "experiment_id": "experiments", "run_id": "runs"}
DELETABLE = ("dataset_id", "pipeline_id", "model_id", "experiment_id")
COUNTED = {
    "count_inserted": "INSERT ON taggings REFERENCING NEW TABLE AS changed_rows",
    "count_removed": "DELETE ON taggings REFERENCING OLD TABLE AS changed_rows",
    "count_changed": "UPDATE ON taggings REFERENCING NEW TABLE AS changed_rows OLD TABLE AS old_rows",
}
FUNCTIONS = ("trellis_count_taggings", "trellis_mark_taggings")


def upgrade() -> None:
    op.create_table(
        "tags",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("color", sa.Text(), nullable=False),
        sa.Column("usage_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("color ~ '^#[0-9a-f]{6}$'", name=op.f("ck_tags_color_is_hexadecimal")),
        sa.CheckConstraint("usage_count >= 0", name=op.f("ck_tags_usage_count_not_negative")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_tags_owner_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tags")),
        sa.UniqueConstraint("owner_id", "slug", name=op.f("uq_tags_owner_id_slug")),
    )
    newest_first = [sa.text("created_at DESC"), sa.text("id DESC")]
    op.create_index("ix_tags_owner_id_created_at", "tags", ["owner_id", *newest_first])
    op.create_index("ix_tags_created_at", "tags", newest_first)
    op.create_index("uq_tags_owner_id_name", "tags", ["owner_id", sa.text("lower(name)")], unique=True)
    op.create_index("ix_tags_name", "tags", [sa.text("lower(name)"), "id"])
    op.execute("CREATE INDEX ix_tags_name_trigrams ON tags USING gin (lower(name) gin_trgm_ops)")
    op.create_index("ix_tags_owner_id_usage_count", "tags", ["owner_id", "usage_count", "id"])
    op.create_index("ix_tags_usage_count", "tags", ["usage_count", "id"])
    op.create_table(
        "taggings",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("tag_id", sa.Uuid(), nullable=False),
        *(sa.Column(column, sa.Uuid(), nullable=True) for column in THINGS),
        sa.Column("is_live", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("added_by_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(f"num_nonnulls({', '.join(THINGS)}) = 1", name=op.f("ck_taggings_is_on_one_thing")),
        sa.ForeignKeyConstraint(["tag_id"], ["tags.id"], name=op.f("fk_taggings_tag_id"), ondelete="CASCADE"),
        *(
            sa.ForeignKeyConstraint([column], [f"{table}.id"], name=op.f(f"fk_taggings_{column}"), ondelete="CASCADE")
            for column, table in THINGS.items()
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_taggings")),
        *(sa.UniqueConstraint(column, "tag_id", name=op.f(f"uq_taggings_{column}_tag_id")) for column in THINGS),
    )
    op.create_index(op.f("ix_taggings_tag_id"), "taggings", ["tag_id"])
    for name in FUNCTIONS:
        install_function(op, name, revision)
    for name, event in COUNTED.items():
        op.execute(f"CREATE TRIGGER {name} AFTER {event} FOR EACH STATEMENT EXECUTE FUNCTION trellis_count_taggings()")
    for column in DELETABLE:
        op.execute(
            f"CREATE TRIGGER mark_taggings AFTER UPDATE OF deleted_at ON {THINGS[column]} FOR EACH ROW"
            f" WHEN ((OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)) EXECUTE FUNCTION trellis_mark_taggings('{column}')"
        )


def downgrade() -> None:
    for column in DELETABLE:
        op.execute(f"DROP TRIGGER mark_taggings ON {THINGS[column]}")
    op.drop_table("taggings")
    op.drop_table("tags")
    for name in FUNCTIONS:
        drop_function(op, name)
