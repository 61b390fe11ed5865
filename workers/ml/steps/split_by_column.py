"""Step that takes training, validation and test rows from a column, such as the split that an archive gives to its items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.split_names import SPLITS
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.split import split_summary
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    import polars as pl

    from workers.ml.bundle import Bundle

SPLIT_COLUMN: Final = "split"
GROUP_COLUMN: Final = "group"
_WAY_OUT: Final = "Name another column, or draw the rows with the step `split`."


class SplitByColumnParameters(Parameters):
    split_column: ColumnName = Field(
        default=SPLIT_COLUMN,
        title="Split column",
        description="The column whose values are train, validation (val, valid, dev) and test; by default `split`, which versions of archives with such folders or "
        "manifests have. It is not a feature.",
        json_schema_extra={"x-column": True, "x-split-column": True},
    )


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Rows with another value or none are in no part. Without test rows, the validation rows are the test.

    Raises BadInput: UNKNOWN_COLUMN, WRONG_COLUMN_TYPE, TOO_FEW_ROWS.
    """
    import numpy as np  # the API imports the registry only for its schemas
    import polars as pl

    from workers.ml.data_split import MIN_TEST_ROWS, MIN_TRAINING_ROWS, DataSplit

    name = node.parameters.split_column
    column = bundle.target_or_split_column(name, node, "split_column")
    if column.kind != "text":
        message = f"Step '{node.key}' takes the parts from the column '{name}', which is of type {column.type} and not text. {_WAY_OUT}"
        raise BadInput("WRONG_COLUMN_TYPE", message, column=name, path=node.path("split_column"))
    parts = bundle.frame.select(_part(name))[name]
    train, validation, test = (
        np.flatnonzero((parts == part).fill_null(value=False).to_numpy()) for part in ("train", "validation", "test")
    )
    notes = [f"The parts are those of the column '{name}'."]
    if not len(test):
        validation, test = test, validation
        notes.append("It names no test rows, so the validation rows are the test.")
    if len(train) < MIN_TRAINING_ROWS or len(test) < MIN_TEST_ROWS:
        listed = ", ".join(repr(value) for value in bundle.frame[name].drop_nulls().cast(pl.String).unique().sort().head(5).to_list())
        raise BadInput(
            "TOO_FEW_ROWS",
            f"The column '{name}' has {len(train):,} rows for training and {len(test):,} for the test; at least {MIN_TRAINING_ROWS} and {MIN_TEST_ROWS} are needed. "
            f"Its values are {listed or 'all missing'}. {_WAY_OUT}",
            column=name,
            path=node.path("split_column"),
        )
    if unused := bundle.frame.height - len(train) - len(validation) - len(test):
        notes.append(f"{unused:,} rows are of no part and not used.")
    leaks = [*(bundle.known_leaks if name == SPLIT_COLUMN else ()), *_shared_groups(bundle, name)]
    bundle.data_split = DataSplit("column", train, validation, test, " ".join([*notes, *leaks]))
    for leak in leaks:
        bundle.reporter.log(leak)
    return {"columns": len(bundle.columns), **split_summary(bundle.data_split), **({"leaks": leaks} if leaks else {})}


def _part(name: str) -> pl.Expr:
    """The part of the data that a row belongs to; null for none."""
    import polars as pl  # see run

    return pl.col(name).cast(pl.String).str.strip_chars().str.to_lowercase().replace_strict(SPLITS, default=None, return_dtype=pl.String)


def _shared_groups(bundle: Bundle, name: str) -> list[str]:
    """What is part of one recording or patient is alike, so a model is tested on what it remembers if the split divides it."""
    import polars as pl  # see run

    if GROUP_COLUMN not in bundle.lazy.collect_schema().names():
        return []
    groups = bundle.lazy.select(pl.col(GROUP_COLUMN), _part(name).alias("part")).drop_nulls().unique().group_by(GROUP_COLUMN).len()
    shared = int(groups.filter(pl.col("len") > 1).select(pl.len()).collect().item())
    message = (
        f"{shared:,} groups of the column '{GROUP_COLUMN}' have rows in several parts, so that what is tested on may have been trained on."
    )
    return [message] if shared else []


SPLIT_BY_COLUMN = Step(
    key="split_by_column",
    type="SPLIT",
    title="Split by column",
    description="Takes the training, validation and test rows from a column that names them, such as the split of an archive, instead of drawing them. "
    "Transforms are fitted on the training rows only, wherever this step is placed.",
    parameters=SplitByColumnParameters,
    place="split",
    run=run,
)
