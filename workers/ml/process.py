"""What a pipeline without training leaves: a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workers.ml.bundle import PARTS, Bundle, Column
from workers.ml.errors import BadInput
from workers.ml.plan import Plan

PREVIEW_ROWS = 100
SPLIT_COLUMN = "split"
WHOLE = 2.0**63  # from here on, a float is no whole number of 64 bits
WHOLE_STAGES = ("impute",)


@dataclass(frozen=True)
class Written:
    row_count: int
    columns: list[dict[str, Any]]
    preview: list[dict[str, Any]]


def write_dataset(bundle: Bundle, plan: Plan, path: Path) -> Written:
    """Writes the rows with all transforms applied as Parquet (zstd). Without transforms and split nothing is held in memory,
    so that a file larger than it passes."""
    if not plan.of("split", "fit"):
        lazy = bundle.lazy.select(list(bundle.columns))
        lazy.sink_parquet(path, compression="zstd")
    else:
        _transformed(bundle, plan).write_parquet(path, compression="zstd")
    schema = pl.read_parquet_schema(path)
    scan = pl.scan_parquet(path)
    rows, nulls = scan.select(pl.len()).collect().item(), scan.null_count().collect(engine="streaming").row(0)
    columns = [
        {"name": name, "type": _type(bundle, name, dtype), "nullable": missing > 0}
        for (name, dtype), missing in zip(schema.items(), nulls, strict=True)
    ]
    preview = [{name: _json(value) for name, value in row.items()} for row in scan.head(PREVIEW_ROWS).collect().to_dicts()]
    return Written(int(rows), columns, preview)


def _transformed(bundle: Bundle, plan: Plan) -> pl.DataFrame:
    """Columns in the dataset's order, those that a column was encoded into in its place."""
    frame, made = bundle.frame, dict[str, list[pl.Series]]()
    changed = [name for name, column in bundle.columns.items() if column.stages]
    if changed:
        fitted = bundle.fit_transformer(changed, plan.of("fit")[-1])
        values = fitted.transform(bundle.features(changed))
        names = [str(name) for name in fitted.get_feature_names_out()]
        for group, _, members in fitted.transformers_:
            if group == "remainder":
                continue
            span = range(values.shape[1])[fitted.output_indices_[group]]
            per = len(span) // len(members)
            for number, member in enumerate(members):
                own = span[number * per : (number + 1) * per]
                made[member] = [
                    _series(names[at] if per > 1 else member, values[:, at], bundle.columns[member], frame[member].dtype) for at in own
                ]
    series = [one for name in bundle.columns for one in made.get(name, [frame[name]])]
    taken: set[str] = set()
    at = plan.of("split", "fit")[-1]
    for one in series:
        if one.name in taken or (one.name == SPLIT_COLUMN and bundle.division is not None):
            raise BadInput(
                "NAME_TAKEN",
                f"The pipeline makes the column '{one.name}' and there is one of that name already. Drop that column before.",
                column=one.name,
                path=at.path(),
            )
        taken.add(one.name)
    if bundle.division is not None:
        parts = np.empty(frame.height, dtype=object)
        for part in PARTS:
            parts[bundle.division.rows(part)] = part
        series.append(pl.Series(SPLIT_COLUMN, parts.tolist(), dtype=pl.String))
    return pl.DataFrame(series)


def _series(name: str, values: np.ndarray, column: Column, dtype: pl.DataType) -> pl.Series:
    """Numbers as floats, but whole ones where the column was of whole numbers and only had missing values filled; texts as text."""
    if column.kind == "text":
        return pl.Series(name, [value if isinstance(value, str) else None for value in values.tolist()], dtype=pl.String)
    numbers = pl.Series(name, np.asarray(values, dtype=np.float64)).fill_nan(None)
    if not (numbers.drop_nulls().abs() < WHOLE).all():
        return numbers
    only_filled = all(stage.name.startswith(WHOLE_STAGES) for stage in column.stages)
    encoded = column.stages[-1].name.startswith(("one_hot_encode", "ordinal_encode"))
    if encoded or (
        only_filled and (dtype.is_integer() or dtype == pl.Boolean) and (numbers.drop_nulls() == numbers.drop_nulls().floor()).all()
    ):
        whole = numbers.cast(pl.Int64)
        return whole.cast(pl.Boolean) if dtype == pl.Boolean and not encoded and set(whole.drop_nulls().unique()) <= {0, 1} else whole
    return numbers


def _type(bundle: Bundle, name: str, dtype: pl.DataType) -> str:
    column = bundle.columns.get(name)
    if column is not None and not column.stages:
        return column.type
    if dtype == pl.Boolean:
        return "BOOLEAN"
    if dtype.is_integer():
        return "INTEGER"
    return "FLOAT" if dtype.is_numeric() else "STRING" if column is not None else "CATEGORY"


def _json(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_json(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _json(one) for key, one in value.items()}
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
