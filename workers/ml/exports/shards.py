"""Archives with some of the items of a part each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from workers.ml.exports.items import MAX_SHARD_ITEMS, too_many_shards
from workers.ml.exports.splits import MAX_SHARDS


class ShardFile(Protocol):
    def close(self) -> None: ...


Shard = TypeVar("Shard", bound=ShardFile)


@dataclass(frozen=True, slots=True)
class WrittenShard:
    """`name` is like train-00000, without an extension."""

    name: str
    split: str
    path: Path
    count: int


class Shards(Generic[Shard]):
    """One open archive a part. A full one, of `limit` bytes or `MAX_SHARD_ITEMS`, is closed before the next item."""

    def __init__(self, folder: Path, limit: int, open_shard: Callable[[Path], Shard]) -> None:
        self._folder, self._limit, self._open_shard = folder, limit, open_shard
        self._open: dict[str, tuple[Shard, list[int]]] = {}
        self._numbers: dict[str, int] = {}
        self._written: list[WrittenShard] = []

    def of(self, split: str, size: int) -> Shard:
        """The archive for the next item of the part, which has `size` bytes. Raises BadInput (TOO_MANY_FILES)."""
        current = self._open.get(split)
        if current is not None:
            shard, totals = current
            if totals[0] < MAX_SHARD_ITEMS and totals[1] + size <= self._limit:
                totals[0] += 1
                totals[1] += size
                return shard
            self._close(split)
        if len(self._written) + len(self._open) == MAX_SHARDS:
            raise too_many_shards(self._limit)
        number = self._numbers.get(split, 0)
        self._numbers[split] = number + 1
        shard = self._open_shard(self._path(split, number))
        self._open[split] = shard, [1, size]
        return shard

    def finish(self) -> Iterator[WrittenShard]:
        """Close all archives, and yield those of each part in their order."""
        for split in list(self._open):
            self._close(split)
        splits = list(self._numbers)
        yield from sorted(self._written, key=lambda shard: (splits.index(shard.split), shard.name))

    def _close(self, split: str) -> None:
        shard, (count, _) = self._open.pop(split)
        shard.close()
        path = self._path(split, self._numbers[split] - 1)
        self._written.append(WrittenShard(path.name, split, path, count))

    def _path(self, split: str, number: int) -> Path:
        return self._folder / f"{split}-{number:05}"
