"""The model file: skops, written so that the same model gives the same bytes, and read back before anyone relies on it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import polars as pl
import skops.io

from workers.ml.artifacts.trust import load_model

SCHEMA_FILENAME = "schema.json"
ARRAY_HEADER_BYTES = 1_024  # bytes of an array's file in which its type stands
# The oldest time a zip archive can hold: when a file was written is no part of a model.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_model(pipeline: Any, path: Path, sample: pl.DataFrame) -> None:
    """Raises RuntimeError when the file, loaded as a stranger would load it, does not predict what the model does."""
    path.write_bytes(canonical_archive(skops.io.dumps(pipeline)))
    loaded = load_model(path)
    if not np.array_equal(loaded.predict(sample), pipeline.predict(sample)):
        raise RuntimeError("the model file, read back, predicts otherwise than the model that was trained")


def canonical_archive(archive: bytes) -> bytes:
    """The same archive with object numbers counted from 1, and nothing in it that was not written. skops numbers objects by their address in memory,
    which no two runs share, and names the arrays after those numbers."""
    with ZipFile(io.BytesIO(archive)) as source:
        schema = json.loads(source.read(SCHEMA_FILENAME))
        numbers: dict[int, int] = {}
        names: dict[str, str] = {}
        _renumber(schema, numbers, names)
        buffer = io.BytesIO()
        with ZipFile(buffer, "w") as target:
            for old, new in names.items():
                target.writestr(ZipInfo(new, ZIP_EPOCH), _zero_padding(source.read(old)), ZIP_DEFLATED, 6)
            target.writestr(ZipInfo(SCHEMA_FILENAME, ZIP_EPOCH), json.dumps(schema, separators=(",", ":")), ZIP_DEFLATED, 6)
    return buffer.getvalue()


def _zero_padding(array: bytes) -> bytes:
    """The array of a tree's nodes has gaps between its fields, which hold whatever the memory did; as zeros they are the same each time."""
    if b"'|V" not in array[:ARRAY_HEADER_BYTES]:
        return array
    values = np.load(io.BytesIO(array), allow_pickle=False)
    zeroed = np.zeros(values.shape, values.dtype)  # zeros_like writes fields only
    for name in values.dtype.names or ():
        zeroed[name] = values[name]
    return array[: -values.nbytes] + zeroed.tobytes()  # numpy's own writing copies field by field, which leaves the gaps as they are


def _renumber(state: Any, numbers: dict[int, int], names: dict[str, str]) -> None:
    if isinstance(state, list):
        for item in state:
            _renumber(item, numbers, names)
    elif isinstance(state, dict):
        if "__loader__" in state:
            if isinstance(state.get("__id__"), int):
                state["__id__"] = numbers.setdefault(state["__id__"], len(numbers) + 1)
            if isinstance(state.get("file"), str):
                suffix = Path(state["file"]).suffix
                state["file"] = names.setdefault(state["file"], f"{len(names) + 1}{suffix}")
        for value in state.values():
            _renumber(value, numbers, names)
