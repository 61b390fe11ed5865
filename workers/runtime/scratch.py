"""Scratch folders of attempts. A starting worker removes those of killed workers."""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Self

PREFIX = "trellis-worker-"


class Scratch:
    """A worker's folder, locked for the life of the process: an unlocked one is abandoned."""

    def __init__(self, root: Path, lock: IO[str]) -> None:
        self._root = root
        self._lock = lock

    @classmethod
    @contextmanager
    def open(cls, parent: Path | None) -> Generator[Self]:
        """Create the folder under `parent`, or in the system's temporary folder."""
        base = Path(tempfile.gettempdir()) if parent is None else parent
        base.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(base)
        root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base.resolve()))
        with (root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield cls(root, lock)
            finally:
                shutil.rmtree(root, ignore_errors=True)

    @asynccontextmanager
    async def folder(self) -> AsyncGenerator[Path]:
        """A folder for one attempt, removed afterwards together with its log file (see `log_path`).

        Removed in a thread: deleting a million files takes a while and must not delay heartbeats.
        """
        self._root.mkdir(mode=0o700, exist_ok=True)  # the system may clean its temporary folder while we run
        path = Path(tempfile.mkdtemp(dir=self._root))
        try:
            yield path
        finally:
            await asyncio.to_thread(_remove, path)


def log_path(folder: Path) -> Path:
    """The path of an attempt's log file, beside its folder, because the folder belongs to the body."""
    return folder.with_name(f"{folder.name}.log")


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    log_path(folder).unlink(missing_ok=True)


def _remove_abandoned(base: Path) -> None:
    for root in base.glob(PREFIX + "*"):
        try:
            with (root / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(root, ignore_errors=True)
        except OSError:  # locked by a live worker, another user's, or being created
            continue
