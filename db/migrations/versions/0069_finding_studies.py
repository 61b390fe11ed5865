"""Studies are found by words and by tags, and models by what is said of their versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum
from db.migrations.functions import drop_function, install_function

revision = "0069"
down_revision = "0068"
branch_labels = None
depends_on = None

TYPES = ("dataset", "pipeline", "experiment", "run", "model")
THINGS = ("dataset_id", "pipeline_id", "model_id", "experiment_id", "run_id")
REFRESH_MODELS = """
SELECT trellis_refresh_search_entries('model', ARRAY(SELECT DISTINCT model_id FROM model_versions WHERE label <> '' OR description <> ''))
"""
TEXTS = "({row}.label <> '' OR {row}.description <> '')"


def upgrade() -> None:
    _allow((*TYPES, "study"))
    op.add_column("taggings", sa.Column("study_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_taggings_study_id"), "taggings", "studies", ["study_id"], ["id"], ondelete="CASCADE")
    op.create_unique_constraint(op.f("uq_taggings_study_id_tag_id"), "taggings", ["study_id", "tag_id"])
    _require_one_thing((*THINGS, "study_id"))
    _trigger(
        "studies",
        "mark_taggings",
        "UPDATE OF deleted_at",
        "trellis_mark_taggings('study_id')",
        when="(OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)",
    )

    install_function(op, "trellis_searchable", revision)
    install_function(op, "trellis_keep_search_entry_of_model", revision)
    _trigger("studies", "search", "INSERT OR DELETE OR UPDATE OF name, owner_id, deleted_at", "trellis_keep_search_entry('study')")
    keep_model = "trellis_keep_search_entry_of_model()"
    _trigger("model_versions", "search_new", "INSERT", keep_model, when=TEXTS.format(row="NEW"))
    _trigger("model_versions", "search", "UPDATE OF label, description, model_id", keep_model)
    _trigger("model_versions", "search_old", "DELETE", keep_model, when=TEXTS.format(row="OLD"))
    op.execute("""
        INSERT INTO search_entries (type, id, owner_id, title, body, words, vector)
        SELECT type, id, owner_id, title, body, trellis_search_words(title), trellis_search_vector(title, body)
        FROM trellis_searchable() WHERE type = 'study'
    """)
    op.execute(REFRESH_MODELS)


def downgrade() -> None:
    for name in ("search_new", "search", "search_old"):
        op.execute(f"DROP TRIGGER {name} ON model_versions")
    for name in ("search", "mark_taggings"):
        op.execute(f"DROP TRIGGER {name} ON studies")
    drop_function(op, "trellis_keep_search_entry_of_model")
    install_function(op, "trellis_searchable", "0052")
    op.execute(REFRESH_MODELS)
    op.execute("DELETE FROM search_entries WHERE type = 'study'")
    op.execute("DELETE FROM saved_searches WHERE target = 'study'")
    _allow(TYPES)
    op.execute("DELETE FROM taggings WHERE study_id IS NOT NULL")
    op.drop_constraint(op.f("ck_taggings_is_on_one_thing"), "taggings")
    op.drop_column("taggings", "study_id")
    _require_one_thing(THINGS)


def _allow(types: tuple[str, ...]) -> None:
    change_enum(op, "search_entries", "type", types)
    change_enum(op, "saved_searches", "target", types)


def _require_one_thing(columns: tuple[str, ...]) -> None:
    op.drop_constraint(op.f("ck_taggings_is_on_one_thing"), "taggings", if_exists=True)
    op.create_check_constraint(op.f("ck_taggings_is_on_one_thing"), "taggings", f"num_nonnulls({', '.join(columns)}) = 1")


def _trigger(table: str, name: str, events: str, function: str, *, when: str | None = None) -> None:
    condition = "" if when is None else f"WHEN ({when})"
    op.execute(f"CREATE TRIGGER {name} AFTER {events} ON {table} FOR EACH ROW {condition} EXECUTE FUNCTION {function}")
