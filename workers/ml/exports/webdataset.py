"""Tar archives as the library webdataset reads them: the members of one name are a sample. https://github.com/webdataset/webdataset

An item is `name.<extension>`, with `name.json` and, if its label is a class, `name.cls`, the number of the class, and `name.txt`, its caption.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import orjson

from workers.ml.exports.items import KEY, ExportedItem, Items, Layout, layout_of
from workers.ml.exports.parquet import OWN_COMPRESSION, write_parquet
from workers.ml.exports.shards import Shards
from workers.ml.exports.source import ExportSpec, Rows, WrittenFile, written
from workers.ml.exports.texts import is_text

TAR: Final = "application/x-tar"
PARQUET: Final = "application/vnd.apache.parquet"
_BLOCK: Final = tarfile.BLOCKSIZE
_TEXT, _CAPTION = "text", "caption"
_OWN_TEXTS: Final = ("SIGNAL", "TEXT")
"""Modalities of which `.txt` is an item itself."""
LOADER: Final = '''\
"""Read the samples of a split, in order: `for sample in samples("train"): ...`. Needs nothing but Python.

With webdataset: `webdataset.WebDataset("train-{00000..00003}.tar").decode()`. The classes of `cls` are in classes.json.
"""

import json
import tarfile
from pathlib import Path

FOLDER = Path(__file__).parent


def samples(split="train"):
    """Yield {"__key__": name, extension: bytes}; `json` is an object and `cls` a number."""
    for path in sorted(FOLDER.glob(f"{split}-*.tar")):
        with tarfile.open(path) as archive:
            sample = {}
            for member in archive:
                folder, slash, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                key = folder + slash + stem
                if sample and sample["__key__"] != key:
                    yield sample
                    sample = {}
                content = archive.extractfile(member).read()
                decode = {"json": json.loads, "cls": int}.get(extension, bytes)
                sample |= {"__key__": key, extension: decode(content)}
            if sample:
                yield sample
'''


class TarShard:
    """Members with the same bytes each time: no owner, and no time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def add(self, name: str, size: int, blocks: Iterable[bytes]) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        self._file.write(info.tobuf(tarfile.PAX_FORMAT))
        for block in blocks:
            self._file.write(block)
        self._file.write(bytes(-size % _BLOCK))

    def close(self) -> None:
        self._file.write(bytes(2 * _BLOCK))
        self._file.write(bytes(-self._file.tell() % tarfile.RECORDSIZE))
        self._file.close()


def write_webdataset(spec: ExportSpec, rows: Rows, items: Items, folder: Path) -> list[WrittenFile]:
    """Raises BadInput: TOO_MANY_SPLITS, TOO_MANY_FILES."""
    layout, limit = layout_of(spec, rows), spec["options"]["shardBytes"]
    items.check_shards(layout.splits, limit)
    fields = _fields(spec, rows, layout)
    has_captions = _CAPTION in rows.types and spec.get("modality", "") not in _OWN_TEXTS
    classes = {name: number for number, name in enumerate(layout.classes)}
    shards = Shards(folder, limit, TarShard)
    for item in items.with_rows(rows, layout):
        shard = shards.of(item.split, item.member.size)
        shard.add(f"{item.name}.{item.extension}", item.member.size, items.blocks(item))
        _add(shard, f"{item.name}.json", orjson.dumps(_document(item, fields, layout), default=str))
        label = None if layout.label is None else item.row[layout.label]
        if label is not None:
            _add(shard, f"{item.name}.cls", str(classes[label]).encode())
        if has_captions and (caption := item.row[_CAPTION]) is not None:
            _add(shard, f"{item.name}.txt", caption.encode())
    files = [written(shard.path, f"{shard.name}.tar", TAR, None) for shard in shards.finish()]
    description, loader = folder / "classes.json", folder / "load.py"
    description.write_text(
        json.dumps({"target": layout.label, "classes": layout.classes}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    loader.write_text(LOADER, encoding="utf-8")
    table = write_parquet(rows, folder / "items.parquet", {"compression": OWN_COMPRESSION})
    return [
        *files,
        written(table, "items.parquet", PARQUET, rows.count),
        written(description, description.name, "application/json", None),
        written(loader, loader.name, "text/x-python; charset=utf-8", None),
    ]


def _fields(spec: ExportSpec, rows: Rows, layout: Layout) -> list[str]:
    """The columns that each sample has: those that were chosen, or what the items are filed under. The others are in the table beside."""
    if spec["options"].get("columns"):
        return [name for name in rows.types if name != layout.splits.column]
    schema = rows.schema
    texts = [name for name in rows.types if is_text(schema[name]) and name not in (KEY, _TEXT, _CAPTION, layout.splits.column)]
    return list(dict.fromkeys([*([layout.target] if layout.target is not None else []), *texts]))


def _document(item: ExportedItem, fields: list[str], layout: Layout) -> dict[str, Any]:
    """What the item is called and filed under, and its metadata; without what is missing."""
    split = {} if layout.splits.column is None else {layout.splits.column: item.split}
    filed = {name: value for name in fields if (value := item.row[name]) is not None}
    return {**item.metadata, **filed, **split, KEY: item.key}


def _add(shard: TarShard, name: str, content: bytes) -> None:
    shard.add(name, len(content), [content])
