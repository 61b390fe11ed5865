"""A folder that `datasets.load_dataset` of Hugging Face reads: Parquet files by split, and a card that names them.

The features are in the metadata of the Parquet files, as that library writes them itself; a target with classes is a ClassLabel. What the library does not
know, such as the column of the split, is beside them: an upload of the folder is the same table again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from workers.ml.exports.categories import Categories, find_categories
from workers.ml.exports.source import ExportSpec, Rows, WrittenFile, written
from workers.ml.exports.splits import Splits, find_splits, write_shards
from workers.ml.table_parts import KEY, TableParts

PARQUET = "application/vnd.apache.parquet"
ROW_GROUP = 65_536
_LICENSE = re.compile(r"[a-z0-9.-]{2,40}")
_SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6), ("1M<n<10M", 10**7), ("10M<n<100M", 10**8))
_TASKS = {"CLASSIFICATION": "tabular-classification", "REGRESSION": "tabular-regression"}
CLASS_TYPES = ("CATEGORY", "STRING", "BOOLEAN")


def write_huggingface(spec: ExportSpec, rows: Rows, folder: Path) -> list[WrittenFile]:
    options = spec["options"]
    splits = find_splits(rows, options.get("splitColumn"), options.get("target"))
    target: str | None = options.get("target")
    has_classes = target is not None and is_class(rows.types[target], spec["problem_type"])
    categories = find_categories(rows, [target] if target is not None and has_classes else [])
    labels = None if target is None else categories.values.get(target)
    if has_classes and labels is None:
        rows.reporter.log(f"The target {target!r} has too many values to be a ClassLabel; its values are written as they are.")
    schema = _schema(rows, splits, target if labels is not None else None, labels)

    def open_writer(path: Path) -> _ParquetShard:
        return _ParquetShard(path, schema, target if labels is not None else None, categories)

    shards = write_shards(rows, splits, options["shardRows"], folder, open_writer)
    task = _TASKS.get("CLASSIFICATION" if labels is not None else spec["problem_type"] or "")
    card = write_card(spec, rows, splits, folder, target=target, task=task)
    files = [written(shard.path, f"{shard.name}.parquet", PARQUET, shard.rows, member=f"data/{shard.name}.parquet") for shard in shards]
    return [*files, card]


def is_class(column_type: str, problem_type: str | None) -> bool:
    """Whether the values of a target are classes: texts and booleans are, integers if the problem is a classification."""
    return column_type in CLASS_TYPES or (column_type == "INTEGER" and problem_type == "CLASSIFICATION")


class _ParquetShard:
    """Writes row groups of `ROW_GROUP` rows."""

    def __init__(self, path: Path, schema: pa.Schema, target: str | None, categories: Categories) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema, self._target, self._categories = schema, target, categories
        self._pending: list[pl.DataFrame] = []
        self._height = 0

    def write(self, frame: pl.DataFrame) -> None:
        self._pending.append(
            frame if self._target is None else frame.with_columns(self._categories.codes(self._target).alias(self._target))
        )
        self._height += frame.height
        if self._height >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        frame = pl.concat(self._pending)
        table = frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String)).to_arrow(compat_level=pl.CompatLevel.oldest())
        self._writer.write_table(table.cast(self._schema), row_group_size=frame.height)
        self._pending, self._height = [], 0

    def close(self) -> None:
        if self._height:
            self._flush()
        self._writer.close()


def _schema(rows: Rows, splits: Splits, target: str | None, labels: Sequence[str] | None) -> pa.Schema:
    fields: list[pa.Field] = []
    features: dict[str, Any] = {}
    for name in rows.types:
        if name == splits.column:
            continue
        if name == target and labels is not None:
            fields.append(pa.field(name, pa.int64()))
            features[name] = {"names": list(labels), "_type": "ClassLabel"}
            continue
        kind = plain_type(rows.file.schema_arrow.field(name).type)
        fields.append(pa.field(name, kind))
        features[name] = {"dtype": feature_type(kind), "_type": "Value"}
    values = {name: value for value, name in splits.names.items()}
    described = {"huggingface": json.dumps({"info": {"features": features}}, ensure_ascii=False)}
    return pa.schema(fields, metadata={**described, KEY: TableParts(rows.types, splits.column, values).encode()})


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type with 32-bit offsets and without a dictionary."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) else kind


def feature_type(kind: pa.DataType) -> str:
    names = {pa.bool_(): "bool", pa.float32(): "float32", pa.float64(): "float64", pa.null(): "null"}
    return names.get(kind) or str(kind).replace("[day]", "").replace("halffloat", "float16")


def write_card(
    spec: ExportSpec,
    rows: Rows,
    splits: Splits,
    folder: Path,
    *,
    target: str | None,
    task: str | None,
    extension: str = "parquet",
    features: Sequence[tuple[str, str | Sequence[str]]] = (),
    names: Mapping[str, str] | None = None,
) -> WrittenFile:
    """Write the card. `features`, each with a type or the names of its classes, are named if the files do not tell them; `names` are those of columns there."""
    path = folder / "README.md"
    path.write_text(_card(spec, rows, splits, target, task, extension, features, names or {}), encoding="utf-8")
    return written(path, path.name, "text/markdown; charset=utf-8", None)


def _card(
    spec: ExportSpec,
    rows: Rows,
    splits: Splits,
    target: str | None,
    task: str | None,
    extension: str,
    features: Sequence[tuple[str, str | Sequence[str]]],
    names: Mapping[str, str],
) -> str:
    """The card, which begins with YAML; texts in it are JSON, which is YAML too."""
    source = spec["source"]
    head = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split in splits.counts:
        head += [f"  - split: {split}", f"    path: data/{split}-*.{extension}"]
    head += _features(features)
    head.append(f"pretty_name: {_quoted(source['name'])}")
    if source["license"]:
        is_known = _LICENSE.fullmatch(source["license"]) is not None
        head += [f"license: {source['license']}"] if is_known else ["license: other", f"license_name: {_quoted(source['license'])}"]
    head += [*(["task_categories:", f"- {task}"] if task else []), "size_categories:", f"- {_size(rows.count)}", "---", ""]
    lines = [f"# {_plain(source['name'])}", "", *([source["description"], ""] if source["description"] else [])]
    if source["number"] is not None and source["published"] is not None:
        lines += [f"Version {source['number']}, published {source['published']}.", ""]
    lines += ["| split | rows |", "| --- | --- |"]
    lines += [f"| {split} | {count:,} |" for split, count in splits.counts.items()]
    lines += ["", "| column | type |", "| --- | --- |"]
    for name, column_type in rows.types.items():
        if name != splits.column:
            note = " (target)" if name == target else ""
            lines.append(f"| {_plain(names.get(name, name))} | {column_type}{note} |")
    return "\n".join([*head, *lines]) + "\n"


def _features(features: Sequence[tuple[str, str | Sequence[str]]]) -> list[str]:
    lines = ["  features:"] if features else []
    for name, kind in features:
        lines.append(f"  - name: {_quoted(name)}")
        if isinstance(kind, str):
            lines.append(f"    dtype: {_quoted(kind)}")
        else:
            lines += ["    dtype:", "      class_label:", "        names:"]
            lines += [f"          '{number}': {_quoted(label)}" for number, label in enumerate(kind)]
    return lines


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _plain(text: str) -> str:
    """The text on one line, without what Markdown and HTML read as their own."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))


def _size(rows: int) -> str:
    return next((name for name, limit in _SIZES if rows < limit), "100M<n<1B" if rows < 10**9 else "n>1T" if rows >= 10**12 else "1B<n<10B")
