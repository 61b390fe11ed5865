"""Runs, versions of datasets and versions of models are deleted by themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum
from db.migrations.functions import install_function

revision = "0071"
down_revision = "0070"
branch_labels = None
depends_on = None

TABLES = ("dataset_versions", "model_versions", "runs")
KINDS = ("dataset", "pipeline", "model", "experiment", "study")
FUNCTIONS = {"trellis_searchable": "0069", "trellis_mark_taggings": "0053"}  # and the revisions that installed them before


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    change_enum(op, "deletions", "kind", (*KINDS, "dataset_version", "model_version", "run"))
    for name in FUNCTIONS:
        install_function(op, name, revision)
    _search(", deleted_at")
    op.execute(
        "CREATE TRIGGER mark_taggings AFTER UPDATE OF deleted_at ON runs FOR EACH ROW"
        " WHEN ((OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)) EXECUTE FUNCTION trellis_mark_taggings('run_id')"
    )


def _search(column: str) -> None:
    """Let the triggers of the search follow this column too."""
    for table in ("runs", "dataset_versions", "model_versions"):
        op.execute(f"DROP TRIGGER search ON {table}")
    op.execute(
        f"CREATE TRIGGER search AFTER UPDATE OF name, notes, experiment_id, owner_id{column} ON runs FOR EACH ROW"
        " EXECUTE FUNCTION trellis_keep_search_entry('run')"
    )
    op.execute(
        f"CREATE TRIGGER search AFTER INSERT OR UPDATE OF status, columns{column} ON dataset_versions FOR EACH ROW WHEN (NEW.status = 'ready')"
        " EXECUTE FUNCTION trellis_keep_search_entry_of_dataset()"
    )
    op.execute(
        f"CREATE TRIGGER search AFTER UPDATE OF label, description, model_id{column} ON model_versions FOR EACH ROW"
        " EXECUTE FUNCTION trellis_keep_search_entry_of_model()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER mark_taggings ON runs")
    _search("")
    for name, earlier in FUNCTIONS.items():
        install_function(op, name, earlier)
    op.execute(sa.text("DELETE FROM deletions WHERE kind IN ('dataset_version', 'model_version', 'run')"))
    change_enum(op, "deletions", "kind", KINDS)
    for table in TABLES:
        op.drop_column(table, "deleted_at")
