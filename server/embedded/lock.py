"""The lock that limits a data folder to one running instance."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


class AlreadyRunning(Exception):
    """Another process holds the data folder's lock. The message names it."""


def is_locked(data_dir: Path) -> bool:
    """Whether a process holds this folder's lock now."""
    try:
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


@contextmanager
def folder_lock(data_dir: Path, note: str) -> Generator[None]:
    """Lock `data_dir` until the block ends; `note` is shown to processes that try later. Raises `AlreadyRunning`.

    The kernel releases the lock when the holder ends in any way, so a leftover lock file does no harm.
    """
    # os.open: the lock lives as long as this descriptor, and opening must not truncate what the holder wrote.
    descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip() or "a process that has just started"
            raise AlreadyRunning(
                f"Trellis already runs on {data_dir}: {holder}. Use that one, stop it first, or choose another folder with --data-dir."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}{f', {note}' if note else ''}\n".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
