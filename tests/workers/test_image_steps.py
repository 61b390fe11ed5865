"""What steps make of the contents of images: each against an independent computation, and copies of training rows alone."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from PIL import Image, ImageOps

from tests.archives import image_of, tar_of, zip_of
from tests.lazy_module import LazyModule
from tests.workers.item_files import ingested, predict_items
from tests.workers.pipeline_runner import PipelineRecorder, artifact_path, chain, pipeline_error, run
from workers.ml.contents import images
from workers.ml.contents.content import Content
from workers.ml.contents.places import ItemFiles
from workers.ml.exports import onnx_model

TRUST: Any = LazyModule("workers.ml.artifacts.trust")
RANDOM = np.random.default_rng(5)
GREY = RANDOM.integers(0, 256, (9, 12)).astype(np.uint8)
COLOURED = RANDOM.integers(0, 256, (24, 20, 3)).astype(np.uint8)
DROPPED = ("drop_columns", {"columns": ["key", "width", "height", "brightness", "contrast", "sharpness"]})


def content(pixels: npt.NDArray[np.uint8]) -> Content:
    values = pixels.astype(np.float32) / 255
    return Content("image", values if values.ndim == 3 else values[..., None])


def table(folder: Path, files: dict[str, bytes], *steps: Any) -> pl.DataFrame:
    """The rows that a pipeline makes of an archive."""
    frame, items = ingested(folder / "ingest", zip_of(files), "i.zip", "IMAGE")
    result, _ = run(folder, frame, chain(*steps), items=items)
    return pl.read_parquet(result["parquet"])


def test_pixels_are_columns_row_by_row(tmp_path: Path) -> None:
    rows = table(tmp_path, {"a/1.png": image_of(GREY), "b/2.png": image_of(255 - GREY)}, DROPPED, "image_pixels")
    names = [f"pixel_{number}" for number in range(1, 109)]
    assert rows.columns == ["label", *names]
    assert rows["label"].to_list() == ["a", "b"]
    np.testing.assert_allclose(rows.select(names).to_numpy(), np.stack([GREY.ravel(), 255 - GREY.ravel()]) / 255, atol=1e-6)


def test_where_an_image_is_transparent_white_shows_and_colours_become_grey(tmp_path: Path) -> None:
    transparent = np.dstack([COLOURED, np.full(COLOURED.shape[:2], 51, np.uint8)])
    files = {"a/1.png": image_of(COLOURED), "b/2.png": image_of(transparent)}
    values = table(tmp_path, files, DROPPED, "grayscale", "image_pixels").drop("label").to_numpy()
    grey = (COLOURED @ [0.299, 0.587, 0.114]).ravel() / 255
    np.testing.assert_allclose(values, np.stack([grey, 0.2 * grey + 0.8]), atol=1e-6)


def test_images_of_several_sizes_are_made_alike(tmp_path: Path) -> None:
    files = {"a/1.png": image_of(GREY), "b/2.png": image_of(GREY.repeat(2, 0).repeat(2, 1))}
    frame, items = ingested(tmp_path / "ingest", zip_of(files), "i.zip", "IMAGE")
    error = pipeline_error(tmp_path, frame, chain(DROPPED, "image_pixels"), items=items)
    assert (error.code, error.path) == ("DIFFERENT_SIZES", ["definition", "nodes", "2", "parameters"])
    assert error.message.startswith("Step 'image_pixels' makes 432 columns of the item 'b/2.png', and 108 of others.")
    box = ("resize_image", {"width": 4, "height": 3, "method": "box"})
    (tmp_path / "again").mkdir()
    values = table(tmp_path / "again", files, DROPPED, box, "image_pixels").drop("label").to_numpy()
    means = (GREY / 255).reshape(3, 3, 4, 3).mean(axis=(1, 3)).ravel()
    np.testing.assert_allclose(values, np.stack([means, means]), atol=1e-6)


@pytest.mark.parametrize(("fit", "reference"), [("pad", ImageOps.pad), ("cover", ImageOps.fit)])
def test_proportions_are_kept_by_padding_or_cutting(fit: Any, reference: Any) -> None:
    found = images.resize(content(COLOURED), width=6, height=12, fit=fit, method="box").values
    expected = np.asarray(reference(Image.fromarray(COLOURED), (6, 12), Image.Resampling.BOX)) / 255
    assert found.shape == (12, 6, 3)
    np.testing.assert_allclose(found, expected, atol=2 / 255)


def test_crops_and_contrast() -> None:
    image = content(GREY)
    center = images.crop_center(image, width=4, height=3).values[..., 0]
    np.testing.assert_array_equal(center, image.values[3:6, 4:8, 0])
    box = images.crop_box(image, left=1, top=2, width=5, height=4).values[..., 0]
    np.testing.assert_array_equal(box, image.values[2:6, 1:6, 0])
    with pytest.raises(images.ContentError, match="has 12×9 pixels, and at least 13×2 are needed"):
        images.crop_box(image, left=10, top=0, width=3, height=2)
    ranged, standard = (images.normalise(image, method=method).values for method in ("range", "standard"))
    assert (float(ranged.min()), float(ranged.max())) == (0, 1)
    np.testing.assert_allclose([standard.mean(), standard.std()], [0, 1], atol=1e-6)
    assert not images.normalise(content(np.full((3, 3), 7, np.uint8)), method="standard").values.any()


def test_turns_are_those_of_pillow() -> None:
    image = content(COLOURED)
    generator = np.random.default_rng(0)
    turned = images.rotate(image, generator, 0, angles=(30.0,), max_angle=15).values
    expected = np.asarray(Image.fromarray(COLOURED).rotate(30, Image.Resampling.BILINEAR)) / 255
    np.testing.assert_allclose(turned[8:16, 6:14], expected[8:16, 6:14], atol=2 / 255)
    np.testing.assert_array_equal(images.rotate(image, generator, 1, angles=(30.0, 180.0), max_angle=15).values, image.values[::-1, ::-1])
    np.testing.assert_array_equal(images.flip(image, generator, 1, directions=("horizontal", "vertical")).values, image.values[::-1])


def _histograms(values: npt.NDArray[np.float64], orientations: int, cell: int, block: int) -> list[float]:
    """HOG pixel by pixel, as N. Dalal and B. Triggs (2005) describe it."""
    height, width, bands = values.shape
    cells = np.zeros((height // cell, width // cell, orientations))
    for row in range(cells.shape[0] * cell):
        for column in range(cells.shape[1] * cell):
            best = (0.0, 0.0, -1.0)
            for band in range(bands):
                down = values[row + 1, column, band] - values[row - 1, column, band] if 0 < row < height - 1 else 0.0
                across = values[row, column + 1, band] - values[row, column - 1, band] if 0 < column < width - 1 else 0.0
                if math.hypot(down, across) > best[2]:
                    best = (down, across, math.hypot(down, across))
            angle = math.degrees(math.atan2(best[0], best[1])) % 180
            cells[row // cell, column // cell, min(int(angle * orientations / 180), orientations - 1)] += best[2] / cell**2
    found: list[float] = []
    for row in range(cells.shape[0] - block + 1):
        for column in range(cells.shape[1] - block + 1):
            vector = cells[row : row + block, column : column + block].ravel()
            vector = np.minimum(vector / math.sqrt(float((vector**2).sum()) + 1e-10), 0.2)
            found += (vector / math.sqrt(float((vector**2).sum()) + 1e-10)).tolist()
    return found


@pytest.mark.parametrize("pixels", [COLOURED, COLOURED[..., :1]])
def test_histograms_of_gradients_are_those_of_their_definition(pixels: npt.NDArray[np.uint8]) -> None:
    image = content(pixels)
    found = images.hog(image, orientations=9, cell=5, block=2)
    np.testing.assert_allclose(found, _histograms(image.values.astype(np.float64), 9, 5, 2), atol=1e-9)
    with pytest.raises(images.ContentError, match="a block of 2×2 cells of 11×11 pixels needs 22×22"):
        images.hog(image, orientations=9, cell=11, block=2)


def _training(folder: Path) -> tuple[pl.DataFrame, ItemFiles]:
    """Twelve images of 2×2 pixels, one of which is lit; its place tells the class."""
    files = {}
    for number in range(12):
        pixels = np.zeros((2, 2), np.uint8)
        pixels[number % 2, 0] = 100 + number
        files[f"{'ab'[number % 2]}/{number:02}.png"] = image_of(pixels)
    return ingested(folder / "ingest", tar_of(files), "i.tar", "IMAGE")


def _learned(folder: Path, *steps: Any) -> tuple[npt.NDArray[np.float64], list[str], Any, Any]:
    frame, items = _training(folder)
    neighbours = ("train_k_nearest_neighbors", {"n_neighbors": 1, "target": "label"})
    result, report = run(folder, frame, chain(DROPPED, *steps, neighbours, *(("cross_validate", {"folds": 2}),)), items=items)
    model = TRUST.load_model(artifact_path(result, "MODEL"))["model"]
    return np.round(model._fit_X * 255), model.classes_[model._y].tolist(), report, result


def test_copies_are_made_of_training_rows_alone(tmp_path: Path) -> None:
    split = ("split", {"strategy": "random", "test_fraction": 0.25})
    rows, labels, report, result = _learned(tmp_path, split, "flip_image", "image_pixels")
    assert report.outputs["flip_image"] == {"training_rows": 18, "training_rows_before": 9}
    assert report.outputs["split"]["test_rows"] == 3
    assert report.outputs["train_k_nearest_neighbors"]["training_rows"] == 18
    # Each training image, and its mirror image with the same label.
    np.testing.assert_array_equal(rows[9:].reshape(-1, 2, 2), rows[:9].reshape(-1, 2, 2)[:, :, ::-1])
    assert labels[9:] == labels[:9]
    assert {label: {int(row.argmax() // 2) for row, each in zip(rows, labels, strict=True) if each == label} for label in "ab"} == {
        "a": {0},
        "b": {1},
    }
    # In a fold, the nearest of a row is not its own copy: the brightness tells each image from the others.
    assert report.outputs["cross_validate"]["rows"] == 9
    signature = json.loads(artifact_path(result, "SIGNATURE").read_text())
    assert signature["contents"] == {
        "modalities": ["IMAGE"],
        "steps": [{"key": "image_pixels", "step": "image_pixels", "parameters": {"name": "pixel"}}],
        "columns": {"image_pixels": [f"pixel_{number}" for number in range(1, 5)]},
    }
    assert signature["inputs"][0]["from"] == {"content": "image_pixels"}
    card = artifact_path(result, "MODEL_CARD").read_text()
    assert "rows used | 12 |" in card
    assert "the columns `pixel_1`, `pixel_2`, `pixel_3`, `pixel_4` that the steps read from items" in card


def test_no_fold_learns_from_copies_of_the_rows_that_it_predicts(tmp_path: Path) -> None:
    """Copies are equal to their images, and labels are random: whoever has the copy knows the label."""
    generator = np.random.default_rng(2)
    files = {
        f"{'ab'[generator.integers(2)]}/{number:02}.png": image_of(generator.integers(0, 256, (3, 3)).astype(np.uint8))
        for number in range(60)
    }
    frame, items = ingested(tmp_path / "ingest", zip_of(files), "i.zip", "IMAGE")
    keep = ("select_columns", {"columns": ["label"]})
    train = ("train_k_nearest_neighbors", {"n_neighbors": 1, "target": "label"})
    steps = (
        keep,
        ("rotate_image", {"angles": [360.0]}),
        "image_pixels",
        train,
        ("cross_validate", {"folds": 4}),
        ("evaluate", {"part": "train"}),
    )
    _, report = run(tmp_path, frame, chain(*steps), items=items)
    assert report.outputs["evaluate"]["metrics"]["train_accuracy"] == 1
    assert report.outputs["cross_validate"]["metrics"]["cv_accuracy_mean"] < 0.8


def test_copies_of_copies_and_random_turns_are_the_same_in_each_run(tmp_path: Path) -> None:
    steps = (("flip_image", {"directions": ["horizontal", "vertical"], "copies": 2}), ("rotate_image", {"max_angle": 90}), "image_pixels")
    first, _, report, _ = _learned(tmp_path, *steps)
    assert report.outputs["flip_image"]["training_rows"] == 3 * report.outputs["flip_image"]["training_rows_before"]
    assert report.outputs["rotate_image"]["training_rows"] == 2 * report.outputs["flip_image"]["training_rows"] == len(first)
    (tmp_path / "again").mkdir()
    np.testing.assert_array_equal(first, _learned(tmp_path / "again", *steps)[0])
    assert len(np.unique(first, axis=0)) > len(first) // 2


@pytest.mark.parametrize(
    ("steps", "code", "words", "node"),
    [
        (["resize_image"], "UNSOUND_PIPELINE", "No step after 'resize_image' reads the contents that it changes. Link a step after it that does: image_pixels, ", "1"),
        ([("image_pixels", {"name": "label"}), ("image_pixels", {"name": "label"})], "NAME_TAKEN", "makes the column 'label_1', but there is one", "2"),
        ([("crop_image", {"width": 3, "height": 1}), "image_pixels"], "BAD_CONTENT", "Step 'crop_image' cannot use the item 'a/00.png': it has 2×2 pixels", "1"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(tmp_path: Path, steps: list[Any], code: str, words: str, node: str) -> None:
    frame, items = _training(tmp_path)
    error = pipeline_error(tmp_path, frame, chain(*steps), items=items)
    assert (error.code, error.path and error.path[2]) == (code, node)
    assert words in error.message
    if code == "BAD_CONTENT":
        error = pipeline_error(tmp_path, frame, chain("image_pixels"))
        assert (error.code, error.path) == ("NO_ITEMS", ["definition", "nodes", "1", "step"])


def test_an_item_that_a_model_cannot_read_has_no_prediction_and_is_told(tmp_path: Path) -> None:
    train = ("train_k_nearest_neighbors", {"n_neighbors": 1, "target": "label"})
    frame, items = _training(tmp_path)
    crop = ("crop_image", {"width": 2, "height": 2})
    result, _ = run(tmp_path, frame, chain(("select_columns", {"columns": ["label"]}), crop, "image_pixels", train), items=items)
    lit = np.array([[0, 0], [120, 0]], np.uint8)
    files = {"a/1.png": image_of(lit), "b/2.png": image_of(lit[:1]), "b/3.png": image_of(lit[::-1].copy()), "c/4.png": image_of(lit[1:])}
    others, other_items = ingested(tmp_path / "others", zip_of(files), "o.zip", "IMAGE")
    predicted = predict_items(tmp_path, result, others, other_items)
    assert pl.read_parquet(predicted["parquet"])["prediction"].to_list() == ["b", None, "a", None]
    assert (predicted["answer"]["rows"], predicted["answer"]["predicted"]) == (4, 2)
    assert predicted["answer"]["issues"] == [
        {
            "code": "UNUSABLE_ITEM",
            "message": "In 2 rows, the first is row 2, the step 'crop_image' of the model cannot use the item; there is no prediction.",
            "column": "crop_image",
            "count": 2,
            "firstRow": 2,
            "values": ["b/2.png", "c/4.png"],
        }
    ]


def test_formulas_of_what_is_read_cannot_be_computed_of_copies(tmp_path: Path) -> None:
    frame, items = _training(tmp_path)
    derive = ("derive_columns", {"columns": [{"name": "twice", "formula": "pixel_1 * 2"}]})
    train = ("train_k_nearest_neighbors", {"n_neighbors": 1, "target": "label"})
    error = pipeline_error(tmp_path, frame, chain(DROPPED, "flip_image", "image_pixels", derive, train), items=items)
    assert (error.code, error.column, error.path and error.path[2]) == ("NOT_SUPPORTED", "twice", "2")


def test_filtered_rows_are_not_read_and_the_others_keep_their_images(tmp_path: Path) -> None:
    frame, items = _training(tmp_path)
    condition = ("filter_rows", {"conditions": [{"column": "label", "operator": "equals", "value": "b"}]})
    bright = ("filter_rows", {"conditions": [{"column": "pixel_3", "operator": "greater_than", "value": 106 / 255}]})
    result, report = run(tmp_path, frame, chain(condition, DROPPED, "image_pixels", bright), items=items)
    assert report.outputs["image_pixels"] == {"rows": 6, "columns": 5, "added_columns": 4}
    np.testing.assert_allclose(pl.read_parquet(result["parquet"])["pixel_3"].to_numpy() * 255, [107, 109, 111], rtol=1e-6)


@pytest.mark.exhaustive
def test_an_image_of_a_file_is_itself(tmp_path: Path) -> None:
    target = io.BytesIO()
    Image.fromarray(COLOURED).save(target, "PNG")
    frame, items = ingested(tmp_path / "ingest", target.getvalue(), "one.png", "IMAGE")
    result, _ = run(tmp_path, frame, chain("image_pixels"), items=items)
    np.testing.assert_allclose(
        pl.read_parquet(result["parquet"]).select(pl.selectors.starts_with("pixel_")).to_numpy()[0], COLOURED.ravel() / 255, atol=1e-6
    )


def test_a_model_of_pixels_is_exported_with_its_columns(tmp_path: Path) -> None:
    frame, items = _training(tmp_path)
    steps = (("select_columns", {"columns": ["label"]}), "image_pixels", ("train_logistic_regression", {"target": "label"}))
    result, _ = run(tmp_path, frame, chain(*steps), items=items)
    (tmp_path / "export").mkdir()
    spec: onnx_model.ModelExportSpec = {
        "model": str(artifact_path(result, "MODEL")),
        "signature": str(artifact_path(result, "SIGNATURE")),
        "parquet": str(tmp_path / "in.parquet"),
        "folder": str(tmp_path / "export"),
        "stem": "m",
        "name": "Version 1 of the model 'm'",
        "items": items,
    }
    exported = onnx_model.export_model(spec, PipelineRecorder())
    assert exported["rows"] == 12
    described = json.loads(Path(exported["files"][1]["path"]).read_text())
    assert described["inputs"][0] == {
        "name": "pixel_1",
        "column": "pixel_1",
        "type": "float",
        "missing": "NaN",
        "from": {"content": "image_pixels"},
    }


_PEAK = """
import resource, sys
from pathlib import Path
import polars as pl
from tests.workers.pipeline_runner import chain, run
folder = Path(sys.argv[1])
files = {"raw": str(folder / "raw"), "pack": None, "places": str(folder / "places.jsonl")}
steps = ("grayscale", ("resize_image", {"width": 8, "height": 8}), "image_pixels", ("image_hog", {"cell": 2}))
result, report = run(folder, pl.read_parquet(folder / "table.parquet"), chain(*steps), items=files)
print(report.outputs["image_pixels"]["rows"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.exhaustive
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """Ten thousand images of 64×64 pixels take little more than a thousand: what is read of them."""
    peaks: list[int] = []
    generator = np.random.default_rng(1)
    for count in (1_000, 10_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        keys = [f"{number:05}.png" for number in range(count)]
        with (folder / "raw").open("wb") as raw, (folder / "places.jsonl").open("w") as places:
            for key in keys:
                content = image_of(generator.integers(0, 256, (64, 64, 3)).astype(np.uint8))
                places.write(json.dumps([key, {"kind": "image"}, raw.tell(), len(content), "stored", len(content), False]) + "\n")
                raw.write(content)
        pl.DataFrame({"key": keys}).write_parquet(folder / "table.parquet")
        done = subprocess.run([sys.executable, "-c", _PEAK, str(folder)], check=True, capture_output=True, text=True).stdout.split()
        assert int(done[0]) == count
        peaks.append(int(done[1]))
    cells = 10_000 * (64 + 9 * 36) * 8 // 2**20  # MiB of all columns that are read
    assert peaks[1] - peaks[0] < 4 * cells, peaks
