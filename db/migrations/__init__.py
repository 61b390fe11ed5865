"""The schema's history. `upgrade` is safe to call from several processes at once: an advisory lock lets one work and the others wait."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config


def configuration(database_url: str) -> Config:
    """Alembic's configuration for one database; there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the database up to `revision`. Blocking; to be called outside an event loop."""
    command.upgrade(configuration(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Take the database back to `revision`; what later revisions held is lost."""
    command.downgrade(configuration(database_url), revision)
