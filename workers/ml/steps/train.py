"""Runs a training step: selects its rows and features and builds the resulting Pipeline."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from workers.ml.architectures import Architecture
from workers.ml.early_stopping import EarlyStopping
from workers.ml.errors import BadInput
from workers.ml.steps.split import split_summary
from workers.ml.steps.step import PipelineNode
from workers.ml.steps.training_parameters import TrainParameters
from workers.ml.trainer import TRAINING_END_PERCENT, TRAINING_START_PERCENT, Trained, Trainer, TrainingMonitor, TrainingRows
from workers.ml.training_checkpoints import CheckpointManager

if TYPE_CHECKING:
    import numpy as np

    from workers.ml.bundle import Bundle
    from workers.ml.columns import Column

ADVICE_BY_KIND = {
    "text": "Link a one_hot_encode or ordinal_encode step before it, or drop the column.",
    "time": "Drop the column, or exclude it in this step.",
    "other": "Drop the column, or exclude it in this step.",
}


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Fit transforms and estimator and set `bundle.trained`.

    Raises BadInput: NO_COLUMNS, NOT_ENCODED, WRONG_COLUMN_TYPE, MISSING_VALUES, TOO_FEW_ROWS, BAD_PARAMETER, ONE_CLASS, and those of
    `check_range` and `Bundle.fit_transformer`.
    """
    from sklearn.base import clone  # the API imports the registry only for its schemas
    from sklearn.pipeline import Pipeline

    from workers.ml.bundle import output_width
    from workers.ml.value_checks import check_range

    trainer = node.step.trainer
    assert trainer is not None
    assert bundle.problem is not None
    data_split = bundle.data_split
    assert data_split is not None
    _check_installed(trainer, node)
    features, excluded_columns = _features(bundle, node)
    _check_rows(bundle, node)

    bundle.reporter.progress(TRAINING_START_PERCENT, node.step.title)
    check_range(bundle.frame.select(features), node)
    transformer, matrix = bundle.fit_transform(features, node)
    estimator = trainer.build(node.parameters, bundle.problem, bundle.random_state)
    template = clone(estimator)
    rows = _training_rows(bundle, node, transformer, features, matrix)
    _check_limits(trainer, node, rows)
    if trainer.check is not None:
        trainer.check(node, bundle.target, rows)
    bundle.architecture = _architecture(trainer, node, bundle.problem, rows)
    checkpoints = CheckpointManager(
        bundle.reporter,
        bundle.folder,
        bundle.checkpoint_settings,
        step=node.step.key,
        parameters=node.parameters.model_dump(),
        seed=bundle.random_state,
    )
    checkpoints.set_fingerprint(rows.train, rows.train_target, rows.validation, rows.validation_target)
    early_stopping = EarlyStopping.of(node.parameters)
    checkpoint_every = getattr(node.parameters, "checkpoint_every", None)
    monitor = TrainingMonitor(
        bundle.reporter, node.step.title, node.key, checkpoints, early_stopping, checkpoint_every, rung_watch=bundle.rung_watch
    )
    fitted = trainer.fit(estimator, rows, monitor)
    best_step = None if early_stopping.patience is None else early_stopping.best_step
    if best_step is not None:
        # After early stopping, the folds of a cross-validation train for the same number of rounds.
        changes = {trainer.steps_parameter: best_step + 1, "early_stopping_rounds": None}
        prefix = f"{template.estimators[0][0]}__" if hasattr(template, "estimators") else ""
        known = template.get_params()
        template.set_params(**{f"{prefix}{name}": value for name, value in changes.items() if f"{prefix}{name}" in known})
    bundle.reporter.progress(TRAINING_END_PERCENT, node.step.title)

    note = _empty_clusters(fitted, rows.train, node)
    if note is not None:
        bundle.reporter.log(note)
    others = {"target", "problem_type", "checkpoint_every", *TrainParameters.model_fields}
    if best_step is None:
        others |= {"early_stopping_metric", "early_stopping_min_delta"}
    parameter_names = [name for name in type(node.parameters).model_fields if name not in others]
    estimator_parameters = fitted.get_params()
    bundle.trained = Trained(
        pipeline=Pipeline([("features", transformer), ("model", fitted)]),
        estimator=fitted,
        template=template,
        node_key=node.key,
        framework=trainer.framework,
        algorithm=trainer.algorithm.get(bundle.problem, type(fitted).__name__),
        problem=bundle.problem,
        features=features,
        target=bundle.target if bundle.is_supervised else None,
        hyperparameters={name: estimator_parameters.get(name, getattr(node.parameters, name)) for name in parameter_names},
        monitor=monitor,
        config={
            "step": node.step.key,
            "parameters": node.parameters.model_dump(mode="json"),
            "target": bundle.target if bundle.is_supervised else None,
            "columns": len(features),
            "split": split_summary(data_split),
        },
        architecture=bundle.architecture,
        best_step=best_step,
        checkpoints={step: Pipeline([("features", transformer), ("model", model)]) for step, model in monitor.kept.items()},
        note=note,
    )
    output: dict[str, Any] = {
        "rows": bundle.height,
        "training_rows": len(bundle.learning_rows()),
        "columns": len(features),
        "features": output_width(transformer),
        "problem_type": bundle.problem,
        "algorithm": bundle.trained.algorithm,
    }
    if bundle.trained.target is not None:
        output["target"] = bundle.trained.target
    if bundle.unlabelled_rows:
        output["rows_without_target"] = bundle.unlabelled_rows
    if excluded_columns:
        output["left_out"] = excluded_columns
    if data_split.is_default:
        output["split"] = split_summary(data_split)
    if best_step is not None:
        output["best_round"] = best_step + 1
    if note is not None:
        output["note"] = note
    return output


