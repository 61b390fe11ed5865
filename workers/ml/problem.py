"""Target and problem type of a training pipeline, determined before the rows are split."""

from __future__ import annotations

import polars as pl

from workers.ml.bundle import Bundle
from workers.ml.columns import Column
from workers.ml.errors import BadInput
from workers.ml.steps.step import PipelineNode
from workers.ml.steps.training_parameters import ClassifierOrRegressorParameters, SupervisedParameters

# An integer target with more distinct values is a regression target, unless the dataset or the step sets the problem type.
MAX_INTEGER_CLASSES = 20
MAX_CLASSES = 200
# Above 2^53 not every integer has its own double.
MAX_EXACT_INTEGER = 2.0**53
# Squared errors and their sum must not overflow a double.
MAX_TARGET_VALUE = 1e100


def determine_problem(bundle: Bundle, node: PipelineNode, default_target: str | None, default_problem: str | None) -> None:
    """Set the bundle's target and problem type and drop rows without a target value.

    Raises BadInput: NO_TARGET, UNKNOWN_COLUMN, TARGET_MISSING, INFINITE_VALUES, WRONG_COLUMN_TYPE, VALUES_TOO_LARGE, BAD_LABEL, ONE_CLASS,
    CONTINUOUS_TARGET.
    """
    if not node.step.requires_target:
        bundle.problem = node.step.problem_types[0]
        bundle.target = default_target if default_target in bundle.columns else None
        return
    parameters: SupervisedParameters = node.parameters
    target = parameters.target or default_target
    if target is None:
        raise BadInput(
            "NO_TARGET",
            f"Step '{node.key}' has no target: neither the step nor the dataset names a target column. Set one of them.",
            path=node.path("target"),
        )
    column = bundle.target_or_split_column(target, node, "target")
    bundle.target = target
    bundle.extra_columns.add(target)
    _drop_unlabelled(bundle, node, column)
    target_statistics = bundle.lazy.select(
        pl.col(target).n_unique().alias("distinct"),
        (_is_integral(target) if column.kind == "number" else pl.lit(value=False)).alias("is_integral"),
    ).collect(engine="streaming")
    distinct, is_integral = int(target_statistics["distinct"][0]), bool(target_statistics["is_integral"][0])
    bundle.problem = _problem_type(node, column, bundle, distinct, default_problem if target == default_target else None)
    if bundle.problem == "REGRESSION":
        if column.kind != "number":
            raise BadInput(
                "WRONG_COLUMN_TYPE",
                f"Step '{node.key}' predicts numbers, and the target '{target}' is of type {column.type}. Choose a numeric target, or a step that predicts classes.",
                column=target,
                path=node.path("target"),
            )
        greatest = bundle.lazy.select(pl.col(target).cast(pl.Float64).abs().max()).collect(engine="streaming").item()
        if greatest > MAX_TARGET_VALUE:
            raise BadInput(
                "VALUES_TOO_LARGE",
                f"The target '{target}' has values as large as {greatest:.3g}; errors above {MAX_TARGET_VALUE:g} cannot be measured. "
                "Filter such rows, or express the target in another unit.",
                column=target,
                path=node.path("target"),
            )
        return
    if column.kind == "text":
        text = pl.col(target).cast(pl.String)
        if bundle.lazy.select(text.str.ends_with("\0").any()).collect(engine="streaming").item():
            raise BadInput(
                "BAD_LABEL",
                f"The target '{target}' has a label that ends with a NUL character; a model cannot distinguish it from the same label without it. "
                "Clean the labels and upload the file again.",
                column=target,
                path=node.path("target"),
            )
    if column.kind not in ("number", "text"):
        raise BadInput(
            "WRONG_COLUMN_TYPE",
            f"The target '{target}' is of type {column.type}; classes must be text, booleans or integers. Choose another target.",
            column=target,
            path=node.path("target"),
        )
    if distinct < 2:
        raise BadInput(
            "ONE_CLASS",
            f"The target '{target}' has the same value in every remaining row, and step '{node.key}' needs at least two classes. "
            "Filter fewer rows, or choose another target.",
            column=target,
            path=node.path("target"),
        )
    if distinct > MAX_CLASSES or (column.kind == "number" and not is_integral):
        description = (
            f"{distinct:,} distinct values; at most {MAX_CLASSES} classes are supported"
            if is_integral or column.kind == "text"
            else "values that are not integers"
        )
        advice = "Use a regression step, or choose another target."
        if column.kind == "text":
            advice = "Keep fewer classes with a filter_rows step, or choose another target."
        elif "REGRESSION" in node.step.problem_types:
            advice = "Set problem_type to regression, or choose another target."
        raise BadInput(
            "CONTINUOUS_TARGET",
            f"The target '{target}' has {description}. {advice}",
            column=target,
            path=node.path("target"),
        )


def _drop_unlabelled(bundle: Bundle, node: PipelineNode, column: Column) -> None:
    floats = bundle.lazy.collect_schema()[column.name].is_float()
    value = pl.col(column.name).fill_nan(None) if floats else pl.col(column.name)
    rows_before = bundle.count()
    bundle.lazy = bundle.lazy.filter(value.is_not_null())
    rows_after = bundle.count()
    bundle.unlabelled_rows = rows_before - rows_after
    if rows_after == 0:
        raise BadInput(
            "TARGET_MISSING",
            f"The target '{column.name}' is missing in all {rows_before:,} rows, so step '{node.key}' has nothing to learn from. Choose another target.",
            column=column.name,
            path=node.path("target"),
        )
    if floats and bundle.lazy.select(pl.col(column.name).is_infinite().any()).collect(engine="streaming").item():
        raise BadInput(
            "INFINITE_VALUES",
            f"The target '{column.name}' has an infinite value. Filter such rows.",
            column=column.name,
            path=node.path("target"),
        )
    if bundle.unlabelled_rows:
        bundle.reporter.log(
            f"{bundle.unlabelled_rows:,} of {rows_before:,} rows have no value for the target '{column.name}' and are ignored."
        )


def _is_integral(name: str) -> pl.Expr:
    number = pl.col(name).cast(pl.Float64)
    return ((number == number.floor()) & (number.abs() <= MAX_EXACT_INTEGER)).all()


def _problem_type(node: PipelineNode, column: Column, bundle: Bundle, distinct: int, default_problem: str | None) -> str:
    if len(node.step.problem_types) == 1:
        return node.step.problem_types[0]
    parameters: ClassifierOrRegressorParameters = node.parameters
    if parameters.problem_type != "auto":
        return parameters.problem_type.upper()
    if default_problem in node.step.problem_types:
        return str(default_problem)
    dtype = bundle.lazy.collect_schema()[column.name]
    if column.kind == "text" or dtype == pl.Boolean or (dtype.is_integer() and distinct <= MAX_INTEGER_CLASSES):
        return "CLASSIFICATION"
    return "REGRESSION"
