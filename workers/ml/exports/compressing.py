"""Files that are compressed while they are written, to the same bytes each time."""

from __future__ import annotations

import gzip
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def compressed(path: Path, compression: str) -> Generator[IO[bytes]]:
    """Open a new file for binary writing; `compression` is none or gzip, without the name and time of the file in its header."""
    with path.open("wb") as file:
        if compression == "gzip":
            with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                yield packed  # pyright: ignore[reportReturnType] - it is a binary file
        else:
            yield file
