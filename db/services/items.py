"""The items of a version, written in the transaction that makes it READY."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import IO, Any
from uuid import UUID

import orjson

from db.core.work import Work
from db.tables import DatasetItem
from db.tables.items import FEATURES

BATCH = 2_000
_DOCUMENTS = ("metadata", "info", "features", "issues")
_VALUES = (
    "key", "label", "split", "severity", "size_bytes", "sha256", "content_type", "byte_offset", "stored_size", "storage", "in_pack",
    "preview_offset", "preview_size", "preview_sha256",
)  # fmt: skip
_COLUMNS = ("version_id", *_VALUES, *_DOCUMENTS, "has_issues", *FEATURES)


async def add(work: Work, version_id: UUID, lines: IO[bytes]) -> int:
    """COPY the items that an ingest wrote, a JSON document a line; return their number. No more than a batch is in memory."""
    count = 0
    await asyncio.to_thread(lines.seek, 0)  # a settle is tried again
    while rows := await asyncio.to_thread(_next_batch, lines, version_id):
        await work.copy(DatasetItem.__tablename__, _COLUMNS, rows)
        count += len(rows)
    return count


def _next_batch(lines: IO[bytes], version_id: UUID) -> Sequence[tuple[Any, ...]]:
    return [_record(orjson.loads(line), version_id) for line in islice(lines, BATCH)]


def _record(item: dict[str, Any], version_id: UUID) -> tuple[Any, ...]:
    features = item["features"]
    return (
        version_id,
        *(item[name] for name in _VALUES),
        *(None if item[name] is None else orjson.dumps(item[name]).decode() for name in _DOCUMENTS),
        bool(item["issues"]),
        *(features.get(name) for name in FEATURES),
    )
