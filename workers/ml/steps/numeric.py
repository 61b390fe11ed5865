"""Steps that change the shape of numeric columns: logarithms and bins."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle


class LogParameters(Parameters):
    columns: list[ColumnName] = Field(
        min_length=1,
        max_length=20_000,
        title="Columns",
        description="The numeric columns to transform.",
        json_schema_extra={"x-column": True},
    )
    method: Literal["log1p", "asinh", "yeo_johnson"] = Field(
        default="log1p",
        title="Method",
        description="`log1p`: the logarithm of 1 + x, for values from 0; `asinh`: the like for values of either sign; `yeo_johnson`: the power that makes the "
        "training rows most alike a normal distribution, then scaled to mean 0 and standard deviation 1.",
    )


class BinParameters(Parameters):
    columns: list[ColumnName] = Field(
        min_length=1, max_length=2_000, title="Columns", description="The numeric columns to bin.", json_schema_extra={"x-column": True}
    )
    bins: int = Field(
        default=5, ge=2, le=100, title="Bins", description="Number of bins of each column; fewer where the values do not fill them."
    )
    strategy: Literal["quantile", "uniform", "kmeans"] = Field(
        default="quantile",
        title="Strategy",
        description="The bins of the training rows: `quantile`: each with as many rows; `uniform`: equally wide; `kmeans`: around centres.",
    )
    encode: Literal["ordinal", "one_hot"] = Field(
        default="ordinal", title="Encoding", description="Whether a bin is its number from 0, or each has a column of 0 and 1."
    )


def log(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput (NEGATIVE_VALUES) and those of `Bundle.columns_to_transform`."""
    import numpy as np  # the API imports the registry only for its schemas
    from sklearn.preprocessing import FunctionTransformer, PowerTransformer

    method = node.parameters.method
    columns = [
        column for column in bundle.columns_to_transform(node, node.parameters.columns, ("number",)) if column.name in bundle.columns
    ]
    for index, column in enumerate(columns):
        if method == "log1p" and not column.stages:
            least = bundle.frame[column.name].min()
            if isinstance(least, int | float) and least < 0:
                raise BadInput(
                    "NEGATIVE_VALUES",
                    f"The column '{column.name}' has negative values, the least is {least:g}, and the method 'log1p' of step '{node.key}' takes values from 0. "
                    "Choose the method 'asinh' or 'yeo_johnson', or filter such rows.",
                    column=column.name,
                    path=node.path("columns", str(index)),
                )
    function = {"log1p": np.log1p, "asinh": np.arcsinh}.get(method)
    transformer = PowerTransformer() if function is None else FunctionTransformer(function, feature_names_out="one-to-one")
    bundle.add_stage(node, columns, transformer)
    names = [column.name for column in columns]
    if names:
        bundle.fit_transformer(names, node)
    return {"rows": bundle.height, "columns": len(bundle.columns), "transformed_columns": len(names)}


def bin_numbers(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput (MISSING_VALUES) and those of `Bundle.columns_to_transform`."""
    from sklearn.preprocessing import KBinsDiscretizer  # see log

    parameters: BinParameters = node.parameters
    columns = [column for column in bundle.columns_to_transform(node, parameters.columns, ("number",)) if column.name in bundle.columns]
    _ = bundle.frame  # counts the missing values
    for index, column in enumerate([bundle.columns[column.name] for column in columns]):
        if column.missing:
            raise BadInput(
                "MISSING_VALUES",
                f"The column '{column.name}' has {column.missing:,} missing values, which have no bin in step '{node.key}'. Link an impute step before it.",
                column=column.name,
                path=node.path("columns", str(index)),
            )
    counts: dict[str, int] = {}
    renamed: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Bins whose width are too small")
        for column in columns:
            options: dict[str, Any] = {"encode": "ordinal" if parameters.encode == "ordinal" else "onehot-dense", "subsample": None}
            binner = KBinsDiscretizer(
                parameters.bins,
                **options,
                strategy=parameters.strategy,
                quantile_method="averaged_inverted_cdf",
                random_state=bundle.random_state,
            )
            label = "ordinal_encode" if parameters.encode == "ordinal" else "one_hot_encode"
            bundle.add_stage(node, [column], binner, label=f"{label}_bins")
            transformer = bundle.fit_transformer([column.name], node)
            fitted = transformer.transformers_[0][1][-1]
            counts[column.name] = int(fitted.n_bins_[0])
            if parameters.encode == "one_hot":
                edges = fitted.bin_edges_[0]
                features = [f"{column.name}_{low:.6g}_to_{high:.6g}" for low, high in pairwise(edges)]
                renamed |= bundle.name_features(column.name, features, node)
    output = {"rows": bundle.height, "columns": len(bundle.columns), "bins": dict(list(counts.items())[:20])}
    return {**output, **({"renamed": renamed} if renamed else {})}


LOG = Step(
    key="log_transform",
    type="TRANSFORM",
    title="Log transform",
    description="Draws in long tails of numeric columns. It is part of the model. Missing values stay.",
    parameters=LogParameters,
    place="fit",
    run=log,
)
BIN = Step(
    key="bin_numbers",
    type="TRANSFORM",
    title="Bin numbers",
    description="Groups the values of numeric columns into bins, by the training rows. It is part of the model.",
    parameters=BinParameters,
    place="fit",
    run=bin_numbers,
)
