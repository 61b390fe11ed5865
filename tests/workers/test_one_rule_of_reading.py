"""What a value is does not depend on the format it came in: one table, written in six formats, is read as one table."""

from __future__ import annotations

import io
import math
import random
import unicodedata
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.generated_tables import EXCLUDED, FORMATS, Content, Table, generate_table, names_of, write_table
from tests.workers.ingest_runner import run_ingest
from workers.ml.reading.opening import open_reader
from workers.ml.reading.raw import RawFile

PANDAS: Any = LazyModule("pandas")

Reading = tuple[pl.DataFrame, dict[str, str], list[tuple[str, str | None, int | None]]]


def read(folder: Path, form: str, data: bytes) -> Reading:
    """Return cells, types and the places of the issues."""
    path = folder / f"table.{form}"
    path.write_bytes(data)
    _, reader = open_reader(RawFile(path), path.name, lambda _share, _step: None)
    for _ in range(5):
        frames = list(reader.frames())
        if not reader.needs_another_pass():
            frame = pl.concat(frames)
            issues = sorted(((entry["code"], entry["column"], entry["row"]) for entry in reader.issues.entries), key=str)
            return frame, reader.column_types(), issues
    raise AssertionError("the types still change after five passes")


def expected_cell(content: Content, cell: Any) -> Any:
    """The cell as our column of its type holds it."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    match content.type:
        case "STRING":
            return None if cell in ("NA", "null", "None", "n/a") else str(cell)
        case "DECIMAL":
            return Decimal(repr(cell))
        case "FLOAT":
            return float(cell)
        case _:
            return cell


def check_table(folder: Path, table: Table) -> pl.DataFrame:
    """Read the table in every format; the other formats agree with CSV in the columns that they hold. Return the frame of the CSV."""
    csv_frame, csv_types, csv_issues = read(folder, "csv", write_table(table, "csv"))
    for form in table.formats:
        part = table.without(EXCLUDED[form])
        if form == "csv":
            frame, types, issues = csv_frame, csv_types, csv_issues
        else:
            frame, types, issues = read(
                folder, form, write_table(part, "openpyxl" if form == "xlsx" and table.formats == FORMATS else form)
            )
        assert list(types.values()) == [content.type for content in part.columns.values()], form
        for series, content in zip(frame, part.columns.values(), strict=True):
            assert series.to_list() == [expected_cell(content, cell) for cell in content.cells], (form, content.kind)
        kept = [index for index, key in enumerate(table.columns) if key in part.columns]
        if names_of(part) == names_of(table):
            assert frame.columns == csv_frame.columns, form
        # Without a column, another one may need no number behind its name.
        names = {csv_frame.columns[index]: frame.columns[place] for place, index in enumerate(kept)}
        expected = [(code, names[column], row) for code, column, row in csv_issues if column in names and code != "DUPLICATE_COLUMN_NAME"]
        assert [issue for issue in issues if issue[0] != "DUPLICATE_COLUMN_NAME"] == sorted(expected, key=str), form
    return csv_frame


def check_against_others(table: Table, frame: pl.DataFrame) -> None:
    """Where pandas and polars agree on a column of numbers of a CSV, ours has the same numbers."""
    data = write_table(table, "csv")
    if table.delimiter == ";" or table.formats != FORMATS:
        return  # they take no decimal comma by themselves; a share of the tables is enough
    theirs = PANDAS.read_csv(io.BytesIO(data), sep=table.delimiter)
    try:
        polars_frame = pl.read_csv(io.BytesIO(data), separator=table.delimiter, infer_schema_length=None, null_values=["nan"])
    except pl.exceptions.ComputeError:
        return  # a whole number beyond its 128 bits
    for index, content in enumerate(table.columns.values()):
        if (
            content.type in ("INTEGER", "FLOAT")
            and theirs.iloc[:, index].dtype.kind in "if"
            and polars_frame.to_series(index).dtype.is_numeric()
        ):
            ours = frame.to_series(index).cast(pl.Float64)
            for other in (pl.Series(theirs.iloc[:, index].astype(float).tolist()), polars_frame.to_series(index).cast(pl.Float64)):
                assert ours.equals(other.fill_nan(None), check_names=False), content.kind


@pytest.mark.parametrize(("first", "count"), [(0, 30), exhaustive(30, 470)] + [exhaustive(0, 500)] * 7)
def test_a_table_is_the_same_in_every_format(tmp_path: Path, seed: int, first: int, count: int) -> None:
    for number in range(first, first + count):
        rng = random.Random(seed + number)
        table = generate_table(rng)
        try:
            check_against_others(table, check_table(tmp_path, table))
        except Exception as error:
            error.add_note(f"table {number} of seed {seed}: {write_table(table, 'csv').decode()}")
            raise


@pytest.mark.parametrize("count", [2, exhaustive(60)])
def test_profile_and_preview_are_the_same_in_every_format(tmp_path: Path, seed: int, count: int) -> None:
    for number in range(count):
        table = generate_table(random.Random(seed + number)).without(set[str]().union(*EXCLUDED.values()))
        results = [run_ingest(tmp_path, write_table(table, form), f"table.{form}")[0] for form in FORMATS]
        for result, form in zip(results, FORMATS, strict=True):
            result["profile"]["generation_time"] = 0.0
            for part in ("columns", "preview", "profile", "issue_count"):
                assert result[part] == results[0][part], (form, seed + number)
        assert [unicodedata.is_normalized("NFC", column["name"]) for column in results[0]["columns"]] == [True] * len(names_of(table))


def test_durations_under_a_day_are_durations_where_a_format_says_so(tmp_path: Path) -> None:
    """Text cannot say it: 06:00:00 alone is a time of day there."""
    table = Table({"0:a": Content("durations", "DURATION", [timedelta(hours=6), timedelta(hours=7)], lambda cell: f"0{cell}")}, ",")
    types = {form: list(read(tmp_path, form, write_table(table, form))[1].values()) for form in FORMATS}
    assert types == {"csv": ["TIME"], "tsv": ["TIME"], "json": ["TIME"], "jsonl": ["TIME"], "parquet": ["DURATION"], "xlsx": ["DURATION"]}
