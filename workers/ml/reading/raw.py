"""The raw file, hashed while it is read."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

from workers.ml import limits


class RawFile:
    """The uploaded file's bytes. The first full pass computes the SHA-256 in a thread beside the parser."""

    def __init__(self, path: Path, sha256: str | None = None) -> None:
        """`sha256` if it is already known."""
        self.path = path
        self.size = path.stat().st_size
        self.position = 0
        self._sha256 = sha256

    def head(self, length: int) -> bytes:
        with self.path.open("rb") as file:
            return file.read(length)

    def tail(self, length: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(max(0, self.size - length))
            return file.read(length)

    def blocks(self, size: int | None = None, start: int = 0) -> Iterator[bytes]:
        """Yield blocks of the file from `start`. Only a full pass without a known SHA-256 is hashed."""
        self.position = start
        block_size = size or limits.BLOCK_BYTES
        hasher = None
        if self._sha256 is None and start == 0 and self.size <= block_size:
            self.sha256()  # at once: a thread costs more
        elif self._sha256 is None and start == 0:
            hasher = _Hasher()
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                while block := file.read(block_size):
                    if hasher is not None:
                        hasher.feed(block)
                    self.position += len(block)
                    yield block
            if hasher is not None:
                self._sha256 = hasher.finish()
        finally:
            if hasher is not None:
                hasher.finish()

    @property
    def share_read(self) -> float:
        """Share of the file read in the current pass, 0 to 1."""
        return self.position / self.size if self.size else 1.0

    def sha256(self) -> str:
        """Return the SHA-256 in hexadecimal; reads the file if no pass over `blocks` was completed."""
        if self._sha256 is None:
            with self.path.open("rb") as file:
                self._sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return self._sha256


class _Hasher:
    """SHA-256 in its own thread; hashlib releases the GIL."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._queue: queue.Queue[bytes | None] = queue.Queue(maxsize=2)
        self._thread = threading.Thread(target=self._work, name="sha256", daemon=True)
        self._thread.start()
        self._is_finished = False

    def _work(self) -> None:
        while (block := self._queue.get()) is not None:
            self._hash.update(block)

    def feed(self, block: bytes) -> None:
        self._queue.put(block)

    def finish(self) -> str:
        if not self._is_finished:
            self._is_finished = True
            self._queue.put(None)
            self._thread.join()
        return self._hash.hexdigest()
