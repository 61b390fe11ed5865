"""Training by the split that an archive gives to its items, instead of one that is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.archives import image_of, zip_of
from tests.client import Client
from tests.workers.pipeline_runner import chain, pipeline_error, run

pytestmark = pytest.mark.exhaustive

TRAIN = ("train", "train_logistic_regression", {"target": "label"})
STEPS = (("split", "split_by_column", {}), ("numbers", "select_numbers", {}), TRAIN)
COLUMN = "definition", "nodes", "1", "parameters", "split_column"


def shades(seed: int, low: int) -> bytes:
    return image_of(np.random.default_rng(seed).integers(low, low + 100, (8, 8), dtype=np.uint8))


def archive(*splits: tuple[str, int]) -> dict[str, bytes]:
    """Dark and bright images, as many of each class as the split says."""
    return {
        f"{split}/{label}/{number}.png": shades(1000 * position + number, low)
        for position, (split, count) in enumerate(splits)
        for label, low in (("dark", 0), ("bright", 150))
        for number in range(count)
    }


async def test_the_splits_of_an_archive_are_those_of_the_training(ada: Client, worker: object) -> None:
    files = archive(("train", 12), ("valid", 3), ("test", 4))
    files["test/dark/copy.png"] = files["train/dark/3.png"]
    version = await ada.ingest("shades", zip_of(files), "shades.zip", modality="IMAGE")
    pipeline = (await ada.create_pipeline("given", ("data", "dataset", {}), *STEPS, modality="IMAGE"))["pipeline"]
    assert pipeline["status"] == "VALIDATED"
    ended = await ada.wait((await ada.run_pipeline(pipeline["id"], version, modelName="m"))["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    outputs = {node["key"]: node["output"] for node in ended["nodes"]}
    (leak,) = outputs["split"].pop("leaks")
    assert leak.startswith("1 items have the same bytes as an item of another split")
    assert outputs["split"] == {
        "columns": 5,
        "strategy": "column",
        "train_rows": 24,
        "validation_rows": 6,
        "test_rows": 9,
        "note": f"The parts are those of the column 'split'. {leak}",
    }

    without = {name.removeprefix("train/"): content for name, content in archive(("train", 6)).items()}
    drawn = await ada.ingest("no splits", zip_of(without), "s.zip", modality="IMAGE")
    unlike = await ada.ingest("other splits", zip_of(archive(("train", 6))), "o.zip", modality="IMAGE")
    for other, message in (
        (drawn, "The version has no column 'split' that says which rows are for training and which for the test."),
        (unlike, "The items of the version are of the splits train; train is needed, and test or validation."),
    ):
        refused = await ada.run_pipeline(pipeline["id"], other, modelName="m")
        assert (refused["__typename"], [tuple(issue["path"]) for issue in refused["issues"]]) == ("InvalidInput", [COLUMN])
        assert message in refused["issues"][0]["message"]
        assert "or draw the rows with the step 'split'" in refused["issues"][0]["message"]


def rows(*parts: str | None) -> pl.DataFrame:
    """Ten rows of each part."""
    split = [part for part in parts for _ in range(10)]
    x = [float(number) for number in range(len(split))]
    return pl.DataFrame({"split": split, "x": x, "label": [("a", "b")[number % 2] for number in range(len(split))]})


def test_values_that_are_no_part_are_left_out_and_validation_replaces_a_missing_test(tmp_path: Path) -> None:
    steps: Any = chain("split_by_column", "train_random_forest")
    frame = rows("Training", "dev", None, "extra")
    _, report = run(tmp_path, frame, steps, target="label")
    assert report.outputs["train_random_forest"]["left_out"] == ["split"]
    assert report.outputs["split_by_column"] == {
        "columns": 3,
        "strategy": "column",
        "train_rows": 10,
        "validation_rows": 0,
        "test_rows": 10,
        "note": "The parts are those of the column 'split'. It names no test rows, so the validation rows are the test. 20 rows are of no part and not used.",
    }
    # A group with rows on both sides is told, by its column.
    grouped = rows("train", "test").with_columns(group=pl.Series([f"g{number % 15}" for number in range(20)]))
    _, report = run(
        tmp_path, grouped, chain("split_by_column", ("drop_columns", {"columns": ["group"]}), "train_random_forest"), target="label"
    )
    assert report.outputs["split_by_column"]["leaks"] == [
        "5 groups of the column 'group' have rows in several parts, so that what is tested on may have been trained on."
    ]
    error = pipeline_error(tmp_path, rows("train", "x", "y"), steps, target="label")
    assert (error.code, error.path, error.column) == ("TOO_FEW_ROWS", list(COLUMN), "split")
    assert "has 10 rows for training and 0 for the test" in str(error)
    assert "Its values are 'train', 'x', 'y'." in str(error)
    numbers = pipeline_error(tmp_path, rows("train").with_columns(split=pl.lit(1)), steps, target="label")
    assert numbers.code == "WRONG_COLUMN_TYPE"
