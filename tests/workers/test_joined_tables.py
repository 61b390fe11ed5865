"""Tables that name files of their archive: of every format, with every way to name, and what is wrong with them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.archives import csv_of, image_of, npy_of, recording_of, tar_of, tone, vibration, wav_of, zip_of
from tests.exhaustive import exhaustive
from tests.workers.ingest_runner import ingest_error, items_of, run_ingest

PICTURES = {f"images/{number}.png": image_of(np.full((6, 8), 50 * number, np.uint8)) for number in range(4)}
ROWS = [{"id": number, "price": number / 2, "picture": f"images/{number}.png"} for number in range(4)]


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    target = io.BytesIO()
    pl.DataFrame(rows).write_parquet(target)
    return target.getvalue()


def _csv(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def joined(folder: Path, files: Mapping[str, bytes], **changes: Any) -> tuple[Any, pl.DataFrame]:
    return run_ingest(folder, zip_of(files), "m.zip", modality="MULTIMODAL", **changes)


TABLES = {
    "t.csv": _csv("id,price,picture", *(f"{row['id']},{row['price']},{row['picture']}" for row in ROWS)),
    "t.tsv": _csv("id\tprice\tpicture", *(f"{row['id']}\t{row['price']}\t{row['picture']}" for row in ROWS)),
    "t.jsonl": b"\n".join(json.dumps(row).encode() for row in ROWS),
    "t.json": json.dumps(ROWS).encode(),
    "t.parquet": _parquet(ROWS),
}


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", *map(exhaustive, ("t.tsv", "t.jsonl", "t.json"))])
def test_a_table_of_every_format_is_joined(name: str, tmp_path: Path) -> None:
    result, frame = joined(tmp_path, {name: TABLES[name]} | PICTURES)
    assert result["format"] == "ZIP"
    assert [(column["name"], column["type"]) for column in result["columns"]] == [
        ("id", "INTEGER"),
        ("price", "FLOAT"),
        ("picture", "STRING"),
        *((f"picture_{feature}", "FLOAT") for feature in ("width", "height", "brightness", "contrast", "sharpness")),
    ]
    assert frame["picture"].to_list() == [row["picture"] for row in ROWS]
    assert frame["picture_brightness"].to_list() == pytest.approx([50 * number / 255 for number in range(4)])
    assert [item["key"] for item in items_of(result)] == list(PICTURES)
    assert (result["issues"], {path.name for path in (tmp_path / "table").iterdir()}) == ([], set())


def test_a_file_is_what_its_content_is(tmp_path: Path) -> None:
    files = {
        "files/1.dat": image_of(np.zeros((6, 8), np.uint8)),
        "files/2.bin": npy_of(vibration(5, 1, length=64)),
        "files/3": recording_of(tone(440, 1, seconds=0.1)),
        "files/4.wav": wav_of(vibration(5, 1, length=500) / 2),
        "files/5.md": b"Some words.",
        "files/6.csv": csv_of(vibration(5, 2, length=50)),
        "files/7.png": recording_of(tone(440, 2, seconds=0.1)),
        "data.csv": _csv(
            "file,split,label", *(f"files/{name},train,{name[0]}" for name in ("1.dat", "2.bin", "3", "4.wav", "5.md", "6.csv", "7.png"))
        ),
    }
    result, frame = joined(tmp_path, files, reading={"sampleRate": 100.0})
    items = items_of(result)
    kinds = ["image", "signal", "audio", "audio", "text", "signal", "audio"]
    assert [item["info"]["kind"] for item in items] == kinds
    assert [(item["label"], item["split"]) for item in items] == [(str(number), "train") for number in range(1, 8)]
    assert result["items"]["summary"]["signal"]["traces"] == 2
    assert frame["file_width"].to_list() == [8, *[None] * 6]
    assert [value is not None for value in frame["file_rms"]] == [kind in ("signal", "audio") for kind in kinds]
    assert frame["file_text"].to_list() == [*[None] * 4, "Some words.", None, None]
    assert [issue["code"] for item in items for issue in item["issues"]] == ["OTHER_FORMAT"] or not items[6]["issues"]


def test_two_columns_may_name_files_and_one_file_be_named_often(tmp_path: Path) -> None:
    table = _csv("left,right,left_width", *(f"./images/{number}.png,{(number + 1) % 4}.png,{number}" for number in range(4)))
    result: Any
    result, frame = run_ingest(tmp_path, tar_of({"pairs.csv": table} | PICTURES), "m.tar", modality="MULTIMODAL")
    assert frame["left_brightness"].to_list() == pytest.approx([50 * number / 255 for number in range(4)])
    assert frame["right_brightness"].to_list() == pytest.approx([50 * number / 255 for number in (1, 2, 3, 0)])
    assert (frame["left_width"].to_list(), frame["left_width_2"].to_list()) == ([0, 1, 2, 3], [8] * 4)
    assert result["items"]["count"] == 4
    assert [item["metadata"] for item in items_of(result)][:2] == [{"column": "left", "row": 1}, {"column": "right", "row": 1}]


def test_what_is_missing_or_corrupt_leaves_its_row(tmp_path: Path) -> None:
    files = {f"images/{number:02}.png": image_of(np.full((6, 8), number, np.uint8)) for number in range(20)}
    files["images/03.png"] = b"\x89PNG\r\n\x1a\nno"
    rows = [f"{number},images/{number:02}.png" for number in range(19)] + ["19,images/lost.png", "20,"]
    result, frame = joined(tmp_path, {"t.csv": _csv("id,picture", *rows)} | files)
    assert [(issue["code"], issue["column"], issue["row"]) for issue in result["issues"]][:3] == [
        ("MISSING_FILE", "picture", 20),
        ("UNNAMED_FILES", None, None),
        ("CORRUPT_ITEM", None, None),
    ]
    assert (frame.height, [row for row, width in enumerate(frame["picture_width"]) if width is None]) == (21, [3, 19, 20])
    assert result["items"]["count"] == 19


def test_options_of_the_upload_are_of_the_table(tmp_path: Path) -> None:
    table = _csv("id;price;picture", *(f"00{number};1,5;images/{number}.png" for number in range(4)))
    _, frame = joined(tmp_path, {"t.csv": table} | PICTURES, reading={"columnTypes": {"price": "STRING"}})
    assert (frame["price"].to_list(), frame["id"].to_list()) == (["1,5"] * 4, ["000", "001", "002", "003"])


def test_of_several_tables_that_which_names_files_counts(tmp_path: Path) -> None:
    files = {"data.csv": _csv("a,b", "1,2", "3,4"), "other.csv": b"\0\1\2", "list.csv": TABLES["t.csv"]} | PICTURES
    result, frame = joined(tmp_path, files)
    assert (frame.columns[:3], [issue["code"] for issue in result["issues"]]) == (["id", "price", "picture"], ["UNNAMED_FILES"])


@pytest.mark.parametrize(
    ("data", "name", "code", "words"),
    [
        (TABLES["t.csv"], "t.csv", "UNSUPPORTED_FORMAT", "'t.csv' is no archive. Pack a table and the files"),
        (zip_of(PICTURES), "m.zip", "NO_FILE_COLUMN", "'m.zip' has no table at its top"),
        (zip_of({"t.csv": _csv("a,b", "1,x", "2,y")} | PICTURES), "m.zip", "NO_FILE_COLUMN", "No column of 't.csv' in 'm.zip' names files"),
        (
            zip_of({"t.csv": _csv("p", "images/1.png", "x.png", "y.png")} | PICTURES), "m.zip", "NO_FILE_COLUMN", "No column of 't.csv'",
        ),
        (zip_of({"t.csv": b""} | PICTURES), "m.zip", "EMPTY_FILE", "'t.csv'"),
        (zip_of({"t.parquet": _parquet(ROWS)[:-30]} | PICTURES), "m.zip", "UNREADABLE_FILE", "'t.parquet'"),
        (zip_of({"t.csv": TABLES["t.csv"]} | {name: content[:40] for name, content in PICTURES.items()}), "m.zip", "CORRUPT_ITEMS", "None of its 4 files"),
        (zip_of({"t.csv": TABLES["t.csv"], "in.zip": zip_of(PICTURES)} | PICTURES), "m.zip", "NESTED_ARCHIVE", "'in.zip'"),
        (b"", "m.zip", "EMPTY_FILE", "0 bytes"),
        (
            zip_of({"t.csv": _csv("f", *["f/a.xyz"] * 3), "f/a.xyz": b"\0\1"}), "m.zip", "CORRUPT_ITEMS", "is no image, recording, text",
        ),
    ],
)  # fmt: skip
def test_an_archive_without_table_or_files_is_refused_with_a_reason(data: bytes, name: str, code: str, words: str, tmp_path: Path) -> None:
    error = ingest_error(tmp_path, data, name, modality="MULTIMODAL")
    assert (error.code, words in error.message) == (code, True), (error.code, error.message)
