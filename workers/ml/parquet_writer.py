"""Parquet writing in a thread beside the parser: row groups of bounded size, and separate part files if the table is checkpointed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from workers.ml import limits
from workers.ml.parquet_concat import concatenate

TYPES_KEY: Final = b"trellis.types"
"""Metadata key of the ColumnType by column name, for types that Parquet does not distinguish."""
RESUME_STATE_KEY: Final = b"trellis.note"
"""Metadata key of a part's resume state. The value is stored in existing checkpoints: do not change it."""

_DICTIONARY_BYTES: Final = 65_536
# A column of many distinct values abandons dictionary encoding early: with the default of 1 MiB writing took 2.5 times as long and
# the file was larger.


@dataclass(frozen=True, slots=True)
class _PartEnd:
    """Marks the end of a part in the queue; `on_written` is called once the file is complete."""

    path: Path
    resume_state: bytes
    on_written: Callable[[Path], None]


class ParquetSink:
    """Writes frames as row groups of about 64 MiB, or `group_bytes`, in its own thread. The file is complete only after `close`.

    A table without checkpoints is written as one file. One with checkpoints is written as several parts with the same row groups; their
    concatenation is byte for byte the same file.
    """

    def __init__(self, path: Path, parts: Sequence[Path] = (), row_count: int = 0, group_bytes: int = limits.ROW_GROUP_BYTES) -> None:
        """`parts` were written by the sink of an earlier attempt and hold the first `row_count` rows of the table."""
        self.path = path
        self.row_count = row_count
        self._group_bytes = group_bytes
        self._parts = list(parts)
        self._part_rows = 0
        self._schema: pl.Schema | None = None
        self._is_discarding = False
        self._pending: list[pl.DataFrame] = []
        self._pending_bytes = 0
        self._pending_rows = 0
        self._queue: queue.Queue[tuple[Path, pl.DataFrame] | _PartEnd | None] = queue.Queue(maxsize=1)
        self._error: BaseException | None = None
        self._is_closed = False
        self._types: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="parquet", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._queue.put(None)
        self._thread.join()
        for part in self._all_parts():
            part.unlink(missing_ok=True)
        if kind is None and self._error is not None:
            raise self._error

    def write(self, frame: pl.DataFrame) -> bool:
        """Add a frame. Return whether all rows so far are in complete row groups, so that a part may end. Re-raises the writer thread's error.

        After a frame with other types than the first, frames are only counted: a column without values so far was written as text, and its
        first value has another type. The file is then read again.
        """
        if self._schema is None:
            self._schema = frame.schema
        elif frame.schema != self._schema:
            self._is_discarding = True
        if self._is_discarding:
            self._pending = []
            self.row_count += frame.height
            return False
        self._pending.append(frame)
        self._pending_rows += frame.height
        self._pending_bytes += int(frame.estimated_size())
        self.row_count += frame.height
        if self._pending_rows >= limits.ROW_GROUP_ROWS or self._pending_bytes >= self._group_bytes:
            self._flush()
            return True
        return False

    def end_part(self, resume_state: bytes, on_written: Callable[[Path], None]) -> None:
        """End the current part; call it only after `write` returned True. `on_written` runs in the writer thread."""
        if self._error is not None:
            raise self._error
        self._queue.put(_PartEnd(self._next_part(), resume_state, on_written))
        self._parts.append(self._next_part())
        self._part_rows = 0

    def close(self, types: dict[str, str]) -> None:
        """Complete the file; `types` (ColumnType by column name) go into its metadata. Re-raises the writer thread's error."""
        if self._is_closed:
            return
        if self._is_discarding:
            raise RuntimeError("the type of a column changed during the last pass over the file")
        self._is_closed = True
        self._types = types
        if self._pending:
            self._flush()
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        parts = self._all_parts()
        if len(parts) == 1 and not self._parts:
            parts[0].rename(self.path)
        elif parts:
            concatenate(parts, self.path, {TYPES_KEY: orjson.dumps(types)})
            for part in parts:
                part.unlink()

    def _all_parts(self) -> list[Path]:
        return [*self._parts, self._next_part()] if self._part_rows else self._parts

    def _next_part(self) -> Path:
        return part_path(self.path.parent, len(self._parts) + 1)

    def _flush(self) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put((self._next_part(), pl.concat(self._pending) if len(self._pending) > 1 else self._pending[0]))
        self._part_rows += self._pending_rows
        self._pending = []
        self._pending_rows = self._pending_bytes = 0

    def _run(self) -> None:
        writer: pq.ParquetWriter | None = None
        try:
            while (item := self._queue.get()) is not None:
                if isinstance(item, _PartEnd):
                    assert writer is not None  # a part ends after a row group
                    writer.add_key_value_metadata({RESUME_STATE_KEY: item.resume_state})
                    writer.close()
                    writer = None
                    item.on_written(item.path)
                    continue
                path, frame = item
                table = arrow_table(frame)
                if writer is None:
                    path.unlink(missing_ok=True)  # left by an earlier pass; a hard link to it may still be uploading
                    writer = pq.ParquetWriter(
                        path,
                        table.schema,
                        compression="zstd",
                        compression_level=1,
                        dictionary_pagesize_limit=_DICTIONARY_BYTES,
                    )
                writer.write_table(table, row_group_size=max(1, table.num_rows))
            if writer is not None:
                writer.add_key_value_metadata({TYPES_KEY: orjson.dumps(self._types)})
        except BaseException as error:  # noqa: BLE001 - re-raised in the calling thread
            self._error = error
            while self._queue.get() is not None:
                pass
        finally:
            if writer is not None:
                writer.close()


def part_path(folder: Path, number: int) -> Path:
    """Path of a table's part; parts are numbered from 1."""
    return folder / f"part-{number:04}.parquet"


def part_resume_state(path: Path) -> bytes:
    """Return the resume state stored in a part's metadata."""
    return (pq.read_metadata(path).metadata or {})[RESUME_STATE_KEY]


def arrow_table(frame: pl.DataFrame) -> pa.Table:
    """Convert to Arrow types that older readers support (no string views)."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def stored_types(path: Path) -> dict[str, str]:
    """Return the ColumnType by column name that `ParquetSink` stored; empty for a file that it did not write."""
    metadata = pq.read_metadata(path).metadata or {}
    return orjson.loads(metadata.get(TYPES_KEY, b"{}"))
