"""Database functions, one file per version: `sql/<function>/<revision>.sql`.

A file is frozen once its revision is released; a change is a new file that a new revision installs. The newest file is the current one.
"""

from __future__ import annotations

from pathlib import Path

from alembic.operations import Operations

_FOLDER = Path(__file__).parent / "sql"


def function_sql(name: str, revision: str) -> str:
    """The text of a function as of `revision`."""
    return (_FOLDER / name / f"{revision}.sql").read_text()


def newest_functions() -> dict[str, str]:
    """The current text of every function, by name."""
    return {folder.name: max(folder.glob("*.sql")).read_text() for folder in sorted(_FOLDER.iterdir())}


def install_function(op: Operations, name: str, revision: str) -> None:
    """Create or replace the function with its text as of `revision`; a downgrade passes the previous revision."""
    op.execute(function_sql(name, revision))


def drop_function(op: Operations, name: str) -> None:
    """Drop a function; its triggers must be dropped before."""
    op.execute(f"DROP FUNCTION {name}")
