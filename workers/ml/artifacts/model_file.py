"""The model file in skops format: the same model gives the same bytes, and the file is verified by reading it back."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import polars as pl

from workers.ml.artifacts.trust import import_skops, load_model

SCHEMA_FILENAME = "schema.json"
ARRAY_HEADER_BYTES = 1_024  # the dtype of an .npy file is within its first bytes
# The earliest timestamp of a zip archive: the time of writing must not change the bytes.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_model(pipeline: Any, path: Path, sample: pl.DataFrame) -> None:
    """Write the model. Raises RuntimeError if the loaded file predicts other values for `sample` than `pipeline` does."""
    path.write_bytes(canonical_archive(import_skops().dumps(pipeline)))
    loaded = load_model(path)
    if not np.array_equal(loaded.predict(sample), pipeline.predict(sample)):
        raise RuntimeError("the model file, read back, does not predict what the trained model predicts")


def canonical_archive(archive: bytes) -> bytes:
    """Rewrite a skops archive so that its bytes depend only on the model.

    skops identifies objects by their memory address and names array files after it, which differs in every run; they are numbered from 1.
    """
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
    """Zero the padding between the fields of a structured array (a tree's nodes), which holds uninitialized memory."""
    if b"'|V" not in array[:ARRAY_HEADER_BYTES]:
        return array
    values = np.load(io.BytesIO(array), allow_pickle=False)
    zeroed = np.zeros(values.shape, values.dtype)  # zeros_like would not clear the padding
    for name in values.dtype.names or ():
        zeroed[name] = values[name]
    return array[: -values.nbytes] + zeroed.tobytes()  # np.save copies field by field and would keep the padding


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
