"""The items of a version as archives that libraries of machine learning read, and that are ingested again."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.archives import image_of, npy_of, recording_of, tar_of, tone, vibration, zip_of
from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.videos import exact_video_of, moving_bar, shade, video_of
from tests.workers.ingest_runner import ingest_error, items_of, run_ingest
from tests.workers.item_files import ingested
from tests.workers.pipeline_runner import PipelineRecorder
from workers.ml.errors import BadInput
from workers.ml.exports import items as exported_items
from workers.ml.exports.export import export_dataset
from workers.ml.exports.items import Names
from workers.ml.exports.source import DetailedItemFiles, ExportSpec
from workers.ml.items import limits

DATASETS: Any = LazyModule("datasets")


def picture(seed: int, format_name: str = "PNG") -> bytes:
    return image_of(np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8), format_name)


class Items:
    """A version of an archive, exported into new folders."""

    def __init__(self, folder: Path, files: dict[str, bytes], modality: str, name: str = "a.zip") -> None:
        self.folder, self.modality, self.made = folder, modality, 0
        content = tar_of(files) if name.endswith("tar") else zip_of(files, stored=list(files)[::2])
        self.frame, places = ingested(folder / "version", content, name, modality, ("content_type", "metadata"))
        self.places: Any = places

    def export(self, export_format: str, **options: Any) -> dict[str, bytes]:
        """The content of each file by its path."""
        self.made += 1
        folder = self.folder / f"out{self.made}"
        folder.mkdir()
        places: DetailedItemFiles = self.places
        target = {name: column for name, column in (("target", "label"), ("splitColumn", "split")) if column in self.frame.columns}
        spec: ExportSpec = {
            "parquet": str(self.folder / "version" / "processed.parquet"),
            "folder": str(folder),
            "stem": "data-v1",
            "format": export_format,
            "options": {**target, "contents": True, "archive": False, "shardBytes": 10**9} | options,
            "columns": [{"name": name, "type": "STRING" if kind == pl.String else "FLOAT"} for name, kind in self.frame.schema.items()],
            "problem_type": None,
            "source": {"name": "data", "number": 1, "description": None, "license": None, "url": None, "published": "2026-01-01"},
            "modality": self.modality,
            "items": places,
        }
        recorder = PipelineRecorder()
        result = export_dataset(spec, recorder)
        assert (result["rows"], recorder.percents[-2:]) == (self.frame.height, [95, 96])
        return {file["member"]: Path(file["path"]).read_bytes() for file in result["files"]}


MANIFEST = "file,label,split,patient,note\n" + "".join(
    f"{name},{label},{split},{patient},{note}\n"
    for name, label, split, patient, note in (
        ("Käse/a.b.png", "None", "train", 17, "x"),
        ("Käse/a.c.jpg", "007", "train", 17, ""),
        ("up/up.png", "None", "test", 18, "=1"),
        *((f"more/{number}.png", "", "", 20 + number, "") for number in range(20)),
    )
)


def pictures() -> dict[str, bytes]:
    files = {"Käse/a.b.png": picture(1), "Käse/a.c.jpg": picture(2, "JPEG"), "up/up.png": picture(3)}
    return files | {"manifest.csv": MANIFEST.encode(), "up/broken.png": b"no image"} | {f"more/{n}.png": picture(10 + n) for n in range(20)}


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {info.name: opened.extractfile(info).read() for info in opened}  # pyright: ignore[reportOptionalMemberAccess] - files


def test_a_sample_has_the_item_its_class_and_what_it_is_filed_under(tmp_path: Path) -> None:
    version = Items(tmp_path, pictures(), "IMAGE")
    files = version.export("PYTORCH")
    assert list(files) == [
        "train-00000.tar",
        "test-00000.tar",
        "unassigned-00000.tar",
        "items.parquet",
        "classes.json",
        "load.py",
        "croissant.json",
    ]
    assert json.loads(files["classes.json"]) == {"target": "label", "classes": ["007", "None"]}
    train = members(files["train-00000.tar"])
    assert list(train) == ["Kase/a-b.png", "Kase/a-b.json", "Kase/a-b.cls", "Kase/a-c.jpg", "Kase/a-c.json", "Kase/a-c.cls"]
    assert (train["Kase/a-b.png"], train["Kase/a-c.jpg"]) == (pictures()["Käse/a.b.png"], pictures()["Käse/a.c.jpg"])
    assert (train["Kase/a-b.cls"], train["Kase/a-c.cls"]) == (b"1", b"0")
    assert json.loads(train["Kase/a-c.json"]) == {"patient": "17", "label": "007", "group": "17", "split": "train", "key": "Käse/a.c.jpg"}
    assert pl.read_parquet(io.BytesIO(files["items.parquet"])).equals(version.frame)
    assert version.export("PYTORCH") == files, "the same bytes each time"

    # Read again as an upload, the items are what they were, under their new names.
    result, frame = run_ingest(tmp_path, files["train-00000.tar"], "train-00000.tar", modality="IMAGE")
    assert result["format"] == "TAR"
    first, second = items_of(result)
    assert [(item["key"], item["label"], item["split"]) for item in (first, second)] == [
        ("a-b.png", "None", "train"),
        ("a-c.jpg", "007", "train"),
    ]
    assert first["metadata"] == {"patient": "17", "note": "x", "group": "17", "key": "Käse/a.b.png"}
    assert frame["group"].to_list() == ["17", "17"]

    # And by the loader that is among the files.
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    loader: dict[str, Any] = {"__file__": str(folder / "load.py")}
    exec(files["load.py"], loader)
    samples = list(loader["samples"]("train"))
    assert [(sample["__key__"], sample["cls"], sample["json"]["label"]) for sample in samples] == [
        ("Kase/a-b", 1, "None"),
        ("Kase/a-c", 0, "007"),
    ]
    assert samples[0]["png"] == train["Kase/a-b.png"]


def test_an_independent_reader_takes_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    files = {f"{label}/{number}.npy": npy_of(vibration(5, number, length=50)) for label in "ab" for number in range(3)}
    exported = Items(tmp_path, files, "SIGNAL", "s.tar").export("PYTORCH")
    (tmp_path / "train-00000.tar").write_bytes(exported["train-00000.tar"])
    loaded = DATASETS.load_dataset("webdataset", data_files={"train": str(tmp_path / "*.tar")}, cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded["cls"] == [0, 0, 0, 1, 1, 1]
    assert [entry["label"] for entry in loaded["json"]] == list("aaabbb")
    np.testing.assert_array_equal(loaded[4]["npy"], vibration(5, 1, length=50))


MADE: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "IMAGE": ("png", picture),
    "AUDIO": ("flac", lambda seed: recording_of(tone(400, seed, seconds=0.05), "FLAC")),
    "VIDEO": ("webm", lambda seed: video_of([shade(seed % 256)] * 4, "webm")),
}


@pytest.mark.parametrize("modality", ["IMAGE", "AUDIO", exhaustive("VIDEO")])
def test_hugging_face_reads_the_items_with_splits_and_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modality: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if modality == "AUDIO":  # without torch, which it needs to decode, the library does not even keep the path
        monkeypatch.setattr(DATASETS.Audio, "encode_example", lambda _, path: {"bytes": None, "path": path})
    monkeypatch.setattr(exported_items, "MAX_SHARD_ITEMS", 2)
    monkeypatch.setattr("workers.ml.exports.shards.MAX_SHARD_ITEMS", 2)
    monkeypatch.setattr("workers.ml.exports.item_folder._BATCH", 1)
    extension, make = MADE[modality]
    files = {
        f"{split}/{label}/{n}.{extension}": make(100 * len(split) + 10 * n + len(label))
        for split in ("train", "test")
        for label in ("None", "3")
        for n in range(2)
    }
    version = Items(tmp_path, files, modality)
    exported = version.export("HUGGINGFACE")
    archives = [f"data/{split}-0000{number}.zip" for split in ("train", "test") for number in range(2)]
    assert list(exported) == [*archives, "README.md", "croissant.json"]
    assert version.export("HUGGINGFACE") == exported
    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True)
    for name, content in exported.items():
        (folder / name).write_bytes(content)
    loaded = DATASETS.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "test"}
    column = modality.lower()
    for split, part in loaded.items():
        assert part.features["label"].names == ["3", "None"]
        assert part.features[column] == {"image": DATASETS.Image, "audio": DATASETS.Audio, "video": DATASETS.Video}[column]()
        expected = version.frame.filter(pl.col("split") == split).drop("split")
        raw = part.cast_column(column, part.features[column].__class__(decode=False))
        read = {row["key"]: (row["label"], _bytes(row[column])) for row in raw}  # the library takes archives of a split in any order
        assert read == {row["key"]: (["3", "None"].index(row["label"]), files[row["key"]]) for row in expected.iter_rows(named=True)}
        assert part.column_names == [column, *expected.columns]


@pytest.mark.parametrize("modality", ["IMAGE", exhaustive("AUDIO")])
def test_an_exported_archive_is_ingested_with_its_labels_splits_and_features(tmp_path: Path, modality: str) -> None:
    extension, make = MADE[modality]
    names = [
        f"{split}/{label}/{level}/{n}"
        for split in ("train", "test")
        for label in ("None", "3")
        for level in ("high", "low")
        for n in (0, 1)
    ]
    version = Items(tmp_path, {f"{name}.{extension}": make(number) for number, name in enumerate(names)}, modality)
    exported = version.export("HUGGINGFACE")
    frames: list[pl.DataFrame] = []
    for split in ("train", "test"):
        folder = tmp_path / split
        folder.mkdir()
        result, frame = run_ingest(folder, exported[f"data/{split}-00000.zip"], f"{split}-00000.zip", modality=modality)
        assert result["issues"] == []
        assert {item["split"] for item in items_of(result)} == {split}
        keys = {item["key"]: item["metadata"]["key"] for item in items_of(result)}
        frames.append(frame.with_columns(pl.col("key").replace_strict(keys, return_dtype=pl.String)))
    assert pl.concat(frames).sort("key").equals(version.frame.sort("key"))
    assert {"label", "split", "severity"} < set(version.frame.columns)


@pytest.mark.parametrize("modality", ["IMAGE", exhaustive("AUDIO"), exhaustive("VIDEO")])
@pytest.mark.parametrize("packed", ["as exported", "packed again"])
def test_an_exported_folder_comes_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modality: str, packed: str) -> None:
    monkeypatch.setattr("workers.ml.exports.shards.MAX_SHARD_ITEMS", 3)
    extension, make = MADE[modality]
    names = [
        f"{split}/{label}/{level}/{n}" for split in ("train", "test") for label in ("None", "3") for level in ("a", "b") for n in (0, 1)
    ]
    files = {f"{name}.{extension}": make(20 * number) for number, name in enumerate(names)}
    version = Items(tmp_path, files, modality)
    exported = version.export("HUGGINGFACE", archive=True)["data-v1-huggingface.zip"]
    with zipfile.ZipFile(io.BytesIO(exported)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert len([name for name in members if name.endswith(".zip")]) == 6
    data = exported if packed == "as exported" else zip_of({name.partition("/")[2]: content for name, content in members.items()})
    result, frame = run_ingest(tmp_path, data, "data-v1-huggingface.zip", modality=modality)

    assert (result["format"], result["issues"]) == ("ZIP", [])
    items = items_of(result)
    assert "items" in result
    whole = data if packed == "as exported" else Path(result["items"]["pack"] or "").read_bytes()
    assert {item["metadata"]["key"]: whole[item["byte_offset"] :][: item["stored_size"]] for item in items} == files
    assert {item["in_pack"] for item in items} == {packed == "packed again"}
    keys = {item["key"]: item["metadata"]["key"] for item in items}
    assert len(keys) == len(files)
    back = frame.with_columns(pl.col("key").replace_strict(keys, return_dtype=pl.String))
    assert back.sort("key").equals(version.frame.sort("key"))
    assert {"label", "split", "severity"} < set(version.frame.columns)


def test_archives_of_splits_may_have_files_of_one_name(tmp_path: Path) -> None:
    shard = {f"{label}/1.png": picture(number) for number, label in enumerate("ab")}
    other = {f"{label}/1.png": picture(7 + number) for number, label in enumerate("ab")}
    files = {"data/holdout-00000-of-00001.zip": zip_of(shard), "data/train-00000-of-00001.zip": zip_of(other), "data/notes.json": b"{}"}
    result, frame = run_ingest(tmp_path, zip_of(files, stored=list(files)), "a.zip", modality="IMAGE")
    assert frame.select("key", "label", "split").rows() == [
        ("holdout-00000-of-00001/a/1.png", "a", "holdout"),
        ("holdout-00000-of-00001/b/1.png", "b", "holdout"),
        ("train-00000-of-00001/a/1.png", "a", "train"),
        ("train-00000-of-00001/b/1.png", "b", "train"),
    ]
    assert [issue["code"] for issue in result["issues"]] == ["SKIPPED_FILES"]


SHARD = zip_of({"a/1.png": picture(1)})


@pytest.mark.parametrize(
    ("files", "code", "message"),
    [
        ({"data/train-00000.zip": zip_of({"train-00000.zip": SHARD})}, "NESTED_ARCHIVE", "'train-00000.zip' in 'train-00000.zip'"),
        ({"data/train-00000.zip": SHARD, "data/more.zip": SHARD}, "NESTED_ARCHIVE", "'data/more.zip' in 'a.zip'"),
        ({"other/recording-00001.zip": SHARD}, "NESTED_ARCHIVE", "'other/recording-00001.zip' in 'a.zip'"),
        ({"data/train-00000.zip": SHARD[:-30]}, "UNREADABLE_FILE", "'train-00000.zip' cannot be read: its end is missing"),
        ({"data/train-00000.zip": zip_of({"../1.png": b""})}, "UNSAFE_ARCHIVE", "leaves the archive by `..`"),
        ({"data/train-00000.zip": zip_of({"a.txt": b"x"})}, "NO_ITEMS", "none of its 1 files"),
        ({f"data/train-0000{n}.zip": zip_of({"1.png": bytes(1 << 20)}) for n in range(5)}, "ARCHIVE_TOO_LARGE", "unfolds to more than 4,194,304"),
        ({f"data/train-0000{n}.zip": zip_of({f"{i}.png": b"" for i in range(9)}) for n in range(5)}, "TOO_MANY_ITEMS", "'a.zip' has more members"),
    ],
)  # fmt: skip
def test_archives_of_splits_are_refused_as_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], code: str, message: str
) -> None:
    monkeypatch.setattr(limits, "MIN_RATIO_BYTES", 4 << 20)
    monkeypatch.setattr(limits, "MAX_UNPACKED_RATIO", 2)
    monkeypatch.setattr(limits, "MAX_MEMBERS", 40)
    for stored in ((), list(files)):
        error = ingest_error(tmp_path, zip_of(files, stored=stored), "a.zip", modality="IMAGE")
        assert error.code == code
        assert message in error.message


def test_a_metadata_file_that_is_no_table_of_files_says_nothing(tmp_path: Path) -> None:
    other = io.BytesIO()
    pl.DataFrame({"name": ["1.png"], "label": ["a"]}).write_parquet(other)
    for content in (b"PAR1 damaged PAR1", other.getvalue()):
        result, _ = run_ingest(tmp_path, zip_of({"1.png": picture(1), "metadata.parquet": content}), "train-00000.zip", modality="IMAGE")
        (item,) = items_of(result)
        assert (item["label"], item["split"], item["metadata"]) == (None, None, {})
        assert [issue["code"] for issue in result["issues"]] == ["SKIPPED_FILES"]


def _bytes(entry: dict[str, Any]) -> bytes:
    """Of an archive, the library keeps where the bytes are."""
    if entry["bytes"] is not None:
        return entry["bytes"]
    with DATASETS.utils.file_utils.xopen(entry["path"], "rb") as file:
        return file.read()


def test_archives_are_cut_by_bytes_and_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = Items(tmp_path, {f"t/{number}.txt": b"word " * 100 for number in range(5)} | {"t/x.md": b"one"}, "TEXT")
    files = version.export("PYTORCH", shardBytes=1_000)
    tars = [name for name in files if name.endswith(".tar")]
    assert [len([name for name in members(files[tar]) if not name.endswith("json")]) for tar in tars] == [2, 2, 2]
    document = json.loads(files["croissant.json"])
    sets = {entry["@id"]: entry for entry in document["distribution"] if entry["@type"] == "cr:FileSet"}
    assert {name: (entry["includes"], entry["encodingFormat"]) for name, entry in sets.items()} == {
        "md-files": ("**/*.md", "text/markdown"),
        "txt-files": ("**/*.txt", "text/plain"),
    }
    assert sets["txt-files"]["containedIn"] == [{"@id": name} for name in tars]
    assert [entry["@id"] for entry in document["recordSet"]] == ["rows", "md-items", "txt-items"]
    chosen = version.export("PYTORCH", columns=["words"])
    assert json.loads(members(chosen["train-00000.tar"])["0.json"]) == {"words": 100.0, "key": "0.txt"}
    for module in ("items", "shards"):
        monkeypatch.setattr(f"workers.ml.exports.{module}.MAX_SHARDS", 2)
    with pytest.raises(BadInput, match="more than 2 files of at most 1,000 bytes") as refused:
        version.export("PYTORCH", shardBytes=1_000)
    assert refused.value.code == "TOO_MANY_FILES"


def test_names_are_safe_and_of_one_item_each() -> None:
    names = Names()
    hostile = [
        "../../etc/passwd",
        "/abs.png",
        "..",
        "a/./b.png",
        ".hidden/.x.png",
        "-rf",
        "C:\\x.png",
        "a\0b",
        "ℤ/℀.png",
        "x" * 300 + "/" + "y" * 300 + ".png",
    ]
    made = [names.add(key) for key in hostile]
    assert made[:9] == ["etc/passwd", "abs", "item", "a/b", "hidden/x", "rf", "C-x", "a-b", "Z/a-c"]
    assert len(made[9]) < 200
    devices = [names.add(key) for key in ("con.png", "NUL", "aux/lpt1.d/COM9.tar.gz", "x/Prn", "console/com10.png", "COM¹.wav")]
    assert devices == ["con-", "NUL-", "aux-/lpt1-.d/COM9-tar", "x/Prn-", "console/com10", "COM1-"]
    same = [names.add(key) for key in ("1.png", "1.jpg", "1.PNG", "A/1.png", "a/1.png", "___", "日本.png", "日本語.png", "1-11.png")]
    assert len({name.lower() for name in (*made, *same)}) == len(made) + len(same)
    assert all(not part.startswith((".", "-", "_")) for name in (*made, *same) for part in name.split("/"))


def test_extensions_are_those_that_the_reader_knows_and_the_description_has_them(tmp_path: Path) -> None:
    version = Items(tmp_path, {"a.webm": video_of(moving_bar(2), "webm"), "b.mkv": exact_video_of(moving_bar(2))}, "VIDEO")
    for export_format, archive, expected in (
        ("PYTORCH", "train-00000.tar", {"webm": "video/webm", "mkv": "video/x-matroska"}),
        ("HUGGINGFACE", "data/train-00000.zip", {"mkv": "video/x-matroska"}),
    ):
        files = version.export(export_format)
        if export_format == "PYTORCH":
            names = {name for name in members(files[archive]) if not name.endswith(".json")}
        else:
            with zipfile.ZipFile(io.BytesIO(files[archive])) as opened:
                names = {name for name in opened.namelist() if name != "metadata.parquet"}
        assert names == {f"a.{'webm' if 'webm' in expected else 'mkv'}", "b.mkv"}
        sets = [entry for entry in json.loads(files["croissant.json"])["distribution"] if entry["@type"] == "cr:FileSet"]
        assert {entry["includes"].removeprefix("**/*."): entry["encodingFormat"] for entry in sets} == expected


def test_what_is_in_a_zip_leaves_no_folder(tmp_path: Path) -> None:
    exported = Items(tmp_path, {f"{n}.png": picture(n) for n in range(3)}, "IMAGE").export("HUGGINGFACE", archive=True)
    assert list(exported) == ["data-v1-huggingface.zip", "data/train-00000.zip", "README.md", "croissant.json"]
    with zipfile.ZipFile(io.BytesIO(exported["data/train-00000.zip"])) as archive:
        assert archive.namelist() == ["0.png", "1.png", "2.png", "metadata.parquet"]
        assert {info.date_time[0] for info in archive.infolist()} == {1980}
