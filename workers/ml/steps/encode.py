"""Steps that encode categories as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle
    from workers.ml.columns import Column

MISSING = "(missing)"
MAX_REPORTED_COLUMNS = 20
CROSS_FITTED_FOLDS = 5


class EncodeParameters(Parameters):
    columns: list[ColumnName] | None = Field(
        default=None,
        title="Columns",
        description="The columns to encode; by default every text feature.",
        min_length=1,
        max_length=20_000,
        json_schema_extra={"x-column": True},
    )


class OneHotParameters(EncodeParameters):
    max_categories: int = Field(
        default=100,
        ge=2,
        le=1_000,
        title="Maximum categories",
        description="A column with more categories keeps its most frequent ones and groups the others.",
    )


class TargetEncodeParameters(EncodeParameters):
    smooth: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        title="Smoothing",
        description="How many rows of the overall mean are added to each category; if unset, it follows from the variances.",
    )


def one_hot(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    from sklearn.preprocessing import OneHotEncoder  # the API imports the registry only for its schemas

    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=node.parameters.max_categories, sparse_output=False)
    return _encode(bundle, node, encoder)


def ordinal(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    from sklearn.preprocessing import OrdinalEncoder  # see one_hot

    return _encode(bundle, node, OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2))


def target(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput (NO_TARGET)."""
    from sklearn.model_selection import KFold  # see one_hot
    from sklearn.preprocessing import TargetEncoder

    if not bundle.is_supervised:
        message = (
            f"Step '{node.key}' encodes by the target, and the pipeline trains none. Link a one_hot_encode or ordinal_encode step instead."
        )
        raise BadInput("NO_TARGET", message, path=["definition", "nodes", str(node.index), "step"])
    rows = bundle.learning_rows()
    target_type = "continuous" if bundle.problem == "REGRESSION" else "binary"
    if bundle.problem == "CLASSIFICATION" and len(set(bundle.target_values(rows).tolist())) > 2:
        target_type = "multiclass"
    options: dict[str, Any] = {
        "target_type": target_type,
        "smooth": "auto" if node.parameters.smooth is None else node.parameters.smooth,
        "cv": KFold(CROSS_FITTED_FOLDS, shuffle=True, random_state=bundle.random_state),
    }
    return _encode(bundle, node, TargetEncoder(**options))


def _encode(bundle: Bundle, node: PipelineNode, encoder: Any) -> dict[str, Any]:
    kinds = ("text",) if node.parameters.columns is None else ("text", "number")
    columns = [column for column in bundle.columns_to_transform(node, node.parameters.columns, kinds) if column.name in bundle.columns]
    category_counts, renamed = encode_columns(bundle, node, columns, encoder, node.step.key)
    reported_counts = dict(list(category_counts.items())[:MAX_REPORTED_COLUMNS])
    output = {"rows": bundle.height, "columns": len(bundle.columns), "encoded_columns": len(columns), "categories": reported_counts}
    return {**output, **({"renamed": dict(list(renamed.items())[:MAX_REPORTED_COLUMNS])} if renamed else {})}


def encode_columns(
    bundle: Bundle, node: PipelineNode, columns: list[Column], encoder: Any, label: str
) -> tuple[dict[str, int], dict[str, str]]:
    """Encode each column on its own; return the number of its categories, and the features that were renamed."""
    for column in columns:
        bundle.add_stage(node, [column], _column_encoder(encoder, column), kind="number", fills=True, label=label)
    names = [column.name for column in columns]
    category_counts: dict[str, int] = {}
    renamed: dict[str, str] = {}
    if names:
        transformer = bundle.fit_transformer(names, node)
        for _, pipeline, members in transformer.transformers_:
            last_step = pipeline[-1]
            fitted_encoder = last_step["encode"] if hasattr(last_step, "named_steps") else last_step
            category_counts[members[0]] = len(fitted_encoder.categories_[0])
            features = [str(name) for name in pipeline.get_feature_names_out(members)]
            if features != members:
                renamed |= bundle.name_features(members[0], features, node)
    return category_counts, renamed


def _column_encoder(encoder: Any, column: Column) -> Any:
    import numpy as np  # see one_hot
    from sklearn.base import clone
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline

    if column.kind != "text":
        return clone(encoder)
    # A missing text is a separate category, whether it is NaN (pandas) or None (polars).
    return Pipeline(
        [
            ("nan", SimpleImputer(missing_values=np.nan, strategy="constant", fill_value=MISSING)),
            ("none", SimpleImputer(missing_values=None, strategy="constant", fill_value=MISSING)),  # pyright: ignore[reportArgumentType] - None is accepted
            ("encode", clone(encoder)),
        ]
    )


ONE_HOT = Step(
    key="one_hot_encode",
    type="TRANSFORM",
    title="One-hot encode",
    description="Creates a column of 0 and 1 for each category. Missing text is a separate category; categories not seen in training become zeros.",
    parameters=OneHotParameters,
    place="fit",
    run=one_hot,
    takes=("text",),
    gives="number",
)
ORDINAL = Step(
    key="ordinal_encode",
    type="TRANSFORM",
    title="Ordinal encode",
    description="Numbers the categories of each column from 0 in sorted order; categories not seen in training become -1. Suited to trees and ordered categories.",
    parameters=EncodeParameters,
    place="fit",
    run=ordinal,
    takes=("text",),
    gives="number",
)
TARGET = Step(
    key="target_encode",
    type="TRANSFORM",
    title="Target encode",
    description="Replaces each category by the mean of the target in its training rows, or the share of each class; for categories by the thousand. Training rows "
    "are encoded by the other folds of 5, so that none sees its own target. Categories not seen in training become the overall mean.",
    parameters=TargetEncodeParameters,
    place="fit",
    run=target,
    takes=("text",),
    gives="number",
)
