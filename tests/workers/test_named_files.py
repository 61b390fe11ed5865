"""Files that a table names are read beside its columns: each row has what its own file shows, or nothing where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.archives import image_of, recording_of, tone, zip_of
from tests.lazy_module import LazyModule
from tests.workers.item_files import ingested, predict_items
from tests.workers.pipeline_runner import artifact_path, chain, pipeline_error, run
from workers.ml.contents.places import ItemFiles
from workers.ml.explaining.rows import version_rows
from workers.ml.prediction.contents import ContentReader
from workers.ml.prediction.loading import load_predictor

DATASETS: Any = LazyModule("sklearn.datasets")
PIXELS = ("image_pixels", {"name": "p"})


def grey(value: int) -> bytes:
    return image_of(np.array([[value, 0]], np.uint8))


def joined(folder: Path, table: str, files: dict[str, bytes], place: str = "data.csv") -> tuple[pl.DataFrame, ItemFiles]:
    return ingested(folder, zip_of({place: table.encode(), **files}), "m.zip", "MULTIMODAL")


def table(folder: Path, frame: pl.DataFrame, items: ItemFiles, *steps: Any) -> tuple[pl.DataFrame, Any]:
    result, report = run(folder, frame, chain(*steps), items=items, is_joined=True)
    return pl.read_parquet(result["parquet"]), report


def test_each_row_has_what_its_own_files_show(tmp_path: Path) -> None:
    pictures = {
        "train/p/1.png": grey(51),
        "q/2.png": grey(102),
        "q/3.png": grey(153),
        "train/p/4.png": grey(204),
        "q/4.png": grey(255),
        "x/3.wav": b"",
    }
    sounds = {f"train/{name}.wav": recording_of(tone(frequency, 1), "WAV") for name, frequency in (("low", 200), ("high", 3_000))}
    rows = [
        ("p/1.png", "low.wav"),  # from the folder of the table
        ("q/2.png", "high.wav"),  # from the top
        ("other\\3.png", ""),  # by its name alone
        ("./p/4.png", "low.wav"),
        ("q/4.png", "lost.wav"),
        ("4.png", "high.wav"),  # which of the two?
        ("p/1.png", "low.wav"),
        ("lost.png", "low.wav"),
    ]  # fmt: skip
    cells = "".join(f"{number},{picture},{voice}\n" for number, (picture, voice) in enumerate(rows))
    frame, items = joined(tmp_path / "ingest", f"number,picture,voice\n{cells}", {**pictures, **sounds}, "train/data.csv")
    keep = ("filter_rows", {"conditions": [{"column": "number", "operator": "greater_or_equal", "value": 1}]})
    steps = (
        keep,
        ("use_files", {"column": "picture"}),
        PIXELS,
        ("use_files", {"kind": "audio"}),
        ("audio_features", {"bands": 4, "coefficients": 1, "name": "s"}),
    )
    made, report = table(tmp_path, frame, items, *steps)
    assert made["number"].to_list() == [1, 2, 3, 4, 5, 6, 7]
    assert made.columns == [*frame.columns, "p_1", "p_2", *(name for name in made.columns if name.startswith("s_"))]
    assert [None if value is None else round(value * 255) for value in made["p_1"]] == [102, 153, 204, 255, None, 51, None]
    assert (made["picture_width"].is_null() == made["p_1"].is_null()).all(), "the ingest and the steps find the same files"
    high = made["s_mel_4_mean"] - made["s_mel_1_mean"]
    assert [None if value is None else value > 0 for value in high] == [True, None, False, None, True, False, False]
    assert report.outputs["use_files"] == {"rows": 7, "column": "picture", "rows_without_file": 2}
    assert report.outputs["use_files2"] == {"rows": 7, "column": "voice", "rows_without_file": 2}
    assert report.log_lines == [
        f"Use files '{node}': in 2 of 7 rows, the column '{column}' names no file that can be read. There, what steps read of it is missing."
        for node, column in (("use_files", "picture"), ("use_files2", "voice"))
    ]


def doses(count: int, seed: int) -> tuple[str, dict[str, bytes]]:
    """A handwritten 0 or 1 and a dose: each tells one half of the class."""
    data = DATASETS.load_digits()
    generator = np.random.default_rng(seed)
    lines = ["dose,picture,finding"]
    files: dict[str, bytes] = {}
    for index in np.flatnonzero(data.target < 2)[seed * 180 :][:count].tolist():
        is_high = generator.integers(2)
        files[f"p/{index}.png"] = image_of((data.images[index] * 15).astype(np.uint8))
        lines.append(f"{1 + 2 * is_high + generator.normal(0, 0.4):.3f},p/{index}.png,{data.target[index]} {'high' if is_high else 'low'}")
    return "\n".join(lines) + "\n", files


@pytest.mark.exhaustive
def test_a_model_of_both_is_better_than_of_either_and_predicts_rows_without_a_picture(tmp_path: Path) -> None:
    content, files = doses(180, 0)
    files["p/0.png"] = files["p/0.png"][:40]  # damaged
    frame, items = joined(tmp_path / "ingest", content, files)
    read = (("use_files", {"kind": "image"}), ("image_pixels", {}))
    end = (("prepare", {"scale": True}), ("train_logistic_regression", {"target": "finding"}))
    shown = [name for name in frame.columns if name.startswith("picture_")]
    accuracy: dict[str, float] = {}
    result: Any = None
    for name, dropped, steps in (
        ("numbers", ["picture"], ()),
        ("pictures", ["dose"], read),
        ("both", [], read),
    ):
        (folder := tmp_path / name).mkdir()
        drop = ("drop_columns", {"columns": [*dropped, *shown]})
        result, report = run(folder, frame, chain(drop, *steps, *end), items=items, is_joined=True)
        accuracy[name] = result["metrics"]["accuracy"]
    assert report.outputs["use_files"]["rows_without_file"] == 1
    assert accuracy["both"] >= 0.9
    assert max(accuracy["numbers"], accuracy["pictures"]) < 0.7, accuracy
    content, files = doses(20, 1)
    files = {f"other/{name}": file for name, file in files.items() if name != next(iter(files))}
    others, other_items = joined(tmp_path / "others", content, files, "other/table.csv")
    predicted = predict_items(tmp_path / "both", result, others, other_items)
    signature = json.loads(artifact_path(result, "SIGNATURE").read_text())
    predictor = load_predictor(artifact_path(result, "MODEL"), signature)
    reader = ContentReader(signature["contents"], other_items)
    explained = version_rows(tmp_path / "both" / "predicted.parquet", signature, predictor, reader, 20, 1)
    assert explained.features["pixel_29"].is_null().to_list() == [True, *[False] * 19], "what is explained are the same rows"
    written = pl.read_parquet(predicted["parquet"])
    assert (written["prediction"] == written["finding"])[1:].sum() >= 17
    assert (predicted["answer"]["rows"], predicted["answer"]["predicted"]) == (20, 20)
    assert predicted["answer"]["issues"] == [
        {
            "code": "MISSING_FILE",
            "message": "In 1 row, the first is row 1, the column 'picture' names no file that can be read; the model predicts without it.",
            "column": "picture",
            "count": 1,
            "firstRow": 1,
            "values": [],
        }
    ]


def test_mirrored_copies_are_made_of_the_rows_that_have_a_picture(tmp_path: Path) -> None:
    files = {f"p/{number}.png": grey(10 * number) for number in range(19)}
    cells = "".join(f"{number},p/{number}.png,{'ab'[number % 2]}\n" for number in range(20))
    frame, items = joined(tmp_path / "ingest", f"n,picture,label\n{cells}", files)
    keep = ("select_columns", {"columns": ["n", "picture"]})
    train = ("train_random_forest", {"target": "label", "n_estimators": 10, "exclude": ["picture"]})
    split = (
        "split",
        {"strategy": "time", "time_column": "n", "test_fraction": 0.2},
    )  # the row without a picture is a test row, then the first to learn from
    for sign, copies in ((1, 16), (-1, 15)):
        rows = frame.with_columns(n=frame["n"] * sign)
        _, report = run(
            tmp_path, rows, chain(keep, "use_files", ("flip_image", {"copies": 2}), PIXELS, split, train), items=items, is_joined=True
        )
        assert report.outputs["flip_image"] == {"training_rows_before": 16, "training_rows": 16 + 2 * copies}


REFUSED: list[tuple[list[Any], str, str, str]] = [
    ([PIXELS], "NO_FILES", "1", "Link a use_files step before it."),
    ([("use_files", {"column": "n"}), PIXELS], "WRONG_COLUMN_TYPE", "1", "takes texts that name files"),
    ([("use_files", {"column": "word"}), PIXELS], "NO_FILES", "1", "The column 'word' has no cells that name a file that can be read"),
    ([("use_files", {"kind": "video"}), PIXELS], "NO_FILES", "1", "No column of text has cells that name a file of the kind video that can be read"),
    ([("rename_columns", {"columns": [{"column": "picture", "name": "q"}]}), ("use_files", {"column": "q"}), PIXELS], "NOT_SUPPORTED", "2", "is computed"),
    (["use_files", ("audio_features", {})], "NO_ROWS", "2", "No row has an item of the kind audio"),
    (["use_files", ("signal_windows", {"length": 16}), ("signal_features", {})], "NOT_SUPPORTED", "2", "makes other items"),
    (["use_files", "use_files", PIXELS], "UNSOUND_PIPELINE", "1", "No step after 'use_files' reads"),
]  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, ItemFiles]:
    return joined(tmp_path_factory.mktemp("small"), "n,picture,word\n1,p/1.png,a\n2,p/2.png,b\n", {"p/1.png": grey(1), "p/2.png": grey(2)})


@pytest.mark.parametrize(("steps", "code", "node", "words"), REFUSED)
def test_what_names_no_files_is_refused(
    tmp_path: Path, small: tuple[pl.DataFrame, ItemFiles], steps: list[Any], code: str, node: str, words: str
) -> None:
    frame, items = small
    error = pipeline_error(tmp_path, frame, chain(*steps), items=items, is_joined=True)
    assert (error.code, error.path and error.path[2]) == (code, node), error.message
    assert words in error.message
