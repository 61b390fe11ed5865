"""`trellis revision`: autogenerate the next migration against a temporary embedded PostgreSQL."""

from __future__ import annotations

import tempfile
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory

from db.migrations import configuration, upgrade
from server.embedded import embedded_servers


def make_migration(name: str) -> Path:
    """Write a file in `db/migrations/versions` with the differences. Review it: autogenerate sees no CHECKs, triggers or functions."""
    with (
        tempfile.TemporaryDirectory(prefix="trellis-revision-", ignore_cleanup_errors=True) as folder,
        embedded_servers(Path(folder), valkey=False, s3=False, durable=False) as environment,
    ):
        url = environment["TRELLIS_DATABASE_URL"]
        upgrade(url)
        config = configuration(url)
        revision_number = sum(1 for _ in ScriptDirectory.from_config(config).walk_revisions()) + 1
        revision = command.revision(config, message=name, autogenerate=True, rev_id=f"{revision_number:04}")
    assert revision is not None
    assert not isinstance(revision, list)
    return Path(revision.path)
