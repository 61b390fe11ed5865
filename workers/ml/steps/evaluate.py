"""Steps that evaluate a model: on held-out rows and by cross-validation."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    import numpy as np

    from workers.ml.bundle import Bundle
    from workers.ml.data_split import Subset
    from workers.ml.prediction.predictor import Predictions
    from workers.ml.trainer import Trained


MAX_NAMED_CLASSES = 10
KEPT_PREDICTIONS = 10_000  # rows


class EvaluateParameters(Parameters):
    part: Literal["test", "validation", "train"] = Field(
        default="test",
        title="Rows",
        description="The rows to measure on. Metrics of rows other than the test rows have a prefix, such as `validation_`.",
        json_schema_extra={"x-needs-validation-rows": ["validation"]},
    )


class CrossValidateParameters(Parameters):
    folds: int = Field(
        default=5,
        ge=2,
        le=20,
        title="Folds",
        description="Number of folds. Each fold is predicted once, by a model trained on the others.",
    )


def check_part(bundle: Bundle, node: PipelineNode) -> None:
    """Raises BadInput (NO_ROWS)."""
    subset = node.parameters.part
    if not len(bundle.rows_of(subset)) and not (subset == "test" and not bundle.is_supervised):
        raise BadInput(
            "NO_ROWS",
            f"Step '{node.key}' measures on the {subset} rows, but there are none. Set {subset}_fraction in a split step, or measure on other rows.",
            path=node.path("part"),
        )


def evaluate(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    subset = node.parameters.part
    return {"rows": len(bundle.rows_of(subset)), "metrics": measure(bundle, subset)}


def measure(bundle: Bundle, subset: Subset) -> dict[str, float]:
    """Evaluate the fitted Pipeline on raw rows, report the metrics as points and store them in the bundle; only once per subset."""
    trained = bundle.trained
    assert trained is not None
    prefix = "" if subset == "test" else f"{subset}_"
    if f"{prefix}{PRIMARY_METRIC[trained.problem]}" in bundle.metrics:
        return {name: value for name, value in bundle.metrics.items() if name in _metric_names(prefix)}
    scores = {f"{prefix}{name}": value for name, value in _scores(bundle, trained, subset).items()}
    fitted = {
        name: getattr(trained.estimator, attribute) for name, attribute in FITTED_METRICS.items() if hasattr(trained.estimator, attribute)
    }
    bundle.metrics |= {name: float(value) for name, value in fitted.items()}
    for name, value in scores.items():
        trained.monitor.add_final_point(name, value)
    bundle.metrics.update(scores)
    return {**scores, **{name: bundle.metrics[name] for name in fitted}}


FITTED_METRICS = {"inertia": "inertia_", "log_likelihood": "lower_bound_"}
"""Metrics of clusterings that an estimator computes in its training, and their attributes."""
PRIMARY_METRIC = {"CLASSIFICATION": "accuracy", "REGRESSION": "rmse", "CLUSTERING": "silhouette", "OTHER": "outlier_share"}


def _metric_names(prefix: str) -> set[str]:
    from workers.ml.scoring import METRICS

    return {f"{prefix}{name}" for name in METRICS} | FITTED_METRICS.keys()


def predict_rows(bundle: Bundle, trained: Trained, subset: Subset) -> Predictions:
    """Predict the rows of a subset. What is predicted for few rows is kept: a training measures, draws and writes the same ones."""
    if subset not in trained.predictions:
        rows = bundle.rows_of(subset)
        predictions = trained.predictor.predict(bundle.features(trained.features, rows))
        if len(rows) > KEPT_PREDICTIONS:
            return predictions
        trained.predictions[subset] = predictions
    return trained.predictions[subset]


def _scores(bundle: Bundle, trained: Trained, subset: Subset) -> dict[str, float]:
    from workers.ml import scoring  # numpy; the API imports the registry only for its schemas
    from workers.ml.steps.train import feature_matrix, target_values

    rows = bundle.rows_of(subset)
    if not bundle.is_supervised:
        rows = rows if len(rows) else bundle.rows_of("train")
        points = feature_matrix(trained.pipeline["features"], bundle, trained.features, rows)
        labels = trained.estimator.predict(points)
        return (
            scoring.outlier_scores(labels) if trained.problem == "OTHER" else scoring.clustering_scores(points, labels, bundle.random_state)
        )
    truth, predictions = target_values(bundle, rows), predict_rows(bundle, trained, subset)
    if trained.problem == "REGRESSION":
        return scoring.regression_scores(truth, predictions.values)
    assert predictions.probabilities is not None
    return scoring.classification_scores(truth, predictions.values, predictions.probabilities, trained.pipeline.classes_)


def check_folds(bundle: Bundle, node: PipelineNode) -> None:
    """Raises BadInput: BAD_PARAMETER (no target), TOO_FEW_ROWS, ONE_CLASS."""
    import numpy as np  # see _scores

    from workers.ml.steps.train import target_values

    if not bundle.is_supervised:
        raise BadInput(
            "BAD_PARAMETER",
            f"Step '{node.key}' compares predictions with a target, which this training does not have. Remove the step.",
            path=node.path(),
        )
    truth = target_values(bundle, _fold_rows(bundle))
    fold_count = node.parameters.folds
    problem = _folds_problem(bundle, truth, fold_count)
    if problem is None:
        return
    possible = next((fewer for fewer in range(fold_count - 1, 1, -1) if _folds_problem(bundle, truth, fewer) is None), None)
    code, reason = problem
    advice = f"set folds to at most {possible}" if possible is not None else f"remove the step '{node.key}'"
    classes, counts = np.unique(truth, return_counts=True)
    rare = classes[counts < fold_count].tolist()
    is_stratified = _splitter(bundle, fold_count)[1] == "stratified"
    if is_stratified and 0 < len(rare) <= min(MAX_NAMED_CLASSES, len(classes) - 2):
        condition = f"'{bundle.target}' not_in {json.dumps(rare, ensure_ascii=False)}"
        advice += f", or remove the rows of such classes with a filter_rows step and the condition {condition}"
    raise BadInput(
        code,
        f"Step '{node.key}' splits the training and validation rows into {fold_count} folds, but {reason}. {advice[0].upper()}{advice[1:]}.",
        column=bundle.target,
        path=node.path("folds"),
    )


def _fold_rows(bundle: Bundle) -> np.ndarray:
    import numpy as np  # see _scores

    return np.concatenate([bundle.rows_of("train"), bundle.rows_of("validation")])


def cross_validate(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Fit transforms and estimator again in each fold, on its training rows only; the test rows are not used."""
    import numpy as np  # see _scores
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.pipeline import Pipeline

    from workers.ml import scoring
    from workers.ml.steps.train import target_values

    trained = bundle.trained
    assert trained is not None
    rows = _fold_rows(bundle)
    truth = target_values(bundle, rows)
    frame = bundle.features(trained.features, rows)
    splitter, strategy = _splitter(bundle, node.parameters.folds)
    folds = list(_split(bundle, splitter, rows, truth))
    per_fold: list[dict[str, float]] = []
    for fold, (train_rows, test_rows) in enumerate(folds):
        model = Pipeline([("features", bundle.transformer(trained.features)), ("model", clone(trained.template))])
        with warnings.catch_warnings():
            # The training step already logged it with advice.
            warnings.simplefilter("ignore", ConvergenceWarning)
            learning_rows = bundle.learning_rows(rows[train_rows])
            model.fit(bundle.features(trained.features, learning_rows), target_values(bundle, learning_rows))
        predicted = model.predict(frame[test_rows])
        scores = (
            scoring.regression_scores(truth[test_rows], predicted)
            if trained.problem == "REGRESSION"
            else scoring.classification_scores(truth[test_rows], predicted, model.predict_proba(frame[test_rows]), model.classes_)
        )
        per_fold.append(scores)
        for name, value in scores.items():
            trained.monitor.add_point(f"cv_{name}", fold, value)
        bundle.reporter.node(node.key, "running", round(100 * (fold + 1) / len(folds)))
        start, end = bundle.progress_span
        bundle.reporter.progress(start + (end - start) * (fold + 1) / len(folds), f"{node.step.title}: {fold + 1} of {len(folds)}")
    # A metric that is missing in some fold has no mean.
    for name in [name for name in per_fold[0] if all(name in scores for scores in per_fold)]:
        values = np.array([scores[name] for scores in per_fold])
        for key, value in ((f"cv_{name}_mean", values.mean()), (f"cv_{name}_std", values.std())):
            bundle.metrics[key] = float(value)
            trained.monitor.add_final_point(key, float(value))
    summary = {name: value for name, value in bundle.metrics.items() if name.startswith("cv_")}
    return {"rows": len(rows), "folds": len(folds), "strategy": strategy, "metrics": summary}


