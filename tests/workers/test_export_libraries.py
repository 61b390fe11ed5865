"""The exports for libraries of machine learning, read back by these libraries, or by a reader of the format."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.test_export_formats import NASTY, TYPES, Exporter
from tests.workers.test_export_formats import export as export  # noqa: PLC0414 - a fixture
from workers.ml.errors import BadInput
from workers.ml.exports import splits

DATASETS: Any = LazyModule("datasets")
CROISSANT: Any = LazyModule("mlcroissant")
LEARNING = NASTY.with_columns(split=pl.Series(["train", "test", "train", "validation"]), label=pl.Series(["b", "a", None, "b"]))
LEARNING_TYPES = {**TYPES, "split": "CATEGORY", "label": "CATEGORY"}
ROWS_OF = {"train": [0, 2], "validation": [3], "test": [1]}
NUMBERS = pl.DataFrame({"x": range(2_500), "y": [i % 3 for i in range(2_500)], "fold": [["a b", "a-b", None][i % 3] for i in range(2_500)]})
NUMBER_TYPES = {"x": "INTEGER", "y": "INTEGER", "fold": "CATEGORY"}


def test_hugging_face_reads_the_splits_and_the_labels(export: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    files = export(LEARNING, "HUGGINGFACE", LEARNING_TYPES, target="label", archive=True)
    with zipfile.ZipFile(io.BytesIO(files["data-v1-huggingface.zip"])) as archive:
        assert [info.filename.removeprefix("data-v1-huggingface/") for info in archive.infolist()] == sorted(
            files.keys() - {"data-v1-huggingface.zip"}
        )
        archive.extractall(tmp_path)
    loaded = DATASETS.load_dataset(str(tmp_path / "data-v1-huggingface"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == set(ROWS_OF)
    names = [name for name in LEARNING.columns if name != "split"]
    for split, rows in ROWS_OF.items():
        part = loaded[split]
        assert (part.features["label"].names, part.features["float32"].dtype, part.column_names) == (["a", "b"], "float32", names)
        expected = LEARNING[rows].select(names).with_columns(label=pl.col("label").replace_strict({"a": 0, "b": 1}, return_dtype=pl.Int64))
        assert pl.DataFrame(pl.from_arrow(part.data.table)).cast({"clock": pl.Time}).equals(expected)


@pytest.mark.exhaustive
def test_the_card_is_yaml_and_the_features_of_integers_follow_the_problem(export: Exporter) -> None:
    for problem_type, feature in (
        ("CLASSIFICATION", {"names": ["0", "1", "2"], "_type": "ClassLabel"}),
        ("REGRESSION", {"dtype": "int64", "_type": "Value"}),
    ):
        files = export(NUMBERS, "HUGGINGFACE", NUMBER_TYPES, problem_type, target="y", splitColumn="fold")
        parts = [path for path in files if path.startswith("data/")]
        assert parts == [f"data/{name}-00000-of-00001.parquet" for name in ("unassigned", "a_b", "a_b_2")]
        features = json.loads(pq.read_schema(io.BytesIO(files[parts[0]])).metadata[b"huggingface"])["info"]["features"]
        assert features == {"x": {"dtype": "int64", "_type": "Value"}, "y": feature}
        card = files["README.md"].decode()
        assert f"- tabular-{problem_type.lower()}\n" in card
        assert "  - split: a_b_2\n    path: data/a_b_2-*.parquet\n" in card


def test_rows_are_cut_into_files_and_none_is_lost(export: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.ml.exports.source.BATCH_ROWS", 700)
    files = export(NUMBERS, "HUGGINGFACE", NUMBER_TYPES)
    parts = [pq.read_table(io.BytesIO(content))["x"].to_pylist() for path, content in files.items() if path.startswith("data/train-")]
    assert [len(part) for part in parts] == [1_000, 1_000, 500]
    assert sum(parts, []) == list(range(2_500))  # noqa: RUF017 - three lists
    distributed = json.loads(files["croissant.json"])
    assert [file["contentUrl"] for file in distributed["distribution"]] == [path for path in files if path != "croissant.json"]
    assert len(distributed["recordSet"]) == 3


@pytest.mark.exhaustive
def test_the_number_of_files_and_the_length_of_their_names_are_bounded(export: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    long = NUMBERS.with_columns(fold=pl.when(pl.col("y") == 0).then(pl.lit("x" * 300)).otherwise(pl.lit("x" * 400)))
    files = export(long, "HUGGINGFACE", NUMBER_TYPES, splitColumn="fold")
    assert [path for path in files if path.startswith("data/")] == [
        f"data/{'x' * 80}{end}.parquet" for end in ("-00000-of-00001", "_2-00000-of-00002", "_2-00001-of-00002")
    ]
    monkeypatch.setattr(splits, "MAX_SHARDS", 2)
    with pytest.raises(BadInput, match="would be 3 files of 1,000 rows; the maximum is 2") as refused:
        export(NUMBERS, "TENSORFLOW", NUMBER_TYPES)
    assert refused.value.code == "TOO_MANY_FILES"


def test_tensors_have_each_number_and_where_a_value_is_missing(export: Exporter) -> None:
    files = export(LEARNING, "PYTORCH", LEARNING_TYPES, target="label")
    document = json.loads(files["columns.json"])
    assert [entry["name"] for entry in document["omitted"]] == ["json", "binary"]
    columns = {entry["name"]: entry for entry in document["columns"]}
    assert list(columns) == [name for name in LEARNING.columns if name not in ("json", "binary", "split")]
    assert columns["label"] == {
        "name": "label",
        "type": "CATEGORY",
        "categories": ["a", "b"],
        "tensor": "y_label",
        "dtype": "I64",
        "missing": "missing_label",
    }
    for split, rows in ROWS_OF.items():
        tensors = load(files[f"{split}.safetensors"])
        expected = LEARNING[rows]
        for name, entry in columns.items():
            missing = tensors[entry["missing"]] if "missing" in entry else np.zeros(len(rows), bool)
            assert missing.tolist() == expected[name].is_null().to_list()
            values = [None if gone else value for value, gone in zip(tensors[entry["tensor"]].tolist(), missing, strict=True)]
            if "categories" in entry:
                values = [None if value is None else entry["categories"][value] for value in values]
                assert values == expected[name].to_list()
        assert [None if gone else v for v, gone in zip(tensors["X_integer"].tolist(), tensors["missing_integer"], strict=True)] == expected[
            "integer"
        ].to_list()
        np.testing.assert_array_equal(tensors["X_float"], expected["float"].fill_null(float("nan")).to_numpy())
    train = load(files["train.safetensors"])
    assert train["X_duration"].tolist() == [timedelta(hours=36, microseconds=5) // timedelta(microseconds=1), -30_000_000]
    assert (train["X_day"].tolist(), train["X_flag"].dtype, train["y_label"].tolist()) == ([18262, -719162], np.dtype(bool), [1, -1])
    compile(files["load.py"], "load.py", "exec")


def records(content: bytes) -> Iterator[bytes]:
    def checked(data: bytes, masked: bytes) -> bytes:
        crc = google_crc32c.value(data)
        assert struct.unpack("<I", masked)[0] == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        return data

    position = 0
    while position < len(content):
        (length,) = struct.unpack("<Q", checked(content[position : position + 8], content[position + 8 : position + 12]))
        yield checked(content[position + 12 : position + 12 + length], content[position + 12 + length : position + 16 + length])
        position += 16 + length


def varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value, shift, position = value | (byte & 0x7F) << shift, shift + 7, position + 1
        if byte < 0x80:
            return value, position


def message(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protocol buffer, all of which have a length."""
    position = 0
    while position < len(data):
        tag, position = varint(data, position)
        assert tag & 7 == 2
        length, position = varint(data, position)
        yield tag >> 3, data[position : position + length]
        position += length


