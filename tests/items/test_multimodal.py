"""A table whose cells name files of its archive becomes a version with those files as items, and their features as columns to train on."""

from __future__ import annotations

import io
import random

import httpx
import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.archives import image_of, recording_of, tone, zip_of
from tests.client import Client
from tests.predictions.predicting import predict_dataset, result

VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { format rowCount itemCount columns { name type } issues { code message column row }
  classLabels { label count } splits { label count } processedFile { downloadUrl }
  items(first: 100) { edges { node { key label split contentType metadata downloadUrl issues { code } preview { id }
    image { width } audio { codec } text { words } signal { samples } } } } } } }"""
ROWS = 24


def clinic() -> dict[str, bytes]:
    """The brightness of the picture and the pitch of the recording decide on the finding, and the age does not."""
    generator = random.Random(4)
    lines = ["patient,age,seen,picture,voice,note,finding"]
    files: dict[str, bytes] = {}
    for number in range(ROWS):
        is_ill = number % 2
        shade = 60 + 120 * is_ill + generator.randint(0, 20)
        files[f"pictures/{number}.png"] = image_of(np.random.default_rng(number).integers(shade - 9, shade + 9, (8, 8)).astype(np.uint8))
        files[f"voices/{number}.wav"] = recording_of(tone(300 + 1_500 * is_ill, number, seconds=0.2), "WAV")
        files[f"notes/{number}.txt"] = f"The patient number {number} feels as on the days before.".encode()
        voice = "" if number == 5 else "voices/lost.wav" if number == 6 else f"voices/{number}.wav"
        note = f"notes/{number % 3}.txt"
        lines.append(
            f"{number:03},{generator.randint(20, 80)},2026-01-{number + 1:02},./pictures/{number}.png,{voice},{note},{'ill' if is_ill else 'well'}"
        )
    files["pictures/7.png"] = files["pictures/7.png"][:60]
    return {f"clinic/{name}": content for name, content in files.items()} | {"clinic/data.csv": "\n".join(lines).encode()}


@pytest.mark.exhaustive
async def test_the_files_that_a_table_names_are_items_and_their_features_are_columns_to_train_on(ada: Client, worker: object) -> None:
    files = clinic()
    version = await ada.ingest("clinic", zip_of(files), "clinic.zip", modality="MULTIMODAL")
    found = await ada.one(VERSION, id=version)
    nodes = {edge["node"]["key"]: edge["node"] for edge in found.pop("items")["edges"]}
    table = pl.read_parquet(httpx.get(found.pop("processedFile")["downloadUrl"], verify=False).content)
    types = {column["name"]: column["type"] for column in found.pop("columns")}
    assert list(types) == table.columns
    assert {name: types[name] for name in list(types)[:7]} == {
        "patient": "STRING", "age": "INTEGER", "seen": "DATE", "picture": "STRING", "voice": "STRING", "note": "CATEGORY", "finding": "CATEGORY",
    }  # fmt: skip
    assert {"picture_width", "picture_brightness", "voice_dominant_frequency", "voice_duration", "note_text", "note_words"} <= {*types}
    assert found["issues"].pop(0)["code"] == "KEPT_AS_TEXT", "of the patients' numbers"
    lost = "Row 7 names 'voices/lost.wav' in the column 'voice', and the archive has no such file."
    assert found == {
        "format": "ZIP",
        "rowCount": ROWS,
        "itemCount": ROWS + ROWS - 2 + 3,
        "issues": [
            {"code": "MISSING_FILE", "message": lost, "column": "voice", "row": 7},
            {
                "code": "UNNAMED_FILES",
                "message": "23 files are in no row of 'data.csv', first 'notes/3.txt'; they are no items.",
                "column": None,
                "row": None,
            },
            {"code": "CORRUPT_ITEM", "message": "'pictures/7.png': The file is damaged or cut off.", "column": None, "row": None},
        ],
        "classLabels": [],
        "splits": [],
    }
    picture, voice, note, broken = (nodes[key] for key in ("pictures/2.png", "voices/2.wav", "notes/2.txt", "pictures/7.png"))
    assert (picture["image"], picture["audio"]) == ({"width": 8}, None)
    assert picture["metadata"] == {"column": "picture", "row": 3, "patient": "002"}
    assert (voice["audio"], voice["contentType"], voice["metadata"]["column"]) == ({"codec": "PCM_16"}, "audio/wav", "voice")
    assert (note["text"], note["metadata"]["column"]) == ({"words": 10}, "note")
    assert (broken["image"], [issue["code"] for issue in broken["issues"]]) == (None, ["CORRUPT_ITEM"])
    assert (await ada.http.get(voice["downloadUrl"])).content == files["clinic/voices/2.wav"]
    assert picture["preview"] is not None
    with Image.open(io.BytesIO(files["clinic/pictures/2.png"])) as image:
        pixels = np.asarray(image)
    assert table["picture_brightness"][2] == pytest.approx(pixels.mean() / 255)
    assert [row for row, value in enumerate(table["picture_brightness"]) if value is None] == [7]
    assert [row for row, value in enumerate(table["voice_duration"]) if value is None] == [5, 6]
    assert table["patient"][3] == "003"
    assert table["note_text"][4] == "The patient number 1 feels as on the days before."

    steps = [
        ("data", "dataset", {}),
        ("files", "use_files", {"column": "picture"}),
        ("pixels", "image_pixels", {}),
        ("split", "split", {"strategy": "stratified", "test_fraction": 0.3}),
        (
            "train",
            "train_random_forest",
            {"target": "finding", "exclude": ["patient", "picture", "voice", "note", "note_text", "note_language", "seen"]},
        ),
        ("evaluate", "evaluate", {}),
    ]
    pipeline = (await ada.create_pipeline("clinic", *steps, modality="MULTIMODAL"))["pipeline"]["id"]
    started = await ada.run_pipeline(pipeline, version, seed=7)
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    run = await ada.one("query($id: ID!) { run(id: $id) { metrics { key last } } }", id=started["run"]["id"])
    assert {metric["key"]: metric["last"] for metric in run["metrics"]}["accuracy"] >= 0.9
    assert {node["key"]: node["output"] for node in ended["nodes"]}["files"] == {"rows": ROWS, "column": "picture", "rows_without_file": 1}

    model = ended["outputs"][0]["id"]
    submitted = await predict_dataset(ada, model, version)
    answered = await result(ada, submitted["job"]["id"])
    assert (answered["rows"], answered["predicted"]) == (ROWS, ROWS)
    (issue,) = [issue for issue in answered["issues"] if issue["code"] == "MISSING_FILE"]
    assert (issue["column"], issue["count"], issue["firstRow"]) == ("picture", 1, 8)
    other = await ada.ingest(
        "other", zip_of({"data.csv": b"photo,age\n1.png,30\n", "1.png": files["clinic/pictures/1.png"]}), "o.zip", modality="MULTIMODAL"
    )
    refused = await predict_dataset(ada, model, other)
    assert refused["issues"][0] == {
        "path": ["datasetVersionId"],
        "message": "The model reads the files that texts in the column 'picture' name, and the version has no such column. Choose another version.",
    }


async def test_steps_that_do_not_fit_a_table_with_files_are_refused_before_the_job(ada: Client, worker: object) -> None:
    table = b"n,picture\n1,1.png\n"
    version = await ada.ingest(
        "one", zip_of({"data.csv": table, "1.png": image_of(np.eye(8, dtype=np.uint8))}), "o.zip", modality="MULTIMODAL"
    )
    files, pixels = ("files", "use_files", {}), ("pixels", "image_pixels", {})
    for name, steps, message in (
        ("p1", [pixels], "'pixels' works on the contents of files, and no step before it says of which. Link a use_files step before it."),
        (
            "p2",
            [files, ("windows", "signal_windows", {"length": 16}), ("write", "signal_features", {})],
            "'windows' makes other items, and the rows of a MULTIMODAL version are no items: each names some. Remove the step.",
        ),
        ("p3", [("files", "use_files", {"column": "photo"}), pixels], "The dataset version has no column 'photo'."),
    ):
        created = await ada.create_pipeline(name, ("data", "dataset", {}), *steps, modality="MULTIMODAL")
        refused = await ada.run_pipeline(created["pipeline"]["id"], version)
        assert [issue["message"].partition(": ")[2] for issue in refused["issues"]] == [message]
    created = await ada.create_pipeline("p4", ("data", "dataset", {}), files, ("again", "use_files", {}), pixels, modality="MULTIMODAL")
    assert created["pipeline"]["status"] == "DRAFT"
    refused = await ada.create_pipeline("p5", ("data", "dataset", {}), files, pixels, modality="IMAGE")
    assert refused["issues"][0]["message"] == "The step 'use_files' does not work on IMAGE data, but on MULTIMODAL."


async def test_a_table_alone_is_refused_before_it_is_sent(ada: Client) -> None:
    dataset = await ada.create_dataset("clinic", modality="MULTIMODAL")
    refused = await ada.one(
        "mutation($input: RequestUploadInput!) { requestUpload(input: $input) { ... on InvalidInput { issues { path message } } } }",
        input={"datasetId": dataset, "filename": "clinic.csv", "sizeBytes": 100},
    )
    assert [issue["path"] for issue in refused["issues"]] == [["filename"]]
    assert refused["issues"][0]["message"] == (
        "A file that ends in .csv is a table without the files that it names, which cannot be read."
        " Send an archive (.zip, .tar, .tar.gz, .tar.zst) of a table and of the files that a column of it names."
    )