def _splitter(bundle: Bundle, fold_count: int) -> tuple[Any, str]:
    """Return the splitter and the name of its strategy."""
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit  # see _scores

    assert bundle.data_split is not None
    if bundle.data_split.strategy == "time":
        # The rows are in order of time; each fold is predicted by a model of the earlier ones.
        return TimeSeriesSplit(fold_count), "time"
    if bundle.data_split.strategy == "group":
        return GroupKFold(fold_count, shuffle=True, random_state=bundle.random_state), "group"
    if bundle.problem == "CLASSIFICATION":
        return StratifiedKFold(fold_count, shuffle=True, random_state=bundle.random_state), "stratified"
    return KFold(fold_count, shuffle=True, random_state=bundle.random_state), "random"


def _split(bundle: Bundle, splitter: Any, rows: np.ndarray, truth: np.ndarray) -> Any:
    """Yield the positions, among `rows`, of each fold's training and test rows."""
    import numpy as np  # see _scores
    import polars as pl

    groups = None
    if bundle.group_column is not None:
        groups = bundle.frame[bundle.group_column].cast(pl.String)[rows].to_numpy()
    return splitter.split(np.zeros(len(truth)), truth, groups)


def _folds_problem(bundle: Bundle, truth: np.ndarray, fold_count: int) -> tuple[str, str] | None:
    """Return why these rows cannot be split into so many folds, as the code and the reason of an error; None if they can."""
    import numpy as np  # see _scores

    splitter, strategy = _splitter(bundle, fold_count)
    classes, counts = np.unique(truth, return_counts=True)
    if strategy == "stratified" and counts.min() < fold_count:
        rarest, rows = classes[counts.argmin()].item(), int(counts.min())
        return (
            "TOO_FEW_ROWS",
            f"the class {rarest!r} of '{bundle.target}' has {rows} row{'' if rows == 1 else 's'} there and every fold needs one",
        )
    if strategy == "group":
        groups = bundle.frame[str(bundle.group_column)][_fold_rows(bundle)].n_unique()
        if groups < fold_count:
            return "TOO_FEW_ROWS", f"there are {groups} groups of '{bundle.group_column}' and every fold needs one"
    if len(truth) < 2 * fold_count:
        return "TOO_FEW_ROWS", f"there are {len(truth)} and every fold needs two"
    if bundle.problem == "CLASSIFICATION":
        for train_rows, _ in _split(bundle, splitter, _fold_rows(bundle), truth):
            if len(np.unique(truth[train_rows])) < 2:
                return "ONE_CLASS", f"all rows that the model of one fold would learn from have the same value of '{bundle.target}'"
    return None


EVALUATE = Step(
    key="evaluate",
    type="EVALUATE",
    title="Evaluate",
    description="Measures the model on held-out rows. Training pipelines always measure on their test rows; this step shows the result, or measures on other rows.",
    parameters=EvaluateParameters,
    place="after",
    run=evaluate,
    check=check_part,
)
CROSS_VALIDATE = Step(
    key="cross_validate",
    type="EVALUATE",
    title="Cross-validate",
    description="Trains and measures again on folds of the training and validation rows, including transforms, and reports each fold. Follows a training step.",
    parameters=CrossValidateParameters,
    place="after",
    run=cross_validate,
    check=check_folds,
)
