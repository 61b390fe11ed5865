"""The file by which other commands find the servers of a running `trellis up`."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from server.embedded.credentials import write_private
from server.embedded.lock import is_locked

ENVIRONMENT_FILE = "environment.json"


@contextmanager
def publish_environment(data_dir: Path, environment: Mapping[str, str]) -> Generator[None]:
    """Publish these servers' settings to commands of the same user until the block ends."""
    path = data_dir / ENVIRONMENT_FILE
    write_private(path, json.dumps(dict(environment), indent=2) + "\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def load_environment(data_dir: Path) -> None:
    """Set the environment variables of a `trellis up` running on `data_dir` that are not set yet."""
    path = data_dir / ENVIRONMENT_FILE
    if not path.exists() or not is_locked(data_dir):  # after a kill, the file names servers that are gone
        return
    for name, value in json.loads(path.read_text()).items():
        os.environ.setdefault(name, value)
