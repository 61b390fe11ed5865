"""Writing the next revision of the schema, for those who change it: against a PostgreSQL of its own that lives for seconds."""

from __future__ import annotations

import tempfile
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory

from db.migrations import configuration, upgrade
from server.embedded import embedded_servers


def make_migration(name: str) -> Path:
    """A new file in `db/migrations/versions` with what tables and history differ by. It needs reading: CHECKs, triggers and functions are not seen."""
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