def example(record: bytes) -> dict[str, Any]:
    values: dict[str, Any] = {}
    ((_, features),) = message(record)
    for _, entry in message(features):
        (_, key), (_, feature) = message(entry)
        ((kind, content),) = message(feature)
        ((_, packed),) = message(content)
        if kind == 1:
            values[key.decode()] = packed
        elif kind == 2:
            (values[key.decode()],) = struct.unpack("<f", packed)
        else:
            number, end = varint(packed, 0)
            assert end == len(packed)
            values[key.decode()] = number - 2**64 if number >= 2**63 else number
    return values


def test_tfrecords_have_each_value_and_none_for_a_missing_one(export: Exporter) -> None:
    files = export(LEARNING, "TENSORFLOW", LEARNING_TYPES, target="label")
    listed = {entry["name"]: entry for entry in json.loads(files["columns.json"])["columns"]}
    assert (listed["label"]["feature"], listed["label"]["is_target"], listed["decimal"]["feature"]) == ("bytes", True, "bytes")
    rows = {split: [example(record) for record in records(files[f"{split}-00000-of-00001.tfrecord"])] for split in ROWS_OF}
    assert {split: [row["=name"] - 1 for row in of_split] for split, of_split in rows.items()} == ROWS_OF
    first = rows["train"][0]
    assert first == {
        "integer": 1,
        "float": np.float32(0.1),
        "float32": np.float32(0.1),
        "flag": 1,
        "text": b"=1+1",
        "category": b"-x",
        "day": 18262,
        "moment": 1577840523000004,
        "zoned": 1577840523000004,
        "clock": 3723000005,
        "duration": 129600000005,
        "decimal": b"12345678901234567890.12",
        "json": b'{"a": 12345678901234567890123}',
        "binary": b"\x00\xff",
        "=name": 1,
        "label": b"b",
    }
    second = rows["test"][0]
    assert (second["integer"], np.isnan(second["float"]), second["text"]) == (-(2**63), True, b"")
    assert second.keys() == {name for name in LEARNING.columns if LEARNING[name][1] is not None} - {"split"}
    compile(files["load.py"], "load.py", "exec")


