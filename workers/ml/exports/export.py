"""The body of EXPORT jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from workers.ml.exports import archive, croissant, item_folder
from workers.ml.exports.delimited import write_csv
from workers.ml.exports.huggingface import write_huggingface
from workers.ml.exports.items import Items
from workers.ml.exports.json_rows import write_json, write_json_lines
from workers.ml.exports.parquet import write_parquet
from workers.ml.exports.pytorch import write_pytorch
from workers.ml.exports.source import ExportResult, ExportSpec, Rows, TableSpec, WrittenFile, written
from workers.ml.exports.tensorflow import write_tensorflow
from workers.ml.exports.webdataset import write_webdataset
from workers.ml.reporting import Reporter

GZIP = "application/gzip"
PARQUET = "application/vnd.apache.parquet"


def export_dataset(spec: ExportSpec, reporter: Reporter) -> ExportResult:
    """Write the rows of a version, or its items if the spec has them, in the format of the spec, and a description of the files."""
    options, folder = spec["options"], Path(spec["folder"])
    types = {column["name"]: column["type"] for column in spec["columns"]}
    chosen: list[str] = options.get("columns") or list(types)
    rows = Rows(Path(spec["parquet"]), {name: types[name] for name in chosen}, reporter)
    extensions: Mapping[str, str] = {}
    if "items" in spec:
        items = Items(spec["items"], RENAMED.get(spec["format"], {}))
        files = ITEMS[spec["format"]](spec, rows, items, folder)
        extensions = items.extensions
    else:
        writer = FOLDERS.get(spec["format"])
        files = [write_table(spec, rows, folder)] if writer is None else writer(spec, rows, folder)
    reporter.progress(96, "Describe the files")
    files.append(croissant.describe(spec, dict(rows.types), files, folder, extensions))
    if options.get("archive"):
        name = f"{spec['stem']}-{spec['format'].lower()}"
        files.insert(0, archive.pack(files, folder / "archive.zip", f"{name}.zip", name))
    return {"files": files, "rows": rows.count}


FOLDERS: Mapping[str, Callable[[ExportSpec, Rows, Path], list[WrittenFile]]] = {
    "HUGGINGFACE": write_huggingface,
    "PYTORCH": write_pytorch,
    "TENSORFLOW": write_tensorflow,
}
"""The formats of several files."""

ITEMS: Mapping[str, Callable[[ExportSpec, Rows, Items, Path], list[WrittenFile]]] = {
    "HUGGINGFACE": item_folder.write_folder,
    "PYTORCH": write_webdataset,
}
"""The formats of items."""
RENAMED: Mapping[str, Mapping[str, str]] = {"HUGGINGFACE": item_folder.RENAMED}


def write_table(spec: TableSpec, rows: Rows, folder: Path) -> WrittenFile:
    """Write the rows as one file, in a format that is a table."""
    options = spec["options"]
    extension, content_type = _TEXTS.get(spec["format"], (".parquet", PARQUET))
    path = folder / "data"
    match spec["format"]:
        case "CSV":
            write_csv(rows, path, options)
        case "JSON":
            write_json(rows, path, options)
        case "JSONL":
            write_json_lines(rows, path, options)
        case "PARQUET":
            path = write_parquet(rows, path, options)
        case other:
            raise ValueError(f"no writer for the format {other}")
    is_packed = spec["format"] in _TEXTS and options["compression"] == "gzip"
    filename = spec["stem"] + extension + (".gz" if is_packed else "")
    return written(path, filename, GZIP if is_packed else content_type, rows.count)


_TEXTS = {
    "CSV": (".csv", "text/csv; charset=utf-8"),
    "JSON": (".json", "application/json"),
    "JSONL": (".jsonl", "application/jsonlines"),
}
