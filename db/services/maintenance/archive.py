"""Archives of months: a partition as one Parquet file in S3, written before it is dropped.

The rows come by COPY, a row of the table a row of the file, in the order of the primary key; columns have the table's names. Ids are text, as are JSON
documents; times are in UTC. What is in memory at once are a few MiB of rows.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import func, text
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.queries.retention import Partition
from db.services.maintenance.context import MaintenanceContext, MaintenanceTaskFailed
from db.services.maintenance.partitions import columns_of
from db.tables import DroppedPartition

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PREFIX = "archive/"
CONTENT_TYPE = "application/vnd.apache.parquet"
BLOCK_BYTES = 8 * 1024**2  # of rows as CSV that are parsed at once and become a row group


async def archive_month(context: MaintenanceContext, partition: Partition) -> int:
    """Write a partition to the store, unless that was done by a run that was interrupted later; return how many rows the archive has.

    The key names table and month, so an archive that was interrupted is written again as a whole, in the place of what is there. What was stored is
    read back: it counts only if it has the SHA-256 and the number of rows of what was written. Raises `Unavailable`, and `MaintenanceTaskFailed` if what
    is read back differs.
    """
    key, known = await _key(context.database, partition)
    if known is not None and known.archive_key == key:
        (row,) = await context.database.rows(text(f"SELECT count(*) AS rows FROM {partition.name}"))  # noqa: S608 - our own name
        info = await context.objects.head(key)
        if row.rows == known.archived_rows and info is not None and info.size == known.archive_bytes:
            return row.rows
    with tempfile.TemporaryDirectory(prefix="trellis-archive-") as folder:
        written, stored = Path(folder) / "written.parquet", Path(folder) / "stored.parquet"
        rows = await _write(context.database, partition, written)
        with written.open("rb") as file:
            size, sha256 = await context.objects.upload(file, key, CONTENT_TYPE)
        if await context.objects.download(key, stored) != (size, sha256) or await asyncio.to_thread(_count, stored) != rows:
            raise MaintenanceTaskFailed(
                f"The archive {key} is not what was written to it. {partition.name} was kept; the next run tries again."
            )
    await _record(context.database, partition, {"archive_key": key, "archive_bytes": size, "archive_sha256": sha256, "archived_rows": rows})
    log.info("partition_archived", partition=partition.name, key=key, rows=rows, size_bytes=size)
    return rows


async def _key(database: Database, partition: Partition) -> tuple[str, Any]:
    """Return the key of the next archive of the month, and the record of the last one. A month that is dropped again has a further file."""
    statement = text("SELECT drops, archive_key, archive_bytes, archived_rows FROM dropped_partitions WHERE name = :name")
    rows = await database.rows(statement, {"name": partition.name})
    drops = rows[0].drops if rows else 0
    suffix = f"-{drops + 1}" if drops else ""
    return f"{PREFIX}{partition.parent}/{partition.starts:%Y-%m}{suffix}.parquet", rows[0] if rows else None


async def _record(database: Database, partition: Partition, archive: Mapping[str, Any]) -> None:
    insertion = upsert(DroppedPartition).values(name=partition.name, table_name=partition.parent, **archive)
    async with database.work(SYSTEM) as work:
        await work.run(insertion.on_conflict_do_update(index_elements=["name"], set_={**archive, "created_at": func.now()}))


async def _write(database: Database, partition: Partition, path: Path) -> int:
    """Write the rows of a partition to a Parquet file; return how many."""
    columns = await columns_of(database, partition.parent)
    writer = await asyncio.to_thread(_Writer, path, columns)
    names = ", ".join(column.name for column in columns)
    order = await database.rows(
        text(
            "SELECT quote_ident(a.attname) AS name FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY k (number, position)"
            " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number"
            " WHERE i.indrelid = CAST(:name AS regclass) AND i.indisprimary ORDER BY k.position"
        ),
        {"name": partition.name},
    )
    query = f"SELECT {names} FROM {partition.name} ORDER BY {', '.join(column.name for column in order)}"  # noqa: S608 - our own names
    block = bytearray()

    async def collect(data: bytes) -> None:  # whole rows: COPY sends one a message
        block.extend(data)
        if len(block) >= BLOCK_BYTES:
            await flush()

    async def flush() -> None:
        if block:
            await asyncio.to_thread(writer.write, bytes(block))
            block.clear()

    try:
        async with database.work(SYSTEM) as work:
            for name in ("statement_timeout", "transaction_timeout"):  # a month may take minutes, and holds up nobody
                await work.run(text(f"SET LOCAL {name} = 0"))
            raw: Any = await work.connection.get_raw_connection()
            await raw.driver_connection.copy_from_query(query, output=collect, format="csv")
            await flush()
    finally:
        await asyncio.to_thread(writer.close)
    return writer.rows


class _Writer:
    """Writes blocks of CSV, as COPY makes it, to a Parquet file. Its methods run in a thread."""

    def __init__(self, path: Path, columns: Sequence[Any]) -> None:
        pa = _module("pyarrow")
        types: dict[str, Any] = {
            "smallint": pa.int16(),
            "integer": pa.int32(),
            "bigint": pa.int64(),
            "double precision": pa.float64(),
            "boolean": pa.bool_(),
            "timestamp with time zone": pa.timestamp("us", "UTC"),
        }
        self.rows = 0
        self._schema: Any = pa.schema([(column.name.strip('"'), types.get(column.type, pa.string())) for column in columns])
        self._csv = _module("pyarrow.csv")
        self._writer = _module("pyarrow.parquet").ParquetWriter(path, self._schema, compression="zstd")

    def write(self, block: bytes) -> None:
        options = {
            "read_options": self._csv.ReadOptions(column_names=self._schema.names, use_threads=False, block_size=len(block) + 1),
            "parse_options": self._csv.ParseOptions(newlines_in_values=True),
            "convert_options": self._csv.ConvertOptions(
                column_types=self._schema,
                null_values=[""],  # COPY quotes a text that is empty, and nothing else is null: NaN is a number
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        }
        table = self._csv.read_csv(io.BytesIO(block), **options)
        self._writer.write_table(table)
        self.rows += table.num_rows

    def close(self) -> None:
        self._writer.close()


def _count(path: Path) -> int:
    return _module("pyarrow.parquet").ParquetFile(path).metadata.num_rows


def _module(name: str) -> Any:
    """Import a module of a library that is heavy, and needed only by who archives. It has too few types."""
    return import_module(name)