@pytest.mark.parametrize("export_format", ["HUGGINGFACE", "PYTORCH", "TENSORFLOW"])
def test_equal_exports_are_the_same_bytes_and_no_rows_are_a_split_without_rows(export: Exporter, export_format: str) -> None:
    first, second = [export(LEARNING, export_format, LEARNING_TYPES, target="label", archive=True) for _ in range(2)]
    assert first == second
    empty = export(LEARNING.clear(), export_format, LEARNING_TYPES, target="label")
    (data,) = [path for path in empty if "train" in path]
    if export_format == "HUGGINGFACE":
        assert pq.read_table(io.BytesIO(empty[data])).num_rows == 0
    elif export_format == "PYTORCH":
        assert load(empty[data])["y_label"].shape == (0,)
    else:
        assert empty[data] == b""


@pytest.mark.exhaustive
def test_a_split_column_of_many_values_is_refused_and_one_that_is_found_is_no_split(
    export: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "MAX_SPLITS", 2)
    with pytest.raises(BadInput, match="The column 'fold' has more than 2 values"):
        export(NUMBERS, "PYTORCH", NUMBER_TYPES, splitColumn="fold")
    files = export(NUMBERS.rename({"fold": "split"}), "PYTORCH", {"x": "INTEGER", "y": "INTEGER", "split": "CATEGORY"})
    assert load(files["train.safetensors"])["X_split"].shape == (2_500,)


@pytest.mark.parametrize("export_format", ["CSV", "PARQUET", *map(exhaustive, ("JSON", "JSONL", "HUGGINGFACE"))])
def test_croissant_reads_the_rows_by_their_description(export: Exporter, export_format: str, tmp_path: Path) -> None:
    table = pl.DataFrame({"whole": [1, 2, -3], "number": [0.1, -2.5, 1e300], "text": ["a", 'b,"c"', "ü 🍇"], "flag": [True, False, True]})
    for name, content in export(table, export_format, {"whole": "INTEGER", "number": "FLOAT", "text": "STRING", "flag": "BOOLEAN"}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    described = CROISSANT.Dataset(jsonld=str(tmp_path / "croissant.json"))
    (records,) = described.metadata.record_sets
    read = [{name.rpartition("/")[2]: value for name, value in row.items()} for row in described.records(records.uuid)]
    assert [{**row, "text": row["text"].decode()} for row in read] == table.to_dicts()
