"""The files of exports, made by the body in this process and read back by other libraries: values that are easily lost."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from tests.workers.pipeline_runner import PipelineRecorder
from workers.ml.exports import source
from workers.ml.exports.export import export_dataset

TYPES = {
    "integer": "INTEGER",
    "float": "FLOAT",
    "float32": "FLOAT",
    "flag": "BOOLEAN",
    "text": "STRING",
    "category": "CATEGORY",
    "day": "DATE",
    "moment": "DATETIME",
    "zoned": "DATETIME",
    "clock": "TIME",
    "duration": "DURATION",
    "decimal": "DECIMAL",
    "json": "JSON",
    "binary": "BINARY",
    "=name": "INTEGER",
}
NASTY = pl.DataFrame(
    {
        "integer": [1, -(2**63), 2**63 - 1, None],
        "float": [0.1, float("nan"), float("-inf"), None],
        "float32": pl.Series([0.1, 1e30, None, -0.0], dtype=pl.Float32),
        "flag": [True, False, None, True],
        "text": ["=1+1", "", None, 'a"b,\nü 🍇'],
        "category": ["-x", "NA", "\tz", "@u"],
        "day": [date(2020, 1, 1), None, date(1, 1, 1), date(9999, 12, 31)],
        "moment": [datetime(2020, 1, 1, 1, 2, 3, 4), None, datetime(1900, 1, 1), datetime(2020, 1, 1)],
        "zoned": pl.Series([datetime(2020, 1, 1, 1, 2, 3, 4, tzinfo=UTC), None, None, None], dtype=pl.Datetime("us", "UTC")),
        "clock": [time(1, 2, 3, 5), None, time(0), time(23, 59, 59, 999999)],
        "duration": [timedelta(hours=36, microseconds=5), None, timedelta(seconds=-30), timedelta(0)],
        "decimal": [Decimal("12345678901234567890.12"), None, Decimal("-0.10"), Decimal("0.00")],
        "json": ['{"a": 12345678901234567890123}', "no json", None, "[1,\n2]"],
        "binary": [b"\x00\xff", None, b"", b"a"],
        "=name": [1, 2, 3, 4],
    }
)
TEXTS = [
    [
        *[
            "1",
            "0.1",
            "0.1",
            "true",
            "=1+1",
            "-x",
            "2020-01-01",
            "2020-01-01T01:02:03.000004",
            "2020-01-01T01:02:03.000004Z",
            "01:02:03.000005",
        ],
        "36:00:00.000005",
        "12345678901234567890.12",
        '{"a": 12345678901234567890123}',
        "AP8=",
        "1",
    ],
    ["-9223372036854775808", "NaN", "1e+30", "false", "", "NA", *[""] * 6, "no json", "", "2"],
    [
        "9223372036854775807",
        "-inf",
        "",
        "",
        "",
        "\tz",
        "0001-01-01",
        "1900-01-01T00:00:00",
        "",
        "00:00:00",
        "-00:00:30",
        "-0.10",
        "",
        "",
        "3",
    ],
    [
        "",
        "",
        "-0.0",
        "true",
        'a"b,\nü 🍇',
        "@u",
        "9999-12-31",
        "2020-01-01T00:00:00",
        "",
        "23:59:59.999999",
        "00:00:00",
        "0.00",
        "[1,\n2]",
        "YQ==",
        "4",
    ],
]
DEFAULTS: dict[str, dict[str, Any]] = {
    "CSV": {"delimiter": ",", "header": True, "nullText": "", "formulaGuard": True, "compression": "none"},
    "JSON": {"nonFinite": "null", "compression": "none"},
    "JSONL": {"nonFinite": "null", "compression": "none"},
    "PARQUET": {"compression": "zstd"},
    "HUGGINGFACE": {"shardRows": 1_000, "archive": False},
    "PYTORCH": {"archive": False},
    "TENSORFLOW": {"shardRows": 1_000, "archive": False},
}
TABLES = ("CSV", "JSON", "JSONL", "PARQUET")


class Exporter:
    """Exports a table into new folders; `made` is the number of exports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = 0
        self.number: int | None = 1
        self.published: str | None = "2026-01-01"

    def __call__(
        self, frame: pl.DataFrame, export_format: str, types: dict[str, str] | None = None, problem_type: str | None = None, **options: Any
    ) -> dict[str, bytes]:
        """The content of each file by its path."""
        self.made += 1
        folder = self.folder / str(self.made)
        folder.mkdir()
        parquet = self.folder / f"{self.made}.parquet"
        frame.write_parquet(parquet)
        spec: source.ExportSpec = {
            "parquet": str(parquet),
            "folder": str(folder),
            "stem": "data-v1",
            "format": export_format,
            "options": DEFAULTS[export_format] | options,
            "columns": [{"name": name, "type": column_type} for name, column_type in (types or TYPES).items()],
            "problem_type": problem_type,
            "source": {
                "name": "data",
                "number": self.number,
                "description": None,
                "license": None,
                "url": None,
                "published": self.published,
            },
        }
        recorder = PipelineRecorder()
        result = export_dataset(spec, recorder)
        assert result["rows"] == frame.height
        assert recorder.percents[-1] == 96
        return {file["member"]: Path(file["path"]).read_bytes() for file in result["files"]}


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exporter:
    monkeypatch.setattr(source, "BATCH_ROWS", 3)  # so that a few rows are several batches
    return Exporter(tmp_path)


