"""Folders that are lent to bodies, and the files that these wrote there.

A body may have been taken over by a file that it parsed, so nothing that it names, and nothing in its folder, is what it claims to be.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from db.services.jobs import Failure
from workers.runtime.failures import BodyFailed


@contextmanager
def lent(folder: Path, home: Path | None) -> Generator[None]:
    """Move the folder into the `home` of a process during the block, with a link in its place: a process that runs several bodies reaches its home
    alone, so each folder while it is lent. Raises `BodyFailed` if what comes back is no folder."""
    if home is None:
        yield
        return
    inside = home / folder.name
    folder.rename(inside)
    try:
        folder.symlink_to(inside, target_is_directory=True)
    except OSError:  # no disk space
        inside.rename(folder)
        raise
    try:
        yield
    finally:
        folder.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            inside.rename(folder)
        if not stat.S_ISDIR(_mode(folder)):
            with suppress(FileNotFoundError):
                folder.unlink()
            folder.mkdir()
            raise _not_its_file(folder.name)


def open_file(folder: Path, path: Path) -> BinaryIO:
    """Open a file for reading that lies in `folder`, wherever links lead. Raises `BodyFailed`, or `OSError` if it cannot be read."""
    found = os.open(path, getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC)  # opens no device and waits for no pipe
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode) or not _lies_in(folder, found, path):
            raise _not_its_file(path.name)
        return Path(f"/proc/self/fd/{found}" if hasattr(os, "O_PATH") else path).open("rb")
    finally:
        os.close(found)


def remove_file(folder: Path, path: Path) -> None:
    """Remove a file if it lies in `folder`."""
    with suppress(OSError):
        parent = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            if _lies_in(folder, parent, path.parent):
                os.unlink(path.name, dir_fd=parent)
        finally:
            os.close(parent)


def _lies_in(folder: Path, descriptor: int, path: Path) -> bool:
    """Whether what is open lies in the folder, which may be lent; asked of the kernel, since a path may lead elsewhere a moment after it was followed."""
    scratch = folder.parent.resolve()
    try:
        opened = Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:  # not Linux
        opened = path.resolve()
    return opened.is_relative_to(scratch) and folder.name in opened.relative_to(scratch).parts[:2]


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def _not_its_file(name: str) -> BodyFailed:
    return BodyFailed(Failure("BODY_FAILED", f"The job's process named {name!r} as a file of its own, which it is not.", retryable=False))
