"""What accounts have is found by words. Triggers keep the entries of the search; those of existing rows are made here."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum
from db.migrations.functions import drop_function, install_function

revision = "0052"
down_revision = "0051"
branch_labels = None
depends_on = None

LANGUAGES = ("english", "german", "french", "spanish")
WORDS = "asciiword, asciihword, hword_asciipart, word, hword, hword_part, numword, numhword, hword_numpart"
# Each function after those that it calls.
FUNCTIONS = (
    "trellis_searchable",
    "trellis_split_words",
    "trellis_search_words",
    "trellis_search_vector",
    "trellis_search_query",
    "trellis_refresh_search_entries",
    "trellis_keep_search_entry",
    "trellis_keep_search_entry_of_dataset",
    "trellis_keep_search_entries_of_runs",
)
# By table: the type of its rows, and the columns that their entries are made of.
KEPT = {
    "datasets": ("dataset", "name, description"),
    "pipelines": ("pipeline", "name, description"),
    "experiments": ("experiment", "name, description, notes"),
    "models": ("model", "name, description"),
}
RUN_TEXTS = "({row}.name <> '' OR {row}.notes <> '')"


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS unaccent")
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gin")
    # Words that only join others are dropped by their spelling, accents included; then accents are, since a query may be typed without them. In which language a
    # text is nobody knows, so in each of them the words of all are dropped: else "the" would be a word of every English text in German.
    for language in LANGUAGES:
        op.execute(f"CREATE TEXT SEARCH DICTIONARY trellis_{language}_stop (TEMPLATE = simple, STOPWORDS = {language}, ACCEPT = false)")
    stops = ", ".join(f"trellis_{language}_stop" for language in LANGUAGES)
    _configure("words", "unaccent, simple")
    _configure("content", f"{stops}, unaccent, simple")
    for language in LANGUAGES:
        _configure(language, f"{stops}, unaccent, {language}_stem")

    op.create_table(
        "search_entries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("title", "body", "words")),
        sa.Column("vector", postgresql.TSVECTOR(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_search_entries_owner_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_entries")),
    )
    change_enum(op, "search_entries", "type", ("dataset", "pipeline", "experiment", "run", "model"))
    for name in FUNCTIONS:
        install_function(op, name, revision)
    op.execute("""
        INSERT INTO search_entries (type, id, owner_id, title, body, words, vector)
        SELECT type, id, owner_id, title, body, trellis_search_words(title), trellis_search_vector(title, body) FROM trellis_searchable()
    """)
    op.create_index("ix_search_entries_owner_id_id", "search_entries", ["owner_id", sa.text("id DESC")])
    op.execute("""
        CREATE INDEX ix_search_entries_texts ON search_entries USING gin (owner_id, vector, words gin_trgm_ops) WITH (gin_pending_list_limit = 512)
    """)
    for table, (type_, columns) in KEPT.items():
        _trigger(table, "search", f"INSERT OR DELETE OR UPDATE OF {columns}, owner_id, deleted_at", f"trellis_keep_search_entry('{type_}')")
    keep_run = "trellis_keep_search_entry('run')"
    _trigger("runs", "search_new", "INSERT", keep_run, when=RUN_TEXTS.format(row="NEW"))
    _trigger("runs", "search", "UPDATE OF name, notes, experiment_id, owner_id", keep_run)
    _trigger("runs", "search_old", "DELETE", keep_run, when=RUN_TEXTS.format(row="OLD"))
    is_deleted_or_restored = "(OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)"
    _trigger("experiments", "search_runs", "UPDATE OF deleted_at", "trellis_keep_search_entries_of_runs()", when=is_deleted_or_restored)
    keep_dataset = "trellis_keep_search_entry_of_dataset()"
    _trigger("dataset_versions", "search", "INSERT OR UPDATE OF status, columns", keep_dataset, when="NEW.status = 'ready'")
    _trigger("dataset_versions", "search_old", "DELETE", keep_dataset, when="OLD.status = 'ready'")


def _configure(name: str, dictionaries: str) -> None:
    op.execute(f"CREATE TEXT SEARCH CONFIGURATION trellis_{name} (COPY = simple)")
    op.execute(f"ALTER TEXT SEARCH CONFIGURATION trellis_{name} ALTER MAPPING FOR {WORDS} WITH {dictionaries}")


def _trigger(table: str, name: str, events: str, function: str, *, when: str | None = None) -> None:
    condition = "" if when is None else f"WHEN ({when})"
    op.execute(f"CREATE TRIGGER {name} AFTER {events} ON {table} FOR EACH ROW {condition} EXECUTE FUNCTION {function}")


def downgrade() -> None:
    for table in KEPT:
        op.execute(f"DROP TRIGGER search ON {table}")
    for name in ("search_new", "search", "search_old"):
        op.execute(f"DROP TRIGGER {name} ON runs")
    op.execute("DROP TRIGGER search_runs ON experiments")
    for name in ("search", "search_old"):
        op.execute(f"DROP TRIGGER {name} ON dataset_versions")
    op.drop_table("search_entries")
    for name in reversed(FUNCTIONS):
        drop_function(op, name)
    for configuration in ("content", "words", *LANGUAGES):
        op.execute(f"DROP TEXT SEARCH CONFIGURATION trellis_{configuration}")
    for language in LANGUAGES:
        op.execute(f"DROP TEXT SEARCH DICTIONARY trellis_{language}_stop")
    op.execute("DROP EXTENSION btree_gin")
    op.execute("DROP EXTENSION unaccent")
