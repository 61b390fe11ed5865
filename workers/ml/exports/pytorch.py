"""Safetensors, which hold numbers and no code: a tensor for each column, in a file for each split. https://huggingface.co/docs/safetensors

A file is the length of its header, the header in JSON, and the bytes of the tensors one after the other. The number of rows is known before, so each batch
is written to its place in each tensor.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workers.ml.exports.categories import Categories, find_categories
from workers.ml.exports.numbers import NumberColumn, described, number_columns
from workers.ml.exports.source import ExportSpec, Rows, WrittenFile, written
from workers.ml.exports.splits import find_splits
from workers.ml.exports.texts import is_text

_DTYPES = {"int": ("I64", np.dtype("<i8")), "float": ("F64", np.dtype("<f8")), "bool": ("BOOL", np.dtype("?"))}
MISSING_CATEGORY = -1
LOADER = '''\
"""Load the tensors of a split: `features, target = load("train")`. Needs torch and safetensors."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).parent


def load(split="train", dtype=torch.float32):
    """The features as one matrix, a column each in the order of columns.json, missing values as NaN; and the target, or None."""
    tensors = load_file(FOLDER / f"{split}.safetensors")
    columns = json.loads((FOLDER / "columns.json").read_text(encoding="utf-8"))["columns"]
    features, target = [], None
    for column in columns:
        values = tensors[column["tensor"]]
        if column["tensor"].startswith("y_"):
            target = values
            continue
        values = values.to(dtype)
        if "missing" in column:
            values = values.masked_fill(tensors[column["missing"]], float("nan"))
        features.append(values)
    return (torch.stack(features, dim=1) if features else None), target
'''


def write_pytorch(spec: ExportSpec, rows: Rows, folder: Path) -> list[WrittenFile]:
    options = spec["options"]
    target: str | None = options.get("target")
    splits = find_splits(rows, options.get("splitColumn"), options.get("target"))
    names = [name for name in rows.types if name != splits.column]
    schema = rows.schema
    categories = find_categories(rows, [name for name in names if is_text(schema[name]) and rows.types[name] != "JSON"])
    columns, omitted = number_columns(rows, names, categories)
    for name, reason in omitted.items():
        rows.reporter.log(f"The column {name!r} is left out. {reason}")
    files = {split: _TensorFile(folder / f"{split}.safetensors", columns, target, count) for split, count in splits.counts.items()}
    try:
        for frame in rows.frames():
            for split, part in splits.parts(frame):
                files[split].write(part, categories)
    finally:
        for file in files.values():
            file.close()
    listed = [
        described(column, tensor=_tensor(column, target), dtype=_DTYPES[column.kind][0], missing=_missing(column)) for column in columns
    ]
    document = {"columns": listed, "omitted": [{"name": name, "reason": reason} for name, reason in omitted.items()]}
    description, loader = folder / "columns.json", folder / "load.py"
    description.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    loader.write_text(LOADER, encoding="utf-8")
    return [
        *(written(file.path, file.path.name, "application/octet-stream", None) for file in files.values()),
        written(description, description.name, "application/json", None),
        written(loader, loader.name, "text/x-python; charset=utf-8", None),
    ]


def _tensor(column: NumberColumn, target: str | None) -> str:
    return ("y_" if column.name == target else "X_") + column.name


def _missing(column: NumberColumn) -> str | None:
    return f"missing_{column.name}" if column.has_missing else None


class _TensorFile:
    """A file of `count` rows that are written in their order."""

    def __init__(self, path: Path, columns: list[NumberColumn], target: str | None, count: int) -> None:
        self.path = path
        self._columns = columns
        self._position = 0
        tensors = [(_tensor(column, target), column.kind) for column in columns]
        tensors += [(missing, "bool") for column in columns if (missing := _missing(column)) is not None]
        header: dict[str, Any] = {}
        self._offsets: dict[str, int] = {}
        end = 0
        # The widest first, so that each begins at a multiple of its width.
        for name, kind in sorted(tensors, key=lambda tensor: -_DTYPES[tensor[1]][1].itemsize):
            dtype_name, dtype = _DTYPES[kind]
            self._offsets[name], end = end, end + count * dtype.itemsize
            header[name] = {"dtype": dtype_name, "shape": [count], "data_offsets": [self._offsets[name], end]}
        encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)
        self._start = 8 + len(encoded)
        self._names = [(column, _tensor(column, target), _missing(column)) for column in columns]
        self._file = path.open("wb")
        self._file.write(struct.pack("<Q", len(encoded)) + encoded)
        self._file.truncate(self._start + end)
        self._file.flush()

    def write(self, frame: pl.DataFrame, categories: Categories) -> None:
        for column, tensor, missing in self._names:
            values = frame.select(column.values(categories)).to_series()
            if missing is not None:
                self._put(missing, values.is_null().to_numpy(), "bool")
            filler: Any = (
                MISSING_CATEGORY if column.categories is not None else {"int": 0, "float": float("nan"), "bool": False}[column.kind]
            )
            self._put(tensor, values.fill_null(filler).to_numpy(), column.kind)
        self._position += frame.height

    def _put(self, tensor: str, values: np.ndarray, kind: str) -> None:
        dtype = _DTYPES[kind][1]
        data = memoryview(values.astype(dtype).tobytes())
        offset = self._start + self._offsets[tensor] + self._position * dtype.itemsize
        while data:
            sent = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[sent:], offset + sent

    def close(self) -> None:
        self._file.close()