def _architecture(trainer: Trainer, node: PipelineNode, problem: str, rows: TrainingRows) -> Architecture | None:
    """Return what is to be trained, if it is a neural network. Of two classes, one output tells which."""
    import numpy as np  # see run

    if trainer.architecture is None:
        return None
    classes = len(np.unique(rows.train_target)) if problem == "CLASSIFICATION" else 1
    return trainer.architecture.sized(node.parameters, rows.train.shape[1], classes if classes > 2 else 1)


def _empty_clusters(fitted: Any, matrix: np.ndarray, node: PipelineNode) -> str | None:
    """Return a note if fewer clusters than asked for have training rows, which scikit-learn accepts."""
    import numpy as np  # see run

    n_clusters = getattr(fitted, "n_clusters", None)
    if n_clusters is None or (found := len(np.unique(fitted.labels_))) == n_clusters:
        return None
    distinct = len(np.unique(matrix, axis=0))
    return (
        f"Step '{node.key}' found {found:,} of {n_clusters:,} clusters, the others are empty: its training rows have {distinct:,} distinct "
        f"combination{'' if distinct == 1 else 's'} of values. Set n_clusters lower, or give it more columns."
    )


def _features(bundle: Bundle, node: PipelineNode) -> tuple[list[str], list[str]]:
    """Return the features, and the columns that are excluded automatically."""
    non_features = {bundle.target} if bundle.target is not None else set()
    excluded_columns = sorted(name for name in non_features if not bundle.is_supervised and name in bundle.columns)
    if bundle.time_column is not None and bundle.time_column in bundle.columns and bundle.columns[bundle.time_column].kind == "time":
        non_features.add(bundle.time_column)
        excluded_columns.append(bundle.time_column)
    for name in (bundle.group_column, bundle.split_column):
        if name is not None and name in bundle.columns:
            non_features.add(name)
            excluded_columns.append(name)
    features = [name for name in bundle.columns if name not in non_features]
    if not features:
        raise BadInput("NO_COLUMNS", _no_columns_message(bundle, node, excluded_columns), path=node.path("exclude"))
    for name in features:
        _check_feature(bundle.columns[name], node, bundle.frame.height)
    return features, excluded_columns


