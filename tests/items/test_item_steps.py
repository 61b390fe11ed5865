"""Pipelines on the contents of items: trained, predicted on other items, and refused where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from tests.archives import image_of, recording_of, tar_of, tone, zip_of
from tests.client import Client
from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.predictions.predicting import answer, load_model, predict, predict_dataset, read_version, result

DATASETS: Any = LazyModule("sklearn.datasets")
FEATURES = ["key", "width", "height", "brightness", "contrast", "sharpness"]
METRICS = "query($id: ID!) { node(id: $id) { ... on ModelVersion { metrics { key last } } } }"


def digits(first: int, end: int) -> tuple[dict[str, bytes], npt.NDArray[np.float64], list[str]]:
    """Real digits as files by class; their pixels from 0 to 1 and their labels, in the order of the files."""
    data = DATASETS.load_digits()
    pixels = (data.images[first:end] * 15).astype(np.uint8)
    labels = [str(label) for label in data.target[first:end]]
    files = {f"{label}/{number:04}.png": image_of(image) for number, (image, label) in enumerate(zip(pixels, labels, strict=True))}
    return files, pixels.reshape(len(pixels), -1) / 255, labels


async def _pipeline(ada: Client, name: str, *steps: tuple[str, str, dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return await ada.create_pipeline(name, ("data", "dataset", {}), *steps, **{"modality": "IMAGE", **fields})


async def _accuracy(ada: Client, model: str) -> float:
    metrics = (await ada.one(METRICS, id=model))["metrics"]
    return next(metric["last"] for metric in metrics if metric["key"] == "accuracy")


@pytest.mark.parametrize(
    ("count", "reader"), [(250, ("image_pixels", {})), exhaustive(1_697, ("image_hog", {"cell": 2, "orientations": 8}))]
)
async def test_a_classifier_of_digits_is_trained_and_reads_others(ada: Client, worker: object, count: int, reader: tuple[str, Any]) -> None:
    version = await ada.ingest("digits", tar_of(digits(0, count)[0]), "digits.tar", modality="IMAGE")
    steps = (("drop", "drop_columns", {"columns": FEATURES}), ("read", *reader), ("train", "train_svm", {"target": "label"}))
    created = await _pipeline(ada, "digits", *steps)
    assert created["pipeline"]["status"] == "VALIDATED"
    started = await ada.run_pipeline(created["pipeline"]["id"], version, seed=7, modelName="digits")
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    outputs = {node["key"]: node["output"] for node in ended["nodes"]}
    width = outputs["read"]["added_columns"]
    assert outputs["read"] == {"rows": count, "columns": width + 1, "added_columns": width}
    model = ended["outputs"][0]["id"]
    assert await _accuracy(ada, model) >= (0.95 if count > 250 else 0.85)

    files, pixels, labels = digits(1_697, 1_797)
    other = await ada.ingest("others", tar_of(files), "others.tar", modality="IMAGE")
    submitted = await predict_dataset(ada, model, other)
    answered = await result(ada, submitted["job"]["id"])
    assert (answered["rows"], answered["predicted"], answered["issues"]) == (100, 100, [])
    job = await ada.one("query($id: ID!) { job(id: $id) { outputs { ... on DatasetVersion { id } } } }", id=submitted["job"]["id"])
    written = await read_version(ada, job["outputs"][0]["id"])
    truth = dict(zip(files, labels, strict=True))
    assert written["label"].to_list() == [truth[key] for key in written["key"]]
    assert (written["prediction"].cast(pl.String) == written["label"]).sum() >= (90 if count > 250 else 80)
    if reader[0] == "image_hog":  # it is compared on the items that it was trained on
        exported = await ada.export(None, "ONNX", modelVersionId=model)
        assert [file["filename"] for file in exported["files"]] == ["digits-v1.onnx", "signature.json"]
    if reader[0] == "image_pixels":
        names = [f"pixel_{number}" for number in range(1, 65)]
        values = {key: dict(zip(names, row, strict=True)) for key, row in zip(files, pixels.astype(np.float32).tolist(), strict=True)}
        rows = [values[key] for key in written["key"]]
        expected = (await load_model(ada, model)).predict(pl.DataFrame(rows).to_pandas())
        assert written["prediction"].to_list() == expected.tolist()
        assert [row["prediction"] for row in (await answer(ada, model, rows[:3]))["predictions"]] == expected[:3].tolist()
        refused = await predict(ada, model, [{"brightness": 0.5}])
        assert refused["issues"] == [
            {
                "path": ["rows"],
                "message": "No row has the columns "
                + ", ".join(repr(name) for name in names[:10])
                + " and 54 more, which the model needs. The model reads them "
                "from the contents of items: use `predictDataset` on a version with IMAGE items, or give the values.",
            }
        ]
        table = await ada.ingest("table", pl.DataFrame(rows).write_csv())
        refused = await predict_dataset(ada, model, table)
        assert refused["issues"] == [
            {
                "path": ["datasetVersionId"],
                "message": "The model reads the contents of IMAGE items, and the version has none. Choose a version of such a dataset.",
            }
        ]


@pytest.mark.exhaustive
async def test_recordings_of_several_rates_are_told_apart(ada: Client, worker: object) -> None:
    """By a band that is stronger than the other tone's, whatever the rate: no feature of the ingest's table is used."""
    files = {
        f"{label}/{number:02}.flac": recording_of(tone(frequency, number, rate=rate, noise=0.2), "FLAC", rate)
        for label, frequency in (("low", 500.0), ("high", 900.0))
        for number in range(16)
        for rate in [(8_000, 16_000)[number % 2]]
    }
    version = await ada.ingest("tones", zip_of(files), "tones.zip", modality="AUDIO")
    steps = (
        ("keep", "select_columns", {"columns": ["label"]}),
        ("mono", "audio_mono", {}),
        ("rate", "resample_audio", {"rate": 8_000}),
        ("features", "audio_features", {"bands": 16, "coefficients": 4, "top": 4_000}),
        ("train", "train_k_nearest_neighbors", {"target": "label", "n_neighbors": 1}),
    )
    created = await _pipeline(ada, "tones", *steps, modality="AUDIO")
    started = await ada.run_pipeline(created["pipeline"]["id"], version, seed=7)
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    assert await _accuracy(ada, ended["outputs"][0]["id"]) == 1


async def test_what_has_no_images_is_refused_before_the_job(ada: Client, worker: object) -> None:
    pixels = ("read", "image_pixels", {})
    refused = await _pipeline(ada, "p", pixels, modality="TABULAR")
    assert refused["issues"] == [
        {"path": ["definition", "nodes", "1", "step"], "message": "The step 'image_pixels' does not work on TABULAR data, but on IMAGE."}
    ]
    images = (await _pipeline(ada, "images", pixels))["pipeline"]["id"]
    table = await ada.ingest("table", "a,b\n1,2\n3,4\n")
    refused = await ada.run_pipeline(images, table)
    assert refused["issues"] == [
        {
            "path": ["definition", "nodes", "1", "step"],
            "message": "Node 'read' of the pipeline: 'read' works on the contents of IMAGE items, and the dataset holds TABULAR data. Remove the step, or choose a "
            "version of such a dataset.",
        }
    ]
    # Nothing reads what is resized: the pipeline stays a draft, and columns of no reader are unknown.
    created = await _pipeline(ada, "unread", ("small", "resize_image", {"width": 4, "height": 4}))
    assert created["pipeline"]["status"] == "DRAFT"
    version = await ada.ingest("one", image_of(np.eye(8, dtype=np.uint8)), "one.png", modality="IMAGE")
    refused = await ada.run_pipeline(created["pipeline"]["id"], version)
    assert [issue["message"] for issue in refused["issues"]] == [
        "Node 'small' of the pipeline: No step after 'small' reads the contents that it changes. Link a step after it that does: image_hog, image_pixels."
    ]
    scale = ("scale", "scale", {"columns": ["pixel_1", "point_1"]})
    refused = await ada.run_pipeline((await _pipeline(ada, "scaled", pixels, scale))["pipeline"]["id"], version)
    assert [(issue["path"][-1], issue["message"]) for issue in refused["issues"]] == [
        ("1", "Node 'scale' of the pipeline: The dataset version has no column 'point_1'.")
    ]
    assert (await ada.one("{ jobs(filter: {kind: [TRAIN, PROCESS]}) { totalCount } }"))["totalCount"] == 0
