"""Parquet written beside the parser, in row groups of bounded size, and in parts where some of it is kept for another attempt."""

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
"""Key of the file's metadata that holds ColumnType by name, for what Parquet's own types do not tell."""
RESUME_STATE_KEY: Final = b"trellis.note"
"""Key of a part's metadata that holds what was noted when it was cut."""

_DICTIONARY_BYTES: Final = 65_536
# A column of many different values gives up its dictionary early: with the default of 1 MiB writing took 2.5 times as long
# and the file was larger.


@dataclass(frozen=True, slots=True)
class _PartEnd:
    """The part ends here, with this note; `done` is told when it is whole."""

    path: Path
    resume_state: bytes
    on_written: Callable[[Path], None]


class ParquetSink:
    """Takes frames, writes row groups of about 64 MiB in its own thread; `close` has to be called for the file to be whole.

    A table that was never cut is one file from the beginning. One that was is several parts, whose row groups are those that it
    would have without cuts: joined, the file is the same byte for byte.
    """

    def __init__(self, path: Path, parts: Sequence[Path] = (), row_count: int = 0) -> None:
        """`left` are parts cut by an earlier sink, with so many rows, to which more come."""
        self.path = path
        self.row_count = row_count
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
        """Whether all that came is in whole row groups now, and a part may be cut. Raises what the writing thread met.

        After a frame of other types than the first nothing more is written: a column without values had to be written as
        something, and its first value says otherwise. Then the file will be read again.
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
        if self._pending_rows >= limits.ROW_GROUP_ROWS or self._pending_bytes >= limits.ROW_GROUP_BYTES:
            self._flush()
            return True
        return False

    def end_part(self, resume_state: bytes, on_written: Callable[[Path], None]) -> None:
        """After a `write` that gave True: what was written so far becomes a part. `done` is called by the writing thread."""
        if self._error is not None:
            raise self._error
        self._queue.put(_PartEnd(self._next_part(), resume_state, on_written))
        self._parts.append(self._next_part())
        self._part_rows = 0

    def close(self, types: dict[str, str]) -> None:
        """`types` become part of the file."""
        if self._is_closed:
            return
        if self._is_discarding:
            raise RuntimeError("the types of a column changed while the file was read, and it is not read again")
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
                    assert writer is not None  # a cut follows a row group
                    writer.add_key_value_metadata({RESUME_STATE_KEY: item.resume_state})
                    writer.close()
                    writer = None
                    item.on_written(item.path)
                    continue
                path, frame = item
                table = arrow_table(frame)
                if writer is None:
                    path.unlink(missing_ok=True)  # of an earlier pass, and perhaps just being stored under another name
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
        except BaseException as error:  # noqa: BLE001 - carried to the thread that writes, which raises it
            self._error = error
            while self._queue.get() is not None:
                pass
        finally:
            if writer is not None:
                writer.close()


def part_path(folder: Path, number: int) -> Path:
    """Of a table's part, numbered from 1."""
    return folder / f"part-{number:04}.parquet"


def part_resume_state(path: Path) -> bytes:
    """What was noted when the part was cut."""
    return (pq.read_metadata(path).metadata or {})[RESUME_STATE_KEY]


def arrow_table(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def stored_types(path: Path) -> dict[str, str]:
    """ColumnType by name as `ParquetSink` left them in the file; empty for a file of another make."""
    metadata = pq.read_metadata(path).metadata or {}
    return orjson.loads(metadata.get(TYPES_KEY, b"{}"))
