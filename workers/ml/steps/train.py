"""Running a training step: which rows and columns it gets, and the one Pipeline that comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.ml.errors import BadInput
from workers.ml.steps.keeping import Keeper
from workers.ml.steps.split import described
from workers.ml.steps.step import Node
from workers.ml.steps.trainer import TRAINING_ENDS, TRAINING_STARTS, Curve, Rows, Trained, TrainParameters

if TYPE_CHECKING:
    import numpy as np

    from workers.ml.bundle import Bundle, Column

WAY_OUT = {
    "text": "Link a one_hot_encode or ordinal_encode step before, or drop the column.",
    "time": "Drop the column, or exclude it in this step.",
    "other": "Drop the column, or exclude it in this step.",
}


def run(bundle: Bundle, node: Node) -> dict[str, Any]:
    from sklearn.base import clone  # the API imports the registry for its schemas alone
    from sklearn.pipeline import Pipeline

    trainer = node.step.trainer
    assert trainer is not None
    assert bundle.problem is not None
    division = bundle.division
    assert division is not None
    features, left_out = _features(bundle, node)
    _check_rows(bundle, node)

    bundle.report.progress(TRAINING_STARTS, node.step.title)
    bundle.check_range(features, node)
    transformer = bundle.fit_transformer(features, node)
    estimator = trainer.build(node.parameters, bundle.problem, bundle.random_state)
    template = clone(estimator)
    rows = _rows(bundle, transformer, features)
    keeper = Keeper(
        bundle.report, bundle.folder, bundle.keeping, step=node.step.key, parameters=node.parameters.model_dump(), seed=bundle.random_state
    )
    keeper.identify(rows.train, rows.train_target, rows.validation, rows.validation_target)
    curve = Curve(bundle.report, node.step.title, keeper)
    fitted = trainer.fit(estimator, rows, curve)
    if (getattr(fitted, "best_iteration_", None) or 0) > 0:
        # Where rounds were stopped early, folds of a cross-validation take as many.
        template.set_params(n_estimators=fitted.best_iteration_, early_stopping_rounds=None)
    bundle.report.progress(TRAINING_ENDS, node.step.title)

    chosen = [name for name in type(node.parameters).model_fields if name not in ("target", "problem_type", *TrainParameters.model_fields)]
    values = fitted.get_params()
    bundle.trained = Trained(
        pipeline=Pipeline([("features", transformer), ("model", fitted)]),
        estimator=fitted,
        template=template,
        node_key=node.key,
        framework=trainer.framework,
        problem=bundle.problem,
        features=features,
        target=bundle.target if bundle.problem != "CLUSTERING" else None,
        hyperparameters={name: values.get(name, getattr(node.parameters, name)) for name in chosen},
        curve=curve,
    )
    output: dict[str, Any] = {
        "rows": bundle.frame.height,
        "training_rows": len(division.train),
        "columns": len(features),
        "features": len(transformer.get_feature_names_out()),
        "problem_type": bundle.problem,
        "algorithm": type(fitted).__name__,
    }
    if bundle.trained.target is not None:
        output["target"] = bundle.trained.target
    if bundle.unlabelled_rows:
        output["rows_without_target"] = bundle.unlabelled_rows
    if left_out:
        output["left_out"] = left_out
    if division.by_default:
        output["split"] = described(division)
    if (getattr(fitted, "best_iteration_", None) or 0) > 0:
        output["best_round"] = int(fitted.best_iteration_)
    return output


def _features(bundle: Bundle, node: Node) -> tuple[list[str], list[str]]:
    """Names of the features, and of columns that are none though the pipeline did not say so."""
    outcome = {bundle.target} if bundle.target is not None else set()
    left_out = sorted(name for name in outcome if bundle.problem == "CLUSTERING" and name in bundle.columns)
    if bundle.time_column is not None and bundle.time_column in bundle.columns and bundle.columns[bundle.time_column].kind == "time":
        outcome.add(bundle.time_column)
        left_out.append(bundle.time_column)
    features = [name for name in bundle.columns if name not in outcome]
    if not features:
        message = f"No column is left for step '{node.key}' to learn from. Drop or exclude fewer columns."
        raise BadInput("NO_COLUMNS", message, path=node.path("exclude"))
    for name in features:
        _check_feature(bundle.columns[name], node)
    return features, left_out


def _check_feature(column: Column, node: Node) -> None:
    trainer = node.step.trainer
    assert trainer is not None
    if column.kind != "number":
        what = "text, which is not encoded" if column.kind == "text" else f"of type {column.type}"
        raise BadInput(
            "NOT_ENCODED" if column.kind == "text" else "WRONG_COLUMN_TYPE",
            f"The column '{column.name}' is {what}, and step '{node.key}' learns from numbers. {WAY_OUT[column.kind]}",
            column=column.name,
            path=node.path(),
        )
    if column.missing and not trainer.takes_missing:
        raise BadInput(
            "MISSING_VALUES",
            f"The column '{column.name}' has {column.missing:,} missing values, which step '{node.key}' cannot take. "
            "Link an impute step before, filter those rows, or drop the column.",
            column=column.name,
            path=node.path(),
        )


def _check_rows(bundle: Bundle, node: Node) -> None:
    from workers.ml.bundle import MIN_TRAINING_ROWS

    division = bundle.division
    assert division is not None
    least = max(MIN_TRAINING_ROWS, getattr(node.parameters, "n_clusters", 0) + 1)
    if len(division.train) < least:
        raise BadInput(
            "TOO_FEW_ROWS",
            f"Step '{node.key}' has {len(division.train):,} training rows and needs at least {least}. Add rows, filter fewer, or hold out less.",
            path=node.path(),
        )
    if getattr(node.parameters, "early_stopping_rounds", None) is not None and not len(division.validation):
        raise BadInput(
            "BAD_PARAMETER",
            f"Step '{node.key}' is to stop early and has no validation rows to decide by. Set validation_fraction in a split step, or leave early_stopping_rounds empty.",
            path=node.path("early_stopping_rounds"),
        )
    if bundle.problem == "CLASSIFICATION":
        assert bundle.target is not None
        classes = bundle.frame[bundle.target][division.train].unique()
        if len(classes) < 2:
            raise BadInput(
                "ONE_CLASS",
                f"All training rows have the same value of the target '{bundle.target}', {classes.to_list()[0]!r}; step '{node.key}' needs two classes or more. "
                "Filter fewer rows, split stratified, or choose another target.",
                column=bundle.target,
                path=node.path("target"),
            )


def _rows(bundle: Bundle, transformer: Any, features: list[str]) -> Rows:
    import numpy as np  # see run

    division = bundle.division
    assert division is not None
    train = matrix(transformer, bundle, features, division.train)
    if bundle.problem == "CLUSTERING":
        return Rows(train, np.zeros(len(train)))
    truth = target_values(bundle, division.train)
    held = division.validation
    if len(held) and bundle.problem == "CLASSIFICATION":
        held = held[np.isin(target_values(bundle, held), truth)]
    if not len(held):
        return Rows(train, truth)
    return Rows(train, truth, matrix(transformer, bundle, features, held), target_values(bundle, held))


def matrix(transformer: Any, bundle: Bundle, features: list[str], rows: np.ndarray) -> np.ndarray:
    import numpy as np  # see run

    return np.ascontiguousarray(transformer.transform(bundle.features(features, rows)), dtype=np.float64)


def target_values(bundle: Bundle, rows: np.ndarray) -> np.ndarray:
    """The target as the model predicts it: labels in the dataset's own values."""
    import polars as pl  # see run

    assert bundle.target is not None
    values = bundle.frame[bundle.target][rows]
    if isinstance(values.dtype, pl.Categorical | pl.Enum | pl.String):
        return values.cast(pl.String).to_numpy().astype(str)
    if bundle.problem == "REGRESSION":
        return values.cast(pl.Float64).to_numpy()
    return values.to_numpy()
