"""The output of a pipeline without training: a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workers.ml.bundle import Bundle
from workers.ml.columns import Column, unique
from workers.ml.data_split import SUBSETS
from workers.ml.plan import Plan

PREVIEW_ROWS = 100
SPLIT_COLUMN = "split"
INT64_LIMIT = 2.0**63  # floats from here on do not fit a signed 64-bit integer
INTEGER_PRESERVING_STAGES = ("impute",)


@dataclass(frozen=True)
class WrittenDataset:
    """`columns` are {name, type, nullable}; `preview` holds at most 100 rows as JSON."""

    row_count: int
    columns: list[dict[str, Any]]
    preview: list[dict[str, Any]]


def write_dataset(bundle: Bundle, plan: Plan, path: Path) -> WrittenDataset:
    """Write the rows with all transforms applied as Parquet (zstd).

    Without transforms and split the rows are streamed, so a file may be larger than memory.
    """
    if not plan.nodes_at("split", "fit"):
        lazy_frame = bundle.lazy.select(list(bundle.columns))
        lazy_frame.sink_parquet(path, compression="zstd")
    else:
        _transformed(bundle, plan).write_parquet(path, compression="zstd")
    schema = pl.read_parquet_schema(path)
    scan = pl.scan_parquet(path)
    row_count, null_counts = scan.select(pl.len()).collect().item(), scan.null_count().collect(engine="streaming").row(0)
    columns = [
        {"name": name, "type": _column_type(bundle, name, dtype), "nullable": missing > 0}
        for (name, dtype), missing in zip(schema.items(), null_counts, strict=True)
    ]
    return WrittenDataset(int(row_count), columns, preview_rows(path))


def preview_rows(path: Path) -> list[dict[str, Any]]:
    """Return the first rows of a Parquet file as JSON, 100 at most."""
    return [
        {name: _json_value(value) for name, value in row.items()} for row in pl.scan_parquet(path).head(PREVIEW_ROWS).collect().to_dicts()
    ]


def _transformed(bundle: Bundle, plan: Plan) -> pl.DataFrame:
    """Return the transformed columns in the dataset's order; encoded columns take the place of their source."""
    frame, encoded = bundle.frame, dict[str, list[pl.Series]]()
    transformed = [name for name, column in bundle.columns.items() if column.stages]
    if transformed:
        transformer = bundle.fit_transformer(transformed, plan.nodes_at("fit")[-1])
        values = transformer.transform(bundle.features(transformed))
        names = bundle.feature_names(transformer)
        for group, _, members in transformer.transformers_:
            if group == "remainder":
                continue
            outputs = range(values.shape[1])[transformer.output_indices_[group]]
            outputs_per_column = len(outputs) // len(members)
            for number, member in enumerate(members):
                own_outputs = outputs[number * outputs_per_column : (number + 1) * outputs_per_column]
                encoded[member] = [
                    _series(
                        names[index] if outputs_per_column > 1 else member, values[:, index], bundle.columns[member], frame[member].dtype
                    )
                    for index in own_outputs
                ]
    series = [output for name in bundle.columns for output in encoded.get(name, [frame[name]])]
    if bundle.data_split is not None:
        split_name = unique(SPLIT_COLUMN, [column.name for column in series])
        if split_name != SPLIT_COLUMN:
            bundle.reporter.log(f"There is a column '{SPLIT_COLUMN}' already; the part of each row is in the column '{split_name}'.")
        subset_names = np.empty(frame.height, dtype=object)
        for part in SUBSETS:
            subset_names[bundle.data_split.rows(part)] = part
        series.append(pl.Series(split_name, subset_names.tolist(), dtype=pl.String))
    return pl.DataFrame(series)


def _series(name: str, values: np.ndarray, column: Column, dtype: pl.DataType) -> pl.Series:
    """Build one output column: text as text, category codes and imputed integer columns as integers, other numbers as floats."""
    if column.kind == "text":
        return pl.Series(name, [value if isinstance(value, str) else None for value in values.tolist()], dtype=pl.String)
    numbers = pl.Series(name, np.asarray(values, dtype=np.float64)).fill_nan(None)
    if not (numbers.drop_nulls().abs() < INT64_LIMIT).all():
        return numbers
    only_filled = all(stage.name.startswith(INTEGER_PRESERVING_STAGES) for stage in column.stages)
    encoded = column.stages[-1].name.startswith(("one_hot_encode", "ordinal_encode"))
    if encoded or (
        only_filled and (dtype.is_integer() or dtype == pl.Boolean) and (numbers.drop_nulls() == numbers.drop_nulls().floor()).all()
    ):
        integers = numbers.cast(pl.Int64)
        return (
            integers.cast(pl.Boolean) if dtype == pl.Boolean and not encoded and set(integers.drop_nulls().unique()) <= {0, 1} else integers
        )
    return numbers


def _column_type(bundle: Bundle, name: str, dtype: pl.DataType) -> str:
    column = bundle.columns.get(name)
    if column is not None and not column.stages:
        return column.type
    if dtype == pl.Boolean:
        return "BOOLEAN"
    if dtype.is_integer():
        return "INTEGER"
    return "FLOAT" if dtype.is_numeric() else "STRING" if column is not None else "CATEGORY"


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _json_value(one) for key, one in value.items()}
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