def _no_columns_message(bundle: Bundle, node: PipelineNode, excluded_columns: list[str]) -> str:
    others = [f"the target '{bundle.target}'"] if bundle.target is not None and bundle.is_supervised else []
    others += [f"the column '{name}', which is not a feature" for name in excluded_columns]
    if bundle.has_dropped_columns:
        return f"No columns are left for step '{node.key}' to learn from. Drop or exclude fewer columns."
    return (
        f"The version has no column for step '{node.key}' to learn from besides {' and '.join(others) or 'those left out'}. "
        "Upload a version with more columns, or choose another target."
    )


def _check_feature(column: Column, node: PipelineNode, rows: int) -> None:
    trainer = node.step.trainer
    assert trainer is not None
    if column.kind != "number":
        description = "text that is not encoded" if column.kind == "text" else f"of type {column.type}"
        raise BadInput(
            "NOT_ENCODED" if column.kind == "text" else "WRONG_COLUMN_TYPE",
            f"The column '{column.name}' is {description}, and step '{node.key}' learns only from numbers. {ADVICE_BY_KIND[column.kind]}",
            column=column.name,
            path=node.path(),
        )
    if column.missing and not trainer.takes_missing:
        advice = "Link an impute step before it, filter those rows, or drop the column."
        if column.missing == rows:
            advice = "No row has a value to learn from: drop the column, or exclude it in this step."
        raise BadInput(
            "MISSING_VALUES",
            f"The column '{column.name}' has {column.missing:,} missing values, which step '{node.key}' cannot take. {advice}",
            column=column.name,
            path=node.path(),
        )


def _check_rows(bundle: Bundle, node: PipelineNode) -> None:
    from workers.ml.data_split import MIN_TRAINING_ROWS

    data_split = bundle.data_split
    assert data_split is not None
    rows = bundle.learning_rows()
    parameter = next((name for name in ("n_clusters", "n_components", "n_neighbors") if hasattr(node.parameters, name)), None)
    min_rows = max(MIN_TRAINING_ROWS, 0 if parameter is None else getattr(node.parameters, parameter) + 1)
    if len(rows) < min_rows:
        advice = ["add rows", "filter fewer", *([] if data_split.is_default else ["hold out less"])]
        if len(rows) >= MIN_TRAINING_ROWS:
            advice.insert(0, f"set {parameter} to at most {len(rows) - 1}")
        text = f"{', '.join(advice[:-1])} or {advice[-1]}"
        raise BadInput(
            "TOO_FEW_ROWS",
            f"Step '{node.key}' has {len(rows):,} training rows and needs at least {min_rows}. {text[0].upper()}{text[1:]}.",
            path=node.path(),
        )
    if getattr(node.parameters, "early_stopping_rounds", None) is not None and not len(data_split.validation):
        raise BadInput(
            "BAD_PARAMETER",
            f"Step '{node.key}' uses early stopping but has no validation rows. Set validation_fraction in a split step, or leave early_stopping_rounds empty.",
            path=node.path("early_stopping_rounds"),
        )
    early_stopping = EarlyStopping.of(node.parameters)
    other_problem = {"validation_accuracy": "REGRESSION", "validation_r2": "CLASSIFICATION"}.get(early_stopping.metric)
    if bundle.problem is not None and bundle.problem == other_problem:
        raise BadInput(
            "BAD_PARAMETER",
            f"Step '{node.key}' stops early by {early_stopping.metric}, and a {bundle.problem.lower()} has no such curve. Choose validation_loss or "
            f"{'validation_r2' if other_problem == 'REGRESSION' else 'validation_accuracy'}.",
            path=node.path("early_stopping_metric"),
        )
    if bundle.problem == "CLASSIFICATION":
        assert bundle.target is not None
        classes = bundle.frame[bundle.target][rows].unique()
        if len(classes) < 2:
            raise BadInput(
                "ONE_CLASS",
                f"All training rows have the same value of the target '{bundle.target}', {classes.to_list()[0]!r}; step '{node.key}' needs at least two classes. "
                "Filter fewer rows, split stratified, or choose another target.",
                column=bundle.target,
                path=node.path("target"),
            )


