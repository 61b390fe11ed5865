"""The body of INGEST: a raw file in, a Parquet file, its columns, issues, preview and profile out.

The file is read block by block; memory does not grow with its size. Reading and typing take 70 % of the progress, the
profile the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from workers.ml.errors import BadInput
from workers.ml.parquet_writer import ParquetSink
from workers.ml.part_checkpoints import PartCheckpoints
from workers.ml.part_state import PartCheckpointSettings
from workers.ml.preview import preview
from workers.ml.profiling import ProfileReport, profile_parquet
from workers.ml.reading.delimited import DelimitedReader
from workers.ml.reading.encodings import Encoding
from workers.ml.reading.excel import ExcelReader
from workers.ml.reading.issues import Issue
from workers.ml.reading.json_array import JsonArrayReader
from workers.ml.reading.jsonlines import JsonLinesReader
from workers.ml.reading.parquet import ParquetReader
from workers.ml.reading.raw import RawFile
from workers.ml.reading.sniff import detect_format
from workers.ml.reading.table_reader import ColumnOut, ProgressCallback, TableReader
from workers.ml.reporting import Reporter

_READ_PERCENT = 70.0
_MAX_PASSES = 3  # the first proposes types, the second settles them; a third is only a guard


class IngestSpec(TypedDict):
    """`size` and `sha256` are what the client announced; `folder` exists and is ours alone."""

    source: str
    folder: str
    filename: str
    size: int
    sha256: str | None
    actual_sha256: NotRequired[str]
    """Of the file as it was fetched; otherwise it is hashed while it is read."""
    checkpointing: NotRequired[PartCheckpointSettings | None]
    """How to keep what was read, if that is worth it: the table, and its parts until it is whole."""
    table: NotRequired[TableSummary | None]
    """What an earlier attempt read; the Parquet file lies in the folder already, and there is no source."""


class TableSummary(TypedDict):
    """What reading a file found out, beside the Parquet file that it wrote."""

    format: str
    sha256: str
    size: int
    rows: int
    issues: list[Issue]
    issue_count: int


class IngestResult(TypedDict):
    format: str
    sha256: str
    size: int
    parquet: str
    row_count: int
    column_count: int
    columns: list[ColumnOut]
    issues: list[Issue]
    issue_count: int
    preview: list[dict[str, Any]]
    profile: ProfileReport


def ingest(spec: IngestSpec, reporter: Reporter) -> IngestResult:
    """Raises BadInput with the codes that `workers.ml.reading` documents; UPLOAD_MISMATCH goes before any other."""
    target = Path(spec["folder"]) / "processed.parquet"
    table = spec.get("table")
    if table is None:
        table = _read_table(spec, target, reporter)
        if spec.get("checkpointing"):
            reporter.checkpoint("table", table["rows"], dict(table), target)
    else:
        reporter.resumed("table", f"Goes on with the table of {table['rows']:,} rows that an earlier attempt read.")
    profile = profile_parquet(str(target), reporter, start_percent=_READ_PERCENT, end_percent=99.0)
    columns: list[ColumnOut] = [
        {"name": column["name"], "type": column["type"], "nullable": column["missing_count"] > 0} for column in profile["columns"]
    ]
    reporter.progress(99.0, "making the preview")
    return {
        "format": table["format"],
        "sha256": table["sha256"],
        "size": table["size"],
        "parquet": str(target),
        "row_count": profile["row_count"],
        "column_count": len(columns),
        "columns": columns,
        "issues": table["issues"],
        "issue_count": table["issue_count"],
        "preview": preview(target, {column["name"]: column["type"] for column in columns}),
        "profile": profile,
    }


def _read_table(spec: IngestSpec, target: Path, reporter: Reporter) -> TableSummary:
    raw = RawFile(Path(spec["source"]), spec.get("actual_sha256"))
    if raw.size != spec["size"]:
        raise BadInput(
            "UPLOAD_MISMATCH",
            f"{spec['filename']!r} was announced with {spec['size']:,} bytes and has {raw.size:,}. Upload it again.",
        )
    try:
        format_name, reader, rows = _read_file(raw, spec, target, reporter)
    except BadInput as error:
        _check_digest(raw, spec, cause=error)
        raise
    _check_digest(raw, spec)
    return {
        "format": format_name,
        "sha256": raw.sha256(),
        "size": raw.size,
        "rows": rows,
        "issues": reader.issues.entries,
        "issue_count": reader.issues.count,
    }


def _read_file(raw: RawFile, spec: IngestSpec, target: Path, reporter: Reporter) -> tuple[str, TableReader, int]:
    reporter.progress(0.0, "recognising the format")
    format_name, encoding = detect_format(raw, spec["filename"])
    checkpoints = PartCheckpoints(spec.get("checkpointing"), reporter)

    def progress(share: float, step: str) -> None:
        # The first pass takes five sevenths of the reading, a second one the rest: nobody knows yet whether one comes.
        percent = 50.0 + (_READ_PERCENT - 50.0) * share if checkpoints.passes else 50.0 * share
        reporter.progress(percent, step)

    reader = _open_reader(format_name, encoding, raw, spec["filename"], progress)
    checkpoints.resume(reader)
    while True:
        with ParquetSink(target, checkpoints.parts, checkpoints.row_count) as sink:
            for frame in reader.frames():
                if sink.write(frame):
                    checkpoints.checkpoint_if_due(sink, reader)
            is_done = not reader.needs_another_pass()
            if is_done:
                sink.close(reader.column_types())
            rows = sink.row_count
        if is_done:
            break
        checkpoints.start_next_pass(rows)
        if checkpoints.passes >= _MAX_PASSES:
            raise RuntimeError("the types of the columns do not settle")
        reporter.log("The whole file did not bear out the types that its beginning proposed; it is read again.")
    reporter.progress(_READ_PERCENT, "read")
    return format_name, reader, rows


def _open_reader(format_name: str, encoding: Encoding | None, raw: RawFile, filename: str, progress: ProgressCallback) -> TableReader:
    if format_name == "PARQUET":
        return ParquetReader(raw, filename, progress)
    if format_name == "EXCEL":
        return ExcelReader(raw, filename, progress)
    assert encoding is not None  # the rest is text
    if format_name == "JSON":
        return JsonArrayReader(raw, encoding, filename, progress)
    if format_name == "JSONL":
        return JsonLinesReader(raw, encoding, filename, progress)
    return DelimitedReader(raw, encoding, filename, progress)


def _check_digest(raw: RawFile, spec: IngestSpec, cause: BadInput | None = None) -> None:
    expected = spec["sha256"]
    if expected is not None and raw.sha256() != expected.lower():
        raise BadInput(
            "UPLOAD_MISMATCH",
            f"{spec['filename']!r} does not have the SHA-256 it was announced with: expected {expected.lower()}, found {raw.sha256()}. Upload it again.",
        ) from cause