def test_csv_keeps_every_digit_and_a_guard_before_formulas_in_text_alone(export: Exporter) -> None:
    plain, guarded = [
        list(csv.reader(io.StringIO(export(NASTY, "CSV", formulaGuard=guard)["data-v1.csv"].decode(), newline="")))
        for guard in (False, True)
    ]
    assert plain == [list(TYPES), *TEXTS]
    changed = [
        (before, after)
        for row, other in zip(plain, guarded, strict=True)
        for before, after in zip(row, other, strict=True)
        if before != after
    ]
    assert changed == [(text, f"'{text}") for text in ("=name", "=1+1", "-x", "\tz", "@u")]
    texts = ["\n=1", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20a", "a=1"]  # also of full width
    (_, *cells) = csv.reader(
        io.StringIO(export(pl.DataFrame({"text": texts}), "CSV", {"text": "STRING"})["data-v1.csv"].decode(), newline="")
    )
    assert [cell for (cell,) in cells] == [*(f"'{text}" for text in texts[:-1]), "a=1"]
    raw = export(NASTY.select("integer", "text"), "CSV", {"integer": "INTEGER", "text": "STRING"}, nullText="-")["data-v1.csv"].decode()
    assert raw.splitlines()[2:4] == ['-9223372036854775808,""', "9223372036854775807,-"]  # an empty text is none that is missing


def test_json_keeps_every_digit_and_embeds_what_json_columns_hold(export: Exporter) -> None:
    lines = export(NASTY, "JSONL", nonFinite="text")["data-v1.jsonl"].decode().splitlines()
    rows = [json.loads(line, parse_float=str) for line in lines]
    assert [row["integer"] for row in rows] == [1, -(2**63), 2**63 - 1, None]
    assert [row["float"] for row in rows] == ["0.1", "NaN", "-Infinity", None]
    assert [row["float32"] for row in rows] == ["0.1", "1e+30", None, "-0.0"]
    assert [row["json"] for row in rows] == [{"a": 12345678901234567890123}, "no json", None, [1, 2]]
    assert [row["duration"] for row in rows] == ["36:00:00.000005", None, "-00:00:30", "00:00:00"]
    assert (rows[0]["decimal"], rows[3]["text"], rows[1]["text"], rows[2]["text"]) == ("12345678901234567890.12", 'a"b,\nü 🍇', "", None)
    as_array = json.loads(export(NASTY, "JSON")["data-v1.json"], parse_float=str, parse_constant=pytest.fail)
    assert [row["float"] for row in as_array] == ["0.1", None, None, None]
    assert [{**row, "float": None} for row in as_array] == [{**row, "float": None} for row in rows]


def test_parquet_keeps_types_and_values_and_has_only_the_chosen_columns(export: Exporter) -> None:
    names = ["decimal", "float", "integer", "binary", "zoned"]
    file = pq.ParquetFile(io.BytesIO(export(NASTY, "PARQUET", columns=names, compression="snappy")["data-v1.parquet"]))
    assert file.metadata.row_group(0).column(0).compression == "SNAPPY"
    assert pl.DataFrame(pl.from_arrow(file.read())).equals(NASTY.select(names))


@pytest.mark.parametrize("export_format", TABLES)
def test_no_rows_are_a_file_without_rows_and_the_same_bytes_each_time(export: Exporter, export_format: str) -> None:
    empty = export(NASTY.clear(), export_format)
    expected = {"CSV": ",".join([*TYPES][:-1]) + ",'=name\n", "JSON": "[]\n", "JSONL": ""}
    name = f"data-v1.{export_format.lower()}"
    assert export_format == "PARQUET" or empty[name].decode() == expected[export_format]
    assert export(NASTY, export_format, compression="gzip") == export(NASTY, export_format, compression="gzip")


@pytest.mark.parametrize("export_format", ["CSV", "HUGGINGFACE"])
def test_a_version_without_a_number_is_described_without_one(export: Exporter, export_format: str) -> None:
    """A step of a pipeline exports rows before their version has one."""
    export.number = export.published = None
    files = export(NASTY, export_format)
    document = json.loads(files["croissant.json"])
    assert (document["citeAs"], document["description"]) == ("data", "A version of the dataset data.")
    assert not {"version", "datePublished"} & document.keys()
    assert b"None" not in b"".join(files.get(name, b"") for name in ("README.md", "croissant.json"))


def test_the_description_has_each_column_with_its_type(export: Exporter) -> None:
    document = json.loads(export(NASTY, "CSV")["croissant.json"])
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    fields = document["recordSet"][0]["field"]
    assert {field["name"]: field["dataType"] for field in fields if field["dataType"] != "sc:Text"} == {
        "integer": "sc:Integer",
        "float": "sc:Float",
        "float32": "sc:Float",
        "flag": "sc:Boolean",
        "day": "sc:Date",
        "moment": "sc:DateTime",
        "zoned": "sc:DateTime",
        "clock": "sc:Time",
        "=name": "sc:Integer",
    }
    assert all(field["source"] == {"fileObject": {"@id": "data-v1.csv"}, "extract": {"column": field["name"]}} for field in fields)


@pytest.mark.parametrize(
    ("export_format", "media_type"),
    [
        ("CSV", "text/csv"),
        ("JSON", "application/json"),
        ("JSONL", "application/jsonlines"),
        ("PARQUET", "application/x-parquet"),
        ("HUGGINGFACE", "application/x-parquet"),
    ],
)
def test_files_have_the_media_types_by_which_mlcroissant_reads_them(export: Exporter, export_format: str, media_type: str) -> None:
    """`mlcroissant.EncodingFormat` of 1.1, which it compares as they are: of any other it reads no rows."""
    document = json.loads(export(NASTY, export_format)["croissant.json"])
    described = {entry["@id"]: entry["encodingFormat"] for entry in document["distribution"]}
    sources = {field["source"]["fileObject"]["@id"] for records in document["recordSet"] for field in records["field"]}
    assert {described[source] for source in sources} == {media_type}


def test_rows_that_croissant_cannot_read_are_not_described(export: Exporter) -> None:
    cases: list[dict[str, Any]] = [{"delimiter": ";"}, {"delimiter": "\t"}, {"header": False}, {"compression": "gzip"}]
    for options in cases:
        document = json.loads(export(NASTY, "CSV", **options)["croissant.json"])
        assert ("recordSet" in document, len(document["distribution"])) == (False, 1), options
