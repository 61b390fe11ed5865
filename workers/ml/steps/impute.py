"""Filling missing values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, StrictFloat, StrictInt, StrictStr

from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Node, Parameters, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle

SHOWN = 20


class ImputeParameters(Parameters):
    columns: list[ColumnName] | None = Field(
        default=None,
        title="Columns",
        description="The columns to fill; by default every feature that the strategy suits.",
        min_length=1,
        max_length=20_000,
        json_schema_extra={"x-column": True},
    )
    strategy: Literal["mean", "median", "most_frequent", "constant"] = Field(
        default="mean",
        title="Strategy",
        description="What stands in for a missing value, learnt from the training rows. `mean` and `median` suit numbers, `most_frequent` numbers and text.",
    )
    fill_value: StrictInt | StrictFloat | StrictStr | None = Field(
        default=None,
        title="Fill value",
        description="With the strategy `constant`: a number fills numeric columns, a text fills text columns.",
    )


def run(bundle: Bundle, node: Node) -> dict[str, Any]:
    from workers.ml.bundle import Kind

    wanted: ImputeParameters = node.parameters
    fill = wanted.fill_value
    if (wanted.strategy == "constant") != (fill is not None):
        message = f"Step '{node.key}': the strategy 'constant' needs a fill_value, and no other strategy takes one."
        raise BadInput("BAD_PARAMETER", message, path=node.path("fill_value"))
    kinds: tuple[Kind, ...] = (
        ("number", "text") if wanted.strategy == "most_frequent" else ("text",) if isinstance(fill, str) else ("number",)
    )
    columns = [column for column in bundle.targets(node, wanted.columns, kinds) if column.name in bundle.columns]
    if wanted.strategy != "constant":
        train = bundle.frame[bundle.part("train")]
        for place, column in enumerate(columns):
            if column.missing and train[column.name].null_count() == train.height:
                raise BadInput(
                    "ALL_MISSING",
                    f"The column '{column.name}' has no value in any of the {train.height:,} training rows, so step '{node.key}' can learn none. "
                    "Drop the column, or fill it with a constant.",
                    column=column.name,
                    path=node.path("columns", str(place)) if wanted.columns else node.path("columns"),
                )
    for kind in kinds:
        bundle.add_stage(node, [column for column in columns if column.kind == kind], _transformer(wanted, kind), fills=True)
    filled = [column.name for column in columns if column.missing]
    return {
        "rows": bundle.frame.height,
        "columns": len(bundle.columns),
        "filled": _learnt(bundle, node, filled[:SHOWN]),
        "filled_columns": len(filled),
    }


def _transformer(wanted: ImputeParameters, kind: str) -> Any:
    import numpy as np  # the API imports the registry for its schemas alone
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline

    options: dict[str, Any] = {"strategy": wanted.strategy, "fill_value": wanted.fill_value, "keep_empty_features": True}
    if kind == "number":
        return SimpleImputer(**options)
    # pandas says NaN for a missing text and polars None; a model takes frames of either.
    nan = SimpleImputer(missing_values=np.nan, **options)
    none = SimpleImputer(missing_values=None, **options)  # pyright: ignore[reportArgumentType] - None is a value that may stand for missing
    return Pipeline([("nan", nan), ("none", none)])


def _learnt(bundle: Bundle, node: Node, names: list[str]) -> dict[str, Any]:
    """What each of these columns is filled with."""
    if not names:
        return {}
    fitted = bundle.fit_transformer(names, node)
    found: dict[str, Any] = {}
    for _, pipeline, members in fitted.transformers_:
        last = pipeline[-1]
        imputer = last["none"] if hasattr(last, "named_steps") else last
        for name, value in zip(members, imputer.statistics_, strict=True):
            found[name] = value.item() if hasattr(value, "item") else value
    return found


IMPUTE = Step(
    key="impute",
    type="TRANSFORM",
    title="Fill missing values",
    description="Puts a value where one is missing: the mean, median or most frequent of the training rows, or a constant.",
    parameters=ImputeParameters,
    place="fit",
    run=run,
)
