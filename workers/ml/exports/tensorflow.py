"""TFRecord files of tf.train.Example, written by hand: the format is a few lines, the library hundreds of megabytes.

https://www.tensorflow.org/tutorials/load_data/tfrecord: each record is its length and data, each followed by a masked CRC-32C. Example and Feature are
protocol buffers: Int64List and FloatList are packed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import polars as pl

from workers.ml.exports.categories import Categories
from workers.ml.exports.numbers import NumberColumn, described, number_columns
from workers.ml.exports.source import ExportSpec, Rows, WrittenFile, written
from workers.ml.exports.splits import find_splits, write_shards
from workers.ml.exports.texts import as_text

_LISTS = {"bytes": 1, "float": 2, "int64": 3}  # the fields of Feature
LOADER = '''\
"""Load the rows of a split: `dataset = load("train")`, a tf.data.Dataset of dictionaries. Needs tensorflow."""

import json
from pathlib import Path

import tensorflow as tf

FOLDER = Path(__file__).parent
TYPES = {"int64": (tf.int64, 0), "float": (tf.float32, float("nan")), "bytes": (tf.string, b"")}


def load(split="train"):
    """A missing value is 0, NaN or the empty text."""
    columns = json.loads((FOLDER / "columns.json").read_text(encoding="utf-8"))["columns"]
    features = {}
    for column in columns:
        dtype, default = TYPES[column["feature"]]
        features[column["name"]] = tf.io.FixedLenFeature([], dtype, default_value=default)
    files = sorted(str(path) for path in FOLDER.glob(f"{split}-*.tfrecord"))
    return tf.data.TFRecordDataset(files).map(lambda record: tf.io.parse_single_example(record, features))
'''


def write_tensorflow(spec: ExportSpec, rows: Rows, folder: Path) -> list[WrittenFile]:
    options = spec["options"]
    splits = find_splits(rows, options.get("splitColumn"), options.get("target"))
    names = [name for name in rows.types if name != splits.column]
    kept, _ = number_columns(rows, [name for name in names if rows.types[name] != "DECIMAL"], Categories({}))
    by_name = {column.name: column for column in kept}
    encoders = [_Encoder(name, by_name.get(name)) for name in names]

    def open_writer(path: Path) -> _RecordFile:
        return _RecordFile(path, encoders)

    shards = write_shards(rows, splits, options["shardRows"], folder, open_writer)
    listed: list[dict[str, Any]] = []
    for encoder in encoders:
        column = by_name.get(encoder.name) or NumberColumn(encoder.name, rows.types[encoder.name], "text", has_missing=False)
        listed.append(described(column, feature=encoder.list, is_target=True if encoder.name == options.get("target") else None))
    description, loader = folder / "columns.json", folder / "load.py"
    description.write_text(json.dumps({"columns": listed}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    loader.write_text(LOADER, encoding="utf-8")
    return [
        *(written(shard.path, f"{shard.name}.tfrecord", "application/octet-stream", None) for shard in shards),
        written(description, description.name, "application/json", None),
        written(loader, loader.name, "text/x-python; charset=utf-8", None),
    ]


class _Encoder:
    """Encodes the values of a column as entries of the map Features.feature; a missing value has none."""

    def __init__(self, name: str, column: NumberColumn | None) -> None:
        self.name = name
        self._column = column
        self.list = "bytes" if column is None else {"int": "int64", "bool": "int64", "float": "float"}[column.kind]
        self._key = _field(1, name.encode())

    def entries(self, frame: pl.DataFrame) -> list[bytes]:
        values, encode = self._values(frame)
        key, number = self._key, _LISTS[self.list]
        return [b"" if value is None else _field(1, key + _field(2, _field(number, encode(value)))) for value in values]

    def _values(self, frame: pl.DataFrame) -> tuple[list[Any], Callable[[Any], bytes]]:
        if self._column is None:
            dtype = frame.schema[self.name]
            text = pl.col(self.name) if dtype == pl.Binary else as_text(self.name, dtype)
            return frame.select(text).to_series().to_list(), _encode_bytes
        series = frame.select(self._column.values(Categories({}))).to_series()
        if self._column.kind != "float":
            return series.cast(pl.Int64).to_list(), _encode_int
        with np.errstate(over="ignore"):  # what a float32 cannot hold is infinite
            floats = series.fill_null(0.0).to_numpy().astype("<f4")
        data = [floats[i : i + 1].tobytes() for i in range(len(floats))]
        return [None if is_null else value for value, is_null in zip(data, series.is_null(), strict=True)], _encode_float


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number: int, data: bytes) -> bytes:
    """A field with a length."""
    return bytes((number << 3 | 2,)) + _varint(len(data)) + data


def _encode_int(value: int) -> bytes:
    return _field(1, _varint(value & 0xFFFF_FFFF_FFFF_FFFF))


def _encode_float(value: bytes) -> bytes:
    return _field(1, value)


def _encode_bytes(value: str | bytes) -> bytes:
    return _field(1, value.encode() if isinstance(value, str) else value)


class _RecordFile:
    def __init__(self, path: Path, encoders: list[_Encoder]) -> None:
        self._file = path.open("wb")
        self._encoders = encoders

    def write(self, frame: pl.DataFrame) -> None:
        for entries in zip(*(encoder.entries(frame) for encoder in self._encoders), strict=True):
            example = _field(1, b"".join(entries))
            length = struct.pack("<Q", len(example))
            self._file.write(length + _masked_crc(length) + example + _masked_crc(example))

    def close(self) -> None:
        self._file.close()


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFF_FFFF)
