"""ZIP archives that `datasets.load_dataset` reads as imagefolder, audiofolder or videofolder, and a card that names them and their features.

Each archive has a `metadata.parquet`, since its types are those of the columns: of CSV and JSON lines they are guessed for each archive, and those of two
archives may then differ. https://huggingface.co/docs/datasets/image_dataset
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import pyarrow as pa
import pyarrow.parquet as pq

from workers.ml.exports.archive import EPOCH, MODE
from workers.ml.exports.huggingface import feature_type, plain_type, write_card
from workers.ml.exports.items import ExportedItem, Items, Layout, layout_of
from workers.ml.exports.shards import Shards
from workers.ml.exports.source import ExportSpec, Rows, WrittenFile, written

ZIP: Final = "application/zip"
FILE_NAME: Final = "file_name"
METADATA: Final = "metadata.parquet"
_FEATURES: Final = {"IMAGE": "image", "AUDIO": "audio", "VIDEO": "video"}
_TASKS: Final = {"IMAGE": "image-classification", "AUDIO": "audio-classification", "VIDEO": "video-classification"}
RENAMED: Final = {"webm": "mkv"}  # extensions: WebM is Matroska, and the library knows the one name
_BATCH: Final = 1_000
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table and the name that it has in the metadata: some are the library's own."""

    source: str
    name: str
    type: pa.DataType


class ZipShard:
    """The items as they are, and their metadata."""

    def __init__(self, path: Path, columns: Sequence[_Column]) -> None:
        self._path, self._columns = path.with_name(f"{path.name}.{METADATA}"), columns
        self._schema = pa.schema([pa.field(FILE_NAME, pa.string()), *(pa.field(column.name, column.type) for column in columns)])
        self._archive = ZipFile(path, "w", ZIP_STORED, allowZip64=True)
        self._metadata = pq.ParquetWriter(self._path, self._schema, compression="zstd")
        self._pending: list[dict[str, Any]] = []

    def add(self, item: ExportedItem, blocks: Iterable[bytes]) -> None:
        name = f"{item.name}.{item.extension}"
        self._write(name, item.member.size, blocks)
        self._pending.append({FILE_NAME: name, **{column.name: item.row[column.source] for column in self._columns}})
        if len(self._pending) == _BATCH:
            self._flush()

    def _write(self, name: str, size: int, blocks: Iterable[bytes]) -> None:
        member = ZipInfo(name, EPOCH)
        member.external_attr, member.file_size = MODE, size
        with self._archive.open(member, "w", force_zip64=size >= 2**31) as target:
            for block in blocks:
                target.write(block)

    def _flush(self) -> None:
        self._metadata.write_table(pa.Table.from_pylist(self._pending, self._schema))
        self._pending = []

    def close(self) -> None:
        if self._pending:
            self._flush()
        self._metadata.close()
        with self._path.open("rb") as metadata:
            self._write(METADATA, self._path.stat().st_size, iter(lambda: metadata.read(_BLOCK), b""))
        self._path.unlink()
        self._archive.close()


def write_folder(spec: ExportSpec, rows: Rows, items: Items, folder: Path) -> list[WrittenFile]:
    """Raises BadInput: TOO_MANY_SPLITS, TOO_MANY_FILES."""
    layout, limit = layout_of(spec, rows), spec["options"]["shardBytes"]
    items.check_shards(layout.splits, limit)
    feature = _FEATURES[spec.get("modality", "")]
    columns = _columns(rows, layout, feature)
    shards = Shards(folder, limit, lambda path: ZipShard(path, columns))
    for item in items.with_rows(rows, layout):
        shards.of(item.split, item.member.size).add(item, items.blocks(item))
    files = [written(shard.path, f"{shard.name}.zip", ZIP, None, member=f"data/{shard.name}.zip") for shard in shards.finish()]
    names = {column.source: column.name for column in columns}
    task = _TASKS[spec.get("modality", "")] if layout.label is not None else None
    features = _features(feature, columns, layout)
    card = write_card(spec, rows, layout.splits, folder, target=layout.target, task=task, extension="zip", features=features, names=names)
    return [*files, card]


def _columns(rows: Rows, layout: Layout, feature: str) -> list[_Column]:
    """All but the split, which the archives are."""
    columns: list[_Column] = []
    taken = {FILE_NAME, feature, *rows.types}
    for name in rows.types:
        if name == layout.splits.column:
            continue
        # The library takes such columns for paths of files.
        is_reserved = name == feature or name.endswith((FILE_NAME, "file_names"))
        new_name = next(each for i in range(1, 99) if (each := f"{name}_{i}") not in taken) if is_reserved else name
        kind = pa.string() if name == layout.label else plain_type(rows.file.schema_arrow.field(name).type)
        columns.append(_Column(name, new_name, kind))
    return columns


def _features(feature: str, columns: Sequence[_Column], layout: Layout) -> list[tuple[str, Any]]:
    """The features in their order, each with its type as the card has it: a name, or the names of its classes."""
    return [
        (feature, feature),
        *((column.name, list(layout.classes) if column.source == layout.label else feature_type(column.type)) for column in columns),
    ]
