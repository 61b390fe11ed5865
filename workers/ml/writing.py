"""Parquet written beside the parser, in row groups of bounded size."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from workers.ml import limits

TYPES_KEY: Final = b"trellis.types"
"""Key of the file's metadata that holds ColumnType by name, for what Parquet's own types do not tell."""

_DICTIONARY_BYTES: Final = 65_536
# A column of many different values gives up its dictionary early: with the default of 1 MiB writing took 2.5 times as long
# and the file was larger.


class ParquetSink:
    """Takes frames, writes row groups of about 64 MiB in its own thread; `close` has to be called for the file to be whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.row_count = 0
        self._pending: list[pl.DataFrame] = []
        self._pending_bytes = 0
        self._pending_rows = 0
        self._queue: queue.Queue[pl.DataFrame | None] = queue.Queue(maxsize=1)
        self._error: BaseException | None = None
        self._is_closed = False
        self._types: dict[str, str] = {}
        self._thread = threading.Thread(target=self._work, name="parquet", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._queue.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def write(self, frame: pl.DataFrame) -> None:
        """A frame may be held until more have come; raises what the writing thread met."""
        self._pending.append(frame)
        self._pending_rows += frame.height
        self._pending_bytes += int(frame.estimated_size())
        self.row_count += frame.height
        if self._pending_rows >= limits.GROUP_ROWS or self._pending_bytes >= limits.GROUP_BYTES:
            self._flush()

    def close(self, types: dict[str, str]) -> None:
        """`types` become part of the file."""
        if self._is_closed:
            return
        self._is_closed = True
        self._types = types
        if self._pending:
            self._flush()
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _flush(self) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put(pl.concat(self._pending) if len(self._pending) > 1 else self._pending[0])
        self._pending = []
        self._pending_rows = self._pending_bytes = 0

    def _work(self) -> None:
        writer: pq.ParquetWriter | None = None
        try:
            while (frame := self._queue.get()) is not None:
                table = arrow_table(frame)
                if writer is None:
                    writer = pq.ParquetWriter(
                        self.path,
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


def arrow_table(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def written_types(path: Path) -> dict[str, str]:
    """ColumnType by name as `ParquetSink` left them in the file; empty for a file of another make."""
    metadata = pq.read_metadata(path).metadata or {}
    return orjson.loads(metadata.get(TYPES_KEY, b"{}"))
