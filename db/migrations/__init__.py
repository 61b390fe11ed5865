"""Migrations with Alembic. Several processes may call `upgrade` at once: an advisory lock serializes them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config

HERE = Path(__file__).parent
_REVISION = re.compile(r"^revision(?:: [^=]+)? = \"?(\w+)", re.MULTILINE)
_DOWN_REVISION = re.compile(r"^down_revision(?:: [^=]+)? = \"?(\w+)", re.MULTILINE)


@cache
def revisions() -> list[str]:
    """The revisions from the first to the one that this release needs. Read without Alembic, which the API does not load."""
    texts = [path.read_text() for path in (HERE / "versions").glob("[0-9]*.py")]
    following = {_DOWN_REVISION.findall(text)[0]: _REVISION.findall(text)[0] for text in texts}
    chain = [following["None"]]
    while chain[-1] in following:
        chain.append(following[chain[-1]])
    return chain


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
