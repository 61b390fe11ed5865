"""How other commands find the servers of a running `trellis up`."""

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
    """Let commands of the same user find these servers for the length of the block."""
    path = data_dir / ENVIRONMENT_FILE
    write_private(path, json.dumps(dict(environment), indent=2) + "\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def load_environment(data_dir: Path) -> None:
    """Put the settings of a `trellis up` that runs on `data_dir` into our environment, where it has none of its own."""
    path = data_dir / ENVIRONMENT_FILE
    if not path.exists() or not is_locked(data_dir):  # the file of a start that was killed names servers that are gone
        return
    for name, value in json.loads(path.read_text()).items():
        os.environ.setdefault(name, value)
