"""Steps that choose the training rows to learn from: a sample, balanced classes, or all without outliers.

They touch neither validation nor test rows, and are applied again in each fold of a cross-validation, to its training rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    import numpy as np

    from workers.ml.bundle import Bundle, RowChoice

MAX_OVERSAMPLED_ROWS = 5_000_000


class SampleParameters(Parameters):
    fraction: float = Field(default=0.5, gt=0, le=1, title="Fraction", description="Share of the training rows that are learned from.")
    max_rows: int | None = Field(
        default=None, ge=10, le=100_000_000, title="Maximum rows", description="At most so many rows, whatever their share."
    )
    stratified: bool = Field(
        default=True, title="Stratified", description="Whether each class keeps its share, if the training predicts classes."
    )


class BalanceParameters(Parameters):
    method: Literal["undersample", "oversample"] = Field(
        default="undersample",
        title="Method",
        description="`undersample`: each class has as many rows as the rarest; `oversample`: as many as the most frequent, by repeating rows.",
    )


class OutlierParameters(Parameters):
    columns: list[ColumnName] | None = Field(
        default=None,
        min_length=1,
        max_length=20_000,
        title="Columns",
        description="The numeric columns that are examined; by default every numeric feature.",
        json_schema_extra={"x-column": True},
    )
    method: Literal["iqr", "zscore", "isolation_forest"] = Field(
        default="iqr",
        title="Method",
        description="`iqr`: further from the middle half than `threshold` times its width; `zscore`: further from the mean than `threshold` standard deviations; "
        "`isolation_forest`: the rows that random cuts of all columns separate first.",
    )
    threshold: float = Field(default=3.0, gt=0, le=1_000, title="Threshold", description="With `iqr` and `zscore`: how far is too far.")
    share: float = Field(default=0.01, gt=0, le=0.5, title="Share", description="With `isolation_forest`: the share of rows to remove.")


def sample(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    import numpy as np  # the API imports the registry only for its schemas

    parameters: SampleParameters = node.parameters

    def choose(rows: np.ndarray) -> np.ndarray:
        wanted = max(1, round(parameters.fraction * len(rows)))
        wanted = wanted if parameters.max_rows is None else min(wanted, parameters.max_rows)
        order = np.random.default_rng(_seed(bundle, node)).permutation(len(rows))
        if parameters.stratified and bundle.problem == "CLASSIFICATION":
            # The rows of each class are spread evenly over 0..1, and the first share of that range is taken.
            labels = np.unique(bundle.target_values(rows), return_inverse=True)[1][order]
            positions = np.empty(len(rows))
            for label in np.unique(labels):
                members = np.flatnonzero(labels == label)
                positions[members] = (np.arange(len(members)) + 0.5) / len(members)
            order = order[np.argsort(positions, kind="stable")]
        return rows[np.sort(order[:wanted])]

    return apply_choice(bundle, node, choose)


def balance(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: WRONG_PROBLEM, TOO_LARGE."""
    import numpy as np  # see sample

    if bundle.problem != "CLASSIFICATION":
        message = f"Step '{node.key}' balances classes, and the training predicts none. Remove the step."
        raise BadInput("WRONG_PROBLEM", message, path=["definition", "nodes", str(node.index), "step"])
    oversamples = node.parameters.method == "oversample"

    def choose(rows: np.ndarray) -> np.ndarray:
        labels, counts = np.unique(bundle.target_values(rows), return_inverse=True, return_counts=True)[1:]
        size = int(counts.max() if oversamples else counts.min())
        if size * len(counts) > MAX_OVERSAMPLED_ROWS:
            message = f"Step '{node.key}' makes {size * len(counts):,} training rows; the maximum is {MAX_OVERSAMPLED_ROWS:,}. Choose the method undersample."
            raise BadInput("TOO_LARGE", message, path=node.path("method"))
        rng = np.random.default_rng(_seed(bundle, node))
        chosen: list[np.ndarray] = []
        for label in range(len(counts)):
            members = rows[labels == label]
            # Oversampling takes every row as often as possible, and a random rest.
            whole = np.tile(members, size // len(members))
            chosen += [whole, rng.choice(members, size - len(whole), replace=False)]
        return np.sort(np.concatenate(chosen), kind="stable")

    return apply_choice(bundle, node, choose)


def outliers(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: those of `Bundle.columns_to_transform`, INFINITE_VALUES, NO_COLUMNS."""
    import numpy as np  # see sample
    import polars as pl

    from workers.ml.value_checks import check_finite

    parameters: OutlierParameters = node.parameters
    columns = bundle.columns_to_transform(node, parameters.columns, ("number",))
    names = [column.name for column in columns if column.name in bundle.frame.columns]
    if not names:
        raise BadInput(
            "NO_COLUMNS", f"There is no numeric column for step '{node.key}' to examine. Remove the step.", path=node.path("columns")
        )
    check_finite(bundle.frame.select(names), node)

    def choose(rows: np.ndarray) -> np.ndarray:
        values = bundle.frame.select(pl.col(names).cast(pl.Float64))[rows].to_numpy()
        with np.errstate(invalid="ignore"):
            return rows[~_is_outlier(values, parameters, bundle.random_state)]

    return apply_choice(bundle, node, choose)


def _is_outlier(values: np.ndarray, parameters: OutlierParameters, seed: int) -> np.ndarray:
    """Return whether each row has a value, or is as a whole, far from the others; a missing value is not far."""
    import numpy as np  # see sample

    present = values[:, ~np.isnan(values).all(axis=0)]
    if parameters.method == "isolation_forest":
        from sklearn.ensemble import IsolationForest

        filled = np.where(np.isnan(present), np.nanmedian(present, axis=0), present)
        options: dict[str, Any] = {"contamination": parameters.share, "random_state": seed}
        return IsolationForest(**options, n_jobs=1).fit_predict(filled) == -1
    if parameters.method == "zscore":
        low = np.nanmean(present, axis=0) - parameters.threshold * np.nanstd(present, axis=0)
        high = np.nanmean(present, axis=0) + parameters.threshold * np.nanstd(present, axis=0)
    else:
        first, third = np.nanquantile(present, [0.25, 0.75], axis=0)
        low, high = first - parameters.threshold * (third - first), third + parameters.threshold * (third - first)
    return ((present < low) | (present > high)).any(axis=1)


def apply_choice(bundle: Bundle, node: PipelineNode, choose: RowChoice) -> dict[str, Any]:
    """Raises BadInput (NO_TRAINING)."""
    if bundle.problem is None:
        raise BadInput(
            "NO_TRAINING",
            f"Step '{node.key}' chooses the rows that a training learns from, and the pipeline has none. Choose rows with a filter_rows step.",
            path=["definition", "nodes", str(node.index), "step"],
        )
    before = len(bundle.learning_rows())
    bundle.add_row_choice(choose)
    return {"training_rows": len(bundle.learning_rows()), "training_rows_before": before}


def _seed(bundle: Bundle, node: PipelineNode) -> list[int]:
    return [bundle.random_state, node.index]


SAMPLE = Step(
    key="sample_rows",
    type="FILTER",
    title="Sample rows",
    description="Learns from a sample of the training rows. Validation and test rows stay.",
    parameters=SampleParameters,
    place="rows",
    run=sample,
)
BALANCE = Step(
    key="balance_classes",
    type="AUGMENT",
    title="Balance classes",
    description="Learns from as many training rows of each class. Validation and test rows keep their shares. Predicted probabilities are those of balanced classes.",
    parameters=BalanceParameters,
    place="rows",
    run=balance,
)
OUTLIERS = Step(
    key="remove_outliers",
    type="FILTER",
    title="Remove outliers",
    description="Learns from the training rows without those that are far from the others. Validation and test rows stay, so that metrics tell of all rows.",
    parameters=OutlierParameters,
    place="rows",
    run=outliers,
)
