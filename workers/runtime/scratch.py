"""The folders of attempts. What a killed worker left behind is removed by the next one that starts."""

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
    """A worker's folder, locked for as long as the process lives: an unlocked one belongs to nobody."""

    def __init__(self, root: Path, lock: IO[str]) -> None:
        self._root = root
        self._lock = lock

    @classmethod
    @contextmanager
    def open(cls, parent: Path | None) -> Generator[Self]:
        """Make the folder under `parent`, or where the system keeps temporary files."""
        base = Path(tempfile.gettempdir()) if parent is None else parent
        base.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(base)
        root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        with (root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield cls(root, lock)
            finally:
                shutil.rmtree(root, ignore_errors=True)

    @asynccontextmanager
    async def folder(self) -> AsyncGenerator[Path]:
        """A folder for one attempt, removed with all that is in it, and with the file beside it that is named as it is and `.log`.

        Removing a million files takes a while, in which the worker has leases to keep.
        """
        self._root.mkdir(mode=0o700, exist_ok=True)  # systems sweep their temporary folders, under living programs too
        path = Path(tempfile.mkdtemp(dir=self._root))
        try:
            yield path
        finally:
            await asyncio.to_thread(_remove, path)


def log_path(folder: Path) -> Path:
    """Where the log of an attempt lies: not in its folder, which belongs to the body."""
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
        except OSError:  # held by a living worker, another user's, or just being made
            continue
