"""The functions of the database, one file a version: `sql/<function>/<revision that wrote it>.sql`.

A file is frozen once its revision is released: a change is a new file, which a new revision installs. The newest file is what the database runs.
"""

from __future__ import annotations

from pathlib import Path

from alembic.operations import Operations

_FOLDER = Path(__file__).parent / "sql"


def function_sql(name: str, revision: str) -> str:
    """The text of a function as `revision` wrote it."""
    return (_FOLDER / name / f"{revision}.sql").read_text()


def newest_functions() -> dict[str, str]:
    """The text of every function as the head of the history has it, by name."""
    return {folder.name: max(folder.glob("*.sql")).read_text() for folder in sorted(_FOLDER.iterdir())}


def install_function(op: Operations, name: str, revision: str) -> None:
    """Create the function, or replace it, with the text that `revision` wrote; a downgrade names the revision before."""
    op.execute(function_sql(name, revision))


def drop_function(op: Operations, name: str) -> None:
    """Remove a function that the revision created; its triggers must be gone."""
    op.execute(f"DROP FUNCTION {name}")
