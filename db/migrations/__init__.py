"""Migrations with Alembic. Several processes may call `upgrade` at once: an advisory lock serializes them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config

HERE = Path(__file__).parent


@cache
def latest_revision() -> str:
    """Return the revision that this release needs. Revisions are numbers of four digits, so that a later one compares greater."""
    return max(path.name[:4] for path in (HERE / "versions").glob("[0-9]*.py"))


def configuration(database_url: str) -> Config:
    """Return Alembic's configuration for one database; there is no ini file."""
    from alembic.config import Config  # the API, which migrates nothing, does not load Alembic

    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Upgrade the database to `revision`. Blocking; to be called outside an event loop."""
    from alembic import command

    command.upgrade(configuration(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Downgrade the database to `revision`; data of later revisions is lost."""
    from alembic import command

    command.downgrade(configuration(database_url), revision)