def _check_installed(trainer: Trainer, node: PipelineNode) -> None:
    """Raises BadInput (NOT_INSTALLED)."""
    if trainer.requires is None:
        return
    try:
        importlib.import_module(trainer.requires)
    except ImportError:
        message = f"Step '{node.key}' ({node.step.title}) needs the package {trainer.requires}, which this worker does not have. "
        advice = f"Ask whoever runs Trellis to install the extra 'trellis[{node.step.extra}]', or choose another step."
        raise BadInput("NOT_INSTALLED", message + advice, path=["definition", "nodes", str(node.index), "step"]) from None


def _check_limits(trainer: Trainer, node: PipelineNode, rows: TrainingRows) -> None:
    """Raises BadInput (TOO_LARGE)."""
    height, width = rows.train.shape
    advice = "Filter rows, hold out more for the test, or choose another step."
    if trainer.max_rows is not None and height > trainer.max_rows:
        message = (
            f"Step '{node.key}' has {height:,} training rows; its time grows with their square, so it takes at most {trainer.max_rows:,}. "
        )
        raise BadInput("TOO_LARGE", message + advice, path=node.path())
    if trainer.max_values is not None and height * width > trainer.max_values:
        message = f"Step '{node.key}' has {height:,} training rows of {width:,} features; it takes at most {trainer.max_values:,} values. "
        raise BadInput("TOO_LARGE", message + advice, path=node.path())


def _check_transformed(transformer: Any, matrix: np.ndarray, node: PipelineNode) -> None:
    """Raise BadInput (VALUES_TOO_LARGE) for values that an earlier step made, such as a fill value. The raw ones are checked before."""
    import numpy as np  # see run

    from workers.ml.value_checks import MAX_FEATURE_VALUE

    maxima = np.nanmax(np.abs(matrix), axis=0, initial=0.0)
    too_large = np.flatnonzero(maxima > MAX_FEATURE_VALUE)
    if not len(too_large):
        return
    output = int(too_large[0])
    for group, _, members in transformer.transformers_:
        outputs = range(matrix.shape[1])[transformer.output_indices_[group]]
        if output in outputs:
            column = str(members[(output - outputs.start) * len(members) // len(outputs)])
            raise BadInput(
                "VALUES_TOO_LARGE",
                f"The column '{column}' has values as large as {maxima[output]:.3g} after the steps before '{node.key}', which accepts numbers up to "
                f"{MAX_FEATURE_VALUE:g}. Change those steps' parameters, filter such rows, or drop the column.",
                column=column,
                path=node.path(),
            )


def _training_rows(bundle: Bundle, node: PipelineNode, transformer: Any, features: list[str], matrix: np.ndarray) -> TrainingRows:
    import numpy as np  # see run

    data_split = bundle.data_split
    assert data_split is not None
    train = np.ascontiguousarray(matrix, dtype=np.float64)
    _check_transformed(transformer, train, node)
    if not bundle.is_supervised:
        return TrainingRows(train, np.zeros(len(train)))
    truth = target_values(bundle, bundle.learning_rows())
    validation = data_split.validation
    if len(validation) and bundle.problem == "CLASSIFICATION":
        validation = validation[np.isin(target_values(bundle, validation), truth)]
    if not len(validation):
        return TrainingRows(train, truth)
    return TrainingRows(train, truth, feature_matrix(transformer, bundle, features, validation), target_values(bundle, validation))


def feature_matrix(transformer: Any, bundle: Bundle, features: list[str], rows: np.ndarray) -> np.ndarray:
    """Return the transformed features of these rows as a C-contiguous float64 array, rows by features."""
    import numpy as np  # see run

    return np.ascontiguousarray(transformer.transform(bundle.features(features, rows)), dtype=np.float64)


def target_values(bundle: Bundle, rows: np.ndarray) -> np.ndarray:
    """Return the target values of these rows: labels as in the dataset, numbers as float64."""
    return bundle.target_values(rows)
