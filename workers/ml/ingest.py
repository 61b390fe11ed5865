"""The body of INGEST jobs: reads a raw file and produces a Parquet file with its columns, issues, preview, profile and a proposed schema.

The file is read block by block, so memory does not grow with its size. Reading takes the first 70 % of the progress, the profile the rest.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NotRequired, TypedDict

from workers.ml.errors import BadInput
from workers.ml.items.kinds import has_items, kind_of
from workers.ml.items.multimodal import read_joined
from workers.ml.items.reading import ItemsResult, read_items
from workers.ml.items.records import Items
from workers.ml.memory import return_freed_memory
from workers.ml.parquet_writer import ParquetSink
from workers.ml.part_checkpoints import PartCheckpoints
from workers.ml.part_state import PartCheckpointSettings
from workers.ml.preview import preview
from workers.ml.profiling import ProfileReport, profile_parquet
from workers.ml.reading.issues import Issue, IssueLog
from workers.ml.reading.opening import open_reader
from workers.ml.reading.options import ReadingOptions
from workers.ml.reading.raw import RawFile
from workers.ml.reading.table_reader import ColumnOut, TableReader
from workers.ml.reporting import Reporter
from workers.ml.schema_contract import Contract, check_contract
from workers.ml.schema_proposal import Declared, Proposal, propose
from workers.ml.stages import PROFILE, PROPOSE, READ, Stage, stage

_READ_PERCENT = 70.0
_MAX_PASSES = 5  # one proposes types, one may count digits, one applies the revised types; more guard against a bug


class IngestSpec(TypedDict):
    """`size` (bytes) and `sha256` are what the client declared; `folder` exists and is used by this body alone."""

    source: str
    folder: str
    filename: str
    size: int
    sha256: str | None
    modality: NotRequired[str | None]
    """The modality of the dataset; one with items is read as such, any other as a table, as is an absent one and a table of texts."""
    reading: NotRequired[dict[str, Any] | None]
    """The options of the upload, see `ReadingOptions`; None or absent without any."""
    actual_sha256: NotRequired[str]
    """SHA-256 of the downloaded file; if absent, the file is hashed while it is read."""
    checkpointing: NotRequired[PartCheckpointSettings | None]
    """Checkpoint the parts of the table while reading and the whole table at the end; None for files too small to be worth it."""
    declared: NotRequired[Declared]
    """What the dataset says about itself; absent if it says nothing."""
    contract: NotRequired[Contract | None]
    """The accepted schema of the dataset; None or absent without one."""
    table: NotRequired[TableSummary | None]
    """Result of reading by an earlier attempt; its Parquet file is already in `folder`, and `source` does not exist."""


class TableSummary(TypedDict):
    """What reading the file produced besides the Parquet file; stored as the state of the checkpoint `table`."""

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
    proposal: Proposal
    items: NotRequired[ItemsResult]
    """Of a version with items, whose table has a row for each."""


def ingest(spec: IngestSpec, reporter: Reporter) -> IngestResult:
    """Raises BadInput with the codes that the readers in `workers.ml.reading` document, or SCHEMA_BROKEN for a table that its contract refuses.

    UPLOAD_MISMATCH takes precedence over all others.
    """
    target = Path(spec["folder"]) / "processed.parquet"
    table = spec.get("table")
    items: ItemsResult | None = None
    if has_items(spec.get("modality"), spec["filename"]):
        with stage(reporter, READ, 0.0, _READ_PERCENT) as reading:
            table, items = _read_items(spec, target, reading)
            reading.output = {"format": table["format"], "items": items["count"], "rows": table["rows"], "issues": table["issue_count"]}
    elif table is None:
        with stage(reporter, READ, 0.0, _READ_PERCENT) as reading:
            table = _read_table(spec, target, reporter, reading)
            reading.output = {"format": table["format"], "rows": table["rows"], "issues": table["issue_count"]}
        if spec.get("checkpointing"):
            reporter.checkpoint("table", table["rows"], dict(table), target)
    else:
        reporter.resumed("table", f"Resumes with the table of {table['rows']:,} rows that an earlier attempt read.")
        reporter.node(READ, "skipped", 0, {"format": table["format"], "rows": table["rows"], "issues": table["issue_count"]})
    with stage(reporter, PROFILE, _READ_PERCENT, 99.0) as profiling:
        profile = profile_parquet(str(target), profiling, start_percent=_READ_PERCENT, end_percent=99.0)
        for column in profile["columns"]:
            if ReadingOptions.of(spec.get("reading")).column_types.get(column["name"]) == "STRING":
                column["type"] = "STRING"  # the user's choice, however few its values are
        profiling.output = {"rows": profile["row_count"], "columns": len(profile["columns"])}
    columns: list[ColumnOut] = [
        {"name": column["name"], "type": column["type"], "nullable": column["missing_count"] > 0} for column in profile["columns"]
    ]
    with stage(reporter, PROPOSE, 99.0, 100.0) as proposing:
        proposing.progress(99.0, "Propose a schema")
        issues = _issues(spec, table, profile)
        first_rows = preview(target, {column["name"]: column["type"] for column in columns})
        proposal = propose(profile, first_rows, spec.get("declared") or {"target_column": None, "problem_type": None})
        proposing.output = {"columns": len(proposal["columns"]), "confidence": proposal["confidence"]}
    result: IngestResult = {
        "format": table["format"],
        "sha256": table["sha256"],
        "size": table["size"],
        "parquet": str(target),
        "row_count": profile["row_count"],
        "column_count": len(columns),
        "columns": columns,
        "issues": issues.entries,
        "issue_count": issues.count,
        "preview": first_rows,
        "profile": profile,
        "proposal": proposal,
    }
    if items is not None:
        result["items"] = items
    return result


def _issues(spec: IngestSpec, table: TableSummary, profile: ProfileReport) -> IssueLog:
    """Return what differs from the contract, before what the reader told: of a thousand issues no more are kept. Raises BadInput (SCHEMA_BROKEN)."""
    issues = IssueLog()
    contract = spec.get("contract")
    for issue in () if contract is None else check_contract(contract, profile):
        issues.add(**issue)
    issues.extend(IssueLog.from_state({"kept": table["issues"], "count": table["issue_count"]}))
    for column in profile["columns"]:
        if column["missing_count"] == profile["row_count"]:
            name = column["name"]
            issues.add("EMPTY_COLUMN", f"Column {name!r} has no value: each of its {profile['row_count']:,} cells is missing.", column=name)
    return issues


def _read_items(spec: IngestSpec, target: Path, reading: Stage) -> tuple[TableSummary, ItemsResult]:
    """Read the items of the file, and write the table of their features."""
    raw = _open_raw(spec)
    try:
        format_name, items, result, rows = _write_items(spec, raw, target, reading)
    except BadInput as error:
        _check_digest(raw, spec, cause=error)
        raise
    _check_digest(raw, spec)
    reading.progress(_READ_PERCENT, "Read")
    table: TableSummary = {
        "format": format_name,
        "sha256": raw.sha256(),
        "size": raw.size,
        "rows": rows,
        "issues": items.issues.entries,
        "issue_count": items.issues.count,
    }
    return table, result


def _write_items(spec: IngestSpec, raw: RawFile, target: Path, reading: Stage) -> tuple[str, Items, ItemsResult, int]:
    folder = Path(spec["folder"])

    def progress(share: float, step: str) -> None:
        reading.progress(_READ_PERCENT * share, step)

    options = spec.get("reading")
    kind = kind_of(spec.get("modality"), spec["filename"], options)
    if kind is None:
        return read_joined(raw, spec["filename"], folder, target, ReadingOptions.of(options), (options or {}).get("sampleRate"), progress)
    format_name, items, result = read_items(raw, spec["filename"], folder, kind, progress)
    return_freed_memory()
    rows = items.write_table(target)
    return_freed_memory()
    return format_name, items, result, rows


def _open_raw(spec: IngestSpec) -> RawFile:
    """Raises BadInput (UPLOAD_MISMATCH)."""
    raw = RawFile(Path(spec["source"]), spec.get("actual_sha256"))
    if raw.size != spec["size"]:
        raise BadInput(
            "UPLOAD_MISMATCH",
            f"{spec['filename']!r} was declared to have {spec['size']:,} bytes and has {raw.size:,}. Upload it again.",
        )
    return raw


def _read_table(spec: IngestSpec, target: Path, reporter: Reporter, reading: Stage) -> TableSummary:
    raw = _open_raw(spec)
    try:
        format_name, reader, rows = _read_file(raw, spec, target, reporter, reading)
    except BadInput as error:
        _check_digest(raw, spec, cause=error)
        raise
    _check_digest(raw, spec)
    _add_unknown_columns(reader, ReadingOptions.of(spec.get("reading")))
    return {
        "format": format_name,
        "sha256": raw.sha256(),
        "size": raw.size,
        "rows": rows,
        "issues": reader.issues.entries,
        "issue_count": reader.issues.count,
    }


def _read_file(raw: RawFile, spec: IngestSpec, target: Path, reporter: Reporter, reading: Stage) -> tuple[str, TableReader, int]:
    reading.progress(0.0, "Recognise the format")
    checkpoints = PartCheckpoints(spec.get("checkpointing"), reporter)

    def progress(share: float, step: str) -> None:
        # The first pass takes five sevenths of the reading's progress, a second pass the rest; whether there is one is not known yet.
        percent = 50.0 + (_READ_PERCENT - 50.0) * share if checkpoints.passes else 50.0 * share
        reading.progress(percent, step)

    with TemporaryDirectory(dir=spec["folder"]) as unpacked:
        format_name, reader = open_reader(raw, spec["filename"], progress, ReadingOptions.of(spec.get("reading")), Path(unpacked))
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
                raise RuntimeError(f"column types still changed after {_MAX_PASSES} passes")
            reporter.log("Some values later in the file do not fit the types inferred from its beginning; the file is read again.")
    reading.progress(_READ_PERCENT, "Read")
    return format_name, reader, rows


def _add_unknown_columns(reader: TableReader, options: ReadingOptions) -> None:
    names = reader.column_types()
    for name in options.column_types:
        if name not in names:
            listed = ", ".join(map(repr, list(names)[:10]))
            reader.issues.add(
                "UNKNOWN_COLUMN", f"A type was given for the column {name!r}, which the file does not have. Its columns are: {listed}."
            )


def _check_digest(raw: RawFile, spec: IngestSpec, cause: BadInput | None = None) -> None:
    expected = spec["sha256"]
    if expected is not None and raw.sha256() != expected.lower():
        raise BadInput(
            "UPLOAD_MISMATCH",
            f"{spec['filename']!r} does not have the declared SHA-256: expected {expected.lower()}, found {raw.sha256()}. Upload it again.",
        ) from cause
