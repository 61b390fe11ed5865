"""A table that was exported as a folder of Parquet files by split is the same table when the folder is uploaded as an archive."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.archives import zip_of
from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.ingest_runner import column_types, run_ingest
from tests.workers.test_export_formats import Exporter
from tests.workers.test_export_formats import export as export  # noqa: PLC0414 - a fixture
from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading import parquet_folder

DATASETS: Any = LazyModule("datasets")
ROWS = 240
ORDER = {"train": 0, "validation": 1, "test": 2, None: 3}


def lines(rows: int = ROWS) -> bytes:
    """Values that are easily lost: dates that are texts, whole numbers and flags that are classes, JSON, words, and what is missing."""
    return b"".join(
        json.dumps(
            {
                "flag": [True, False, None][i % 3],
                "split": ["train", "test", "validation", "train"][i % 4] if i % 10 else None,
                "grade": i % 5,
                "name": f"row {i} ü" if i % 7 else None,
                "colour": ["red", "green", "NULL-ish"][i % 3],
                "score": i / 7 if i % 6 else None,
                "day": f"20{10 + i % 9}-0{1 + i % 9}-15",
                "moment": f"2024-05-0{1 + i % 9}T10:11:12.{i:06}Z",
                "text_day": f"2024-01-{10 + i % 9}",
                "nested": {"a": [i, None], "b": "x"},
                "number": 2**60 + i,
                "fold": i % 3,
            }
        ).encode()
        + b"\n"
        for i in range(rows)
    )


def in_order_of_splits(frame: pl.DataFrame, column: str, order: dict[Any, int]) -> pl.DataFrame:
    return frame.sort(pl.col(column).replace_strict(order, return_dtype=pl.Int64), maintain_order=True)


@pytest.mark.parametrize("packed", ["as exported", exhaustive("packed again")])
@pytest.mark.parametrize(
    ("options", "problem_type", "order"),
    [
        ({"target": "colour", "splitColumn": "split"}, "CLASSIFICATION", ORDER),
        exhaustive({"target": "grade", "splitColumn": "fold"}, "CLASSIFICATION", {0: 0, 1: 1, 2: 2}),
        exhaustive({"target": "flag", "splitColumn": "colour"}, None, {"NULL-ish": 0, "green": 1, "red": 2}),
        exhaustive({"target": "score", "splitColumn": "flag"}, "REGRESSION", {False: 0, True: 1, None: 2}),
        exhaustive({}, None, None),
    ],
)
def test_an_exported_table_comes_back_whole(
    tmp_path: Path,
    export: Exporter,
    monkeypatch: pytest.MonkeyPatch,
    packed: str,
    options: dict[str, Any],
    problem_type: str | None,
    order: dict[Any, int] | None,
) -> None:
    monkeypatch.setattr("workers.ml.exports.source.BATCH_ROWS", 50)
    first, frame = run_ingest(tmp_path, lines(), "rows.jsonl", reading={"columnTypes": {"text_day": "STRING"}})
    types = column_types(first)
    assert types["text_day"] == "STRING"
    assert types["nested"] == "JSON"
    exported = export(frame, "HUGGINGFACE", types, problem_type, archive=True, shardRows=30, **options)["data-v1-huggingface.zip"]
    data = exported
    if packed == "packed again":
        with zipfile.ZipFile(io.BytesIO(exported)) as archive:
            data = zip_of({name.partition("/")[2]: archive.read(name) for name in archive.namelist()})

    folder = tmp_path / "again"
    folder.mkdir()
    second, back = run_ingest(folder, data, "data-v1-huggingface.zip", modality="TABULAR")

    assert (second["format"], second["issues"]) == ("ZIP", [])
    assert back.equals(frame if order is None else in_order_of_splits(frame, options["splitColumn"], order))
    # The type that was chosen for a column of few texts is that of the upload, not of the table.
    assert list(column_types(second).items()) == list((types | {"text_day": "CATEGORY"}).items())


def features(**columns: Any) -> dict[str, str]:
    return {"huggingface": json.dumps({"info": {"features": columns}})}


LABEL = {"names": ["cat", "dog"], "_type": "ClassLabel"}


def parquet(metadata: dict[str, str] | None = None, **columns: Any) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), target)
    return target.getvalue()


def test_a_folder_that_another_library_wrote_has_its_splits_and_the_names_of_its_classes(tmp_path: Path) -> None:
    kinds = DATASETS.Features({"x": DATASETS.Value("int32"), "label": DATASETS.ClassLabel(names=["cat", "dog"])})
    files: dict[str, bytes] = {}
    for name, x, label in (
        ("test-00000-of-00001", [9], [-1]),
        ("train-00000-of-00002", [1, 2], [1, 0]),
        ("train-00001-of-00002", [3], [1]),
    ):
        DATASETS.Dataset.from_dict({"x": x, "label": label}, features=kinds).to_parquet(str(tmp_path / "file"))
        files[f"data/{name}.parquet"] = (tmp_path / "file").read_bytes()
    result, frame = run_ingest(tmp_path, zip_of({**files, "README.md": b"---\n---\n", "dataset_infos.json": b"{}"}), "cats.zip")
    assert frame.to_dict(as_series=False) == {
        "x": [1, 2, 3, 9],
        "label": ["dog", "cat", "dog", None],
        "split": ["train", "train", "train", "test"],
    }
    assert [issue["code"] for issue in result["issues"]] == ["SKIPPED_FILES"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train.parquet", "val.parquet"), {"split": ["train", "validation"], "n": [0, 1]}),
        (("Train/a.parquet", "dev/a.parquet"), {"split": ["train", "validation"], "n": [0, 1]}),
        (("data/holdout-00000.parquet", "data/train-00000.parquet"), {"split": ["train", "holdout"], "n": [1, 0]}),
        (("b.parquet", "a.parquet"), {"n": [1, 0]}),
        (("part-00000.parquet", "part-00001.parquet"), {"n": [0, 1]}),
        (("only.parquet",), {"n": [0]}),
    ],
)
def test_names_of_files_say_the_split(tmp_path: Path, names: tuple[str, ...], expected: dict[str, list[Any]]) -> None:
    _, frame = run_ingest(tmp_path, zip_of({name: parquet(n=[number]) for number, name in enumerate(names)}), "a.zip")
    assert frame.select(sorted(frame.columns, reverse=True)).to_dict(as_series=False) == expected


def test_a_column_that_is_named_as_the_split_is_kept(tmp_path: Path) -> None:
    _, frame = run_ingest(tmp_path, zip_of({"train.parquet": parquet(split=["a"]), "test.parquet": parquet(split=["b"])}), "a.zip")
    assert frame.to_dict(as_series=False) == {"split": ["a", "b"], "split_1": ["train", "test"]}


GOOD = parquet(n=[1], label=[0])


@pytest.mark.parametrize(
    ("files", "code", "text"),
    [
        ({"train.parquet": GOOD, "test.parquet": parquet(n=[1])}, "COLUMNS_DIFFER", "'label' is in one of them alone"),
        ({"train.parquet": GOOD, "test.parquet": parquet(label=[1], n=[0])}, "COLUMNS_DIFFER", "in another order"),
        ({"train.parquet": GOOD, "test.parquet": parquet(n=["x"], label=[0])}, "COLUMNS_DIFFER", "'n' is int64 in the first and string"),
        ({"train.parquet": GOOD, "rest.parquet": GOOD}, "UNKNOWN_SPLIT", "The split of 'rest.parquet'"),
        (
            {"en/train-00000.parquet": GOOD, "de/train-00000.parquet": GOOD},
            "SEVERAL_TABLES",
            "of the split 'train' in several folders, such as 'de'",
        ),
        ({"a/x.parquet": GOOD, "b/y.parquet": GOOD}, "SEVERAL_TABLES", "in several folders"),
        ({"train.parquet": GOOD[:-20], "test.parquet": GOOD}, "UNREADABLE_FILE", "is damaged Parquet"),
        ({"train.parquet": b"", "test.parquet": GOOD}, "UNREADABLE_FILE", "is damaged Parquet"),
        ({"train.parquet": GOOD, "test.parquet": b"a,b\n1,2\n" * 50}, "UNREADABLE_FILE", "is damaged Parquet"),
        ({"train.parquet": parquet(n=pa.array([], pa.int64()))}, "EMPTY_FILE", "no rows"),
        ({"../train.parquet": GOOD}, "UNSAFE_ARCHIVE", "leaves the archive"),
        ({"train.parquet": GOOD, "more.zip": GOOD}, "NESTED_ARCHIVE", "an archive in an archive"),
        ({"train.parquet": parquet(features(label=LABEL), label=[0, 2])}, "UNKNOWN_CLASS", "'label' of 'train.parquet' has the class 2"),
        ({"train.parquet": parquet(features(label=LABEL), label=[-2, 0])}, "UNKNOWN_CLASS", "the class -2"),
        ({f"{n}.parquet": GOOD for n in range(4)}, "TOO_MANY_FILES", "has 4 Parquet files; the maximum is 3"),
    ],
)
def test_a_folder_that_is_no_table_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], code: str, text: str
) -> None:
    monkeypatch.setattr(parquet_folder, "MAX_PARTS", 3)
    with pytest.raises(BadInput) as refused:
        run_ingest(tmp_path, zip_of(files), "a.zip")
    assert (refused.value.code, text in refused.value.message) == (code, True), refused.value.message


@pytest.mark.parametrize(
    "metadata",
    [
        {"huggingface": "no json"},
        {"huggingface": "[" * 100_000},
        features(label={"names": [1, 2], "_type": "ClassLabel"}),
        features(label=["ClassLabel"]),
        {"trellis.table": "no json"},
        {"trellis.table": '{"columns": {"label": 1}, "split_column": null, "splits": {}}'},
        {"trellis.table": '{"columns": {}, "split_column": null, "splits": {"train": 3}}'},
    ],
)
def test_metadata_that_say_nothing_are_ignored(tmp_path: Path, metadata: dict[str, str]) -> None:
    _, frame = run_ingest(tmp_path, zip_of({"train.parquet": parquet(metadata, label=[0, 2])}), "a.zip")
    assert frame.to_dict(as_series=False) == {"label": [0, 2]}


def test_what_is_recorded_and_not_true_harms_nothing(tmp_path: Path) -> None:
    recorded = {
        "columns": {"n": "STRING", "label": "BOOLEAN", "gone": "DATE", "part": "DATE"},
        "split_column": "part",
        "splits": {"train": "soon"},
    }
    metadata = {"trellis.table": json.dumps(recorded), **features(label=LABEL)}
    _, frame = run_ingest(tmp_path, zip_of({"train-00000.parquet": parquet(metadata, label=[0, 1], n=[5, 6])}), "a.zip")
    assert frame.to_dict(as_series=False) == {"n": [5, 6], "label": ["cat", "dog"], "part": ["soon", "soon"]}


def test_repeated_values_of_all_files_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PARQUET_DECODED_BYTES", 100_000)
    monkeypatch.setattr(limits, "MAX_PARQUET_DECODED_RATIO", 1)
    file = parquet(text=["x" * 600] * 100)
    run_ingest(tmp_path, zip_of({"train.parquet": file}), "a.zip")
    with pytest.raises(BadInput, match="decodes to more than") as refused:
        run_ingest(tmp_path, zip_of({"train.parquet": file, "test.parquet": file}), "a.zip")
    assert refused.value.code == "UNFOLDS_TOO_LARGE"
