"""Step that fills missing values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, StrictFloat, StrictInt, StrictStr

from workers.ml.errors import BadInput
from workers.ml.node import ValueKind
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle

MAX_REPORTED_COLUMNS = 20


class ImputeParameters(Parameters):
    columns: list[ColumnName] | None = Field(
        default=None,
        title="Columns",
        description="The columns to fill; by default every feature of a type that the strategy supports.",
        min_length=1,
        max_length=20_000,
        json_schema_extra={"x-column": True},
    )
    strategy: Literal["mean", "median", "most_frequent", "constant"] = Field(
        default="mean",
        title="Strategy",
        description="What replaces a missing value, computed from the training rows. `mean` and `median` are for numbers, `most_frequent` for numbers and text.",
    )
    fill_value: StrictInt | StrictFloat | StrictStr | None = Field(
        default=None,
        title="Fill value",
        description="With the strategy `constant`: a number fills numeric columns, a text fills text columns.",
    )


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: BAD_PARAMETER, ALL_MISSING, and those of `Bundle.columns_to_transform`."""
    parameters: ImputeParameters = node.parameters
    fill_value = parameters.fill_value
    if (parameters.strategy == "constant") != (fill_value is not None):
        message = f"Step '{node.key}': the strategy 'constant' needs a fill_value, and no other strategy takes one."
        raise BadInput("BAD_PARAMETER", message, path=node.path("fill_value"))
    kinds: tuple[ValueKind, ...] = (
        ("number", "text") if parameters.strategy == "most_frequent" else ("text",) if isinstance(fill_value, str) else ("number",)
    )
    columns = [column for column in bundle.columns_to_transform(node, parameters.columns, kinds) if column.name in bundle.columns]
    if parameters.strategy != "constant":
        train = bundle.frame[bundle.learning_rows()]
        for index, column in enumerate(columns):
            if column.missing and train[column.name].null_count() == train.height:
                raise BadInput(
                    "ALL_MISSING",
                    f"The column '{column.name}' has no value in any of the {train.height:,} training rows, so step '{node.key}' cannot compute one to fill in. "
                    "Drop the column, or fill it with a constant.",
                    column=column.name,
                    path=node.path("columns", str(index)) if parameters.columns else node.path("columns"),
                )
    for kind in kinds:
        bundle.add_stage(node, [column for column in columns if column.kind == kind], _imputer(parameters, kind), fills=True)
    filled = [column.name for column in columns if column.missing]
    return {
        "rows": bundle.height,
        "columns": len(bundle.columns),
        "filled": fill_values(bundle, node, filled[:MAX_REPORTED_COLUMNS]),
        "filled_columns": len(filled),
    }


def _imputer(parameters: ImputeParameters, kind: str) -> Any:
    import numpy as np  # the API imports the registry only for its schemas
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    options: dict[str, Any] = {"strategy": parameters.strategy, "fill_value": parameters.fill_value, "keep_empty_features": True}
    if kind == "number" and isinstance(parameters.fill_value, float):
        # A column of whole numbers becomes one of floats first, since it cannot hold the fill value.
        floats = StandardScaler(with_mean=False, with_std=False)
        return Pipeline([("floats", floats), ("fill", SimpleImputer(**options))])
    if kind == "number":
        return SimpleImputer(**options)
    # A missing text is NaN in pandas and None in polars; a model takes frames of either.
    nan = SimpleImputer(missing_values=np.nan, **options)
    none = SimpleImputer(missing_values=None, **options)  # pyright: ignore[reportArgumentType] - None is accepted
    return Pipeline([("nan", nan), ("none", none)])


def fill_values(bundle: Bundle, node: PipelineNode, names: list[str]) -> dict[str, Any]:
    """Return the fill value of each of these columns."""
    if not names:
        return {}
    transformer = bundle.fit_transformer(names, node)
    values: dict[str, Any] = {}
    for _, pipeline, members in transformer.transformers_:
        last_step = pipeline[-1]
        imputer = last_step[-1] if hasattr(last_step, "named_steps") else last_step
        for name, value in zip(members, imputer.statistics_, strict=True):
            values[name] = value.item() if hasattr(value, "item") else value
    return values


IMPUTE = Step(
    key="impute",
    type="TRANSFORM",
    title="Fill missing values",
    description="Replaces missing values with the mean, median or most frequent value of the training rows, or with a constant.",
    parameters=ImputeParameters,
    place="fit",
    run=run,
)
