"""Training steps: tree ensembles by scikit-learn."""

from __future__ import annotations

import warnings
from copy import copy
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field

from workers.ml.steps.step import Step
from workers.ml.steps.train import run
from workers.ml.steps.training_parameters import STEPS, ClassifierOrRegressorParameters, EarlyStoppingParameters
from workers.ml.trainer import THREADS, Trainer, TrainingMonitor, TrainingRows
from workers.ml.training_checkpoints import read_estimator, write_estimator

if TYPE_CHECKING:
    import numpy as np

FOREST_CHUNKS = 20


class ForestParameters(ClassifierOrRegressorParameters):
    n_estimators: int = Field(default=100, ge=1, le=5_000, title="Trees", description="Number of trees.", json_schema_extra=STEPS)
    max_depth: int | None = Field(
        default=None,
        ge=1,
        le=200,
        title="Maximum depth",
        description="Maximum depth of a tree; if unset, trees grow until leaves are pure.",
    )
    min_samples_leaf: int = Field(
        default=1, ge=1, le=1_000_000, title="Minimum rows per leaf", description="Minimum number of training rows in a leaf."
    )
    max_features: Literal["sqrt", "log2", "all"] = Field(
        default="sqrt", title="Features per split", description="How many features are considered at each split."
    )
    class_weight: Literal["balanced"] | None = Field(
        default=None, title="Class weight", description="`balanced` weights classes inversely to their frequency."
    )


class ExtraTreesParameters(ForestParameters):
    bootstrap: bool = Field(
        default=False, title="Sample rows", description="Whether each tree learns from a sample of the training rows rather than from all."
    )


class BoostingParameters(EarlyStoppingParameters, ClassifierOrRegressorParameters):
    n_estimators: int = Field(
        default=100, ge=1, le=5_000, title="Rounds", description="Number of boosting rounds.", json_schema_extra=STEPS
    )
    learning_rate: float = Field(default=0.1, gt=0, le=1, title="Learning rate", description="Factor applied to each round's contribution.")
    max_depth: int = Field(default=3, ge=1, le=50, title="Maximum depth", description="Maximum depth of a tree.")
    min_samples_leaf: int = Field(
        default=1, ge=1, le=1_000_000, title="Minimum rows per leaf", description="Minimum number of training rows in a leaf."
    )
    subsample: float = Field(
        default=1.0, gt=0, le=1, title="Rows per round", description="Share of the training rows sampled for each round."
    )


def build_forest(parameters: ForestParameters, problem: str, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor  # the API imports the registry only for its schemas

    return _build_trees(RandomForestClassifier, RandomForestRegressor, parameters, problem, seed)


def build_extra_trees(parameters: ExtraTreesParameters, problem: str, seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor  # see build_forest

    trees = _build_trees(ExtraTreesClassifier, ExtraTreesRegressor, parameters, problem, seed)
    return trees.set_params(bootstrap=parameters.bootstrap)


def _build_trees(classifier: Any, regressor: Any, parameters: ForestParameters, problem: str, seed: int) -> Any:
    options: dict[str, Any] = {
        "n_estimators": parameters.n_estimators,
        "max_depth": parameters.max_depth,
        "min_samples_leaf": parameters.min_samples_leaf,
        "max_features": None if parameters.max_features == "all" else parameters.max_features,
        "random_state": seed,
        "n_jobs": THREADS,
    }
    return classifier(**options, class_weight=parameters.class_weight) if problem == "CLASSIFICATION" else regressor(**options)


def fit_forest(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    """Fit in chunks of trees, reporting a score after each.

    scikit-learn draws the seeds of later trees from where earlier ones stopped, so the forest equals that of a single fit. Without validation
    rows, scores are out of bag, if the trees have such rows. The training loss is omitted: it is not meaningful for a forest, and measuring it
    takes as long as growing the trees.
    """
    from workers.ml.scoring import training_measures  # numpy; see build_forest

    checkpoints = monitor.checkpoints
    total, class_weight = estimator.n_estimators, getattr(estimator, "class_weight", None)
    is_classifier = hasattr(estimator, "predict_proba")
    chunk = max(1, -(-total // FOREST_CHUNKS))
    weights = None
    if is_classifier and class_weight == "balanced":
        # scikit-learn does not accept "balanced" with warm starts, and reads the classes of a dictionary as numbers where they look like some, as "7" does.
        # The weights of rows are what it makes of either.
        from sklearn.utils.class_weight import compute_sample_weight

        weights = compute_sample_weight("balanced", rows.train_target)
    restored = checkpoints.restore("tree", read_estimator)
    if restored is not None:
        estimator = restored.model
    trees_done = 0 if restored is None else restored.done
    estimator.set_params(warm_start=True, oob_score=rows.validation is None and estimator.bootstrap)
    if is_classifier:
        estimator.set_params(class_weight=None)
    monitor.begin_steps(trees_done)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Some inputs do not have OOB scores")
        for done in [*range(trees_done + chunk, total, chunk), total]:
            estimator.set_params(n_estimators=done).fit(rows.train, rows.train_target, sample_weight=weights)
            values: dict[str, float] = {}
            if rows.validation is not None and rows.validation_target is not None:
                of_validation = training_measures(estimator, rows.validation, rows.validation_target)
                values = {f"validation_{name}": value for name, value in of_validation.items()}
            elif estimator.oob_score:
                values = {"oob_accuracy" if is_classifier else "oob_r2": estimator.oob_score_}
            monitor.add_step(done - 1, total, values)
            monitor.progress(done, total)
            if done < total and checkpoints.is_due:
                checkpoints.save(done, total, write_estimator(estimator))
    estimator.set_params(warm_start=False, oob_score=False)
    for name in ("oob_decision_function_", "oob_prediction_"):
        # One number per training row: not used for predictions, but it would be stored in the model file.
        vars(estimator).pop(name, None)
    return estimator.set_params(class_weight=class_weight) if is_classifier else estimator


def build_boosting(parameters: BoostingParameters, problem: str, seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor  # see build_forest

    estimator_class = GradientBoostingClassifier if problem == "CLASSIFICATION" else GradientBoostingRegressor
    return estimator_class(
        n_estimators=parameters.n_estimators,
        learning_rate=parameters.learning_rate,
        max_depth=parameters.max_depth,
        min_samples_leaf=parameters.min_samples_leaf,
        subsample=parameters.subsample,
        random_state=seed,
    )


def fit_boosting(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    """Fit while monitoring each round; stop for a checkpoint when one is due and continue by a warm start, which gives the same model.

    Staged predictions are a generator that evaluates one more tree per step, so all validation losses together cost one pass over the trees.
    """
    from sklearn.metrics import log_loss, mean_squared_error

    from workers.ml.scoring import regression_measures  # numpy; see build_forest

    checkpoints = monitor.checkpoints
    is_classifier = hasattr(estimator, "predict_proba")
    total = estimator.n_estimators
    restored = checkpoints.restore("round", read_estimator)
    early_stopping = monitor.early_stopping
    if restored is not None:
        estimator = restored.model
        early_stopping.restore(restored.notes)
    rounds_done = 0 if restored is None else restored.done
    staged_predictions: list[Any] = []
    monitor.begin_steps(rounds_done)

    def on_round(done: int, model: Any, state: dict[str, Any]) -> bool:
        # With two classes scikit-learn records the deviance, which is twice the log loss.
        is_deviance = is_classifier and len(model.classes_) == 2
        values = {"train_loss": float(model.train_score_[done]) / (2 if is_deviance else 1)}
        fitted, target = state["raw_predictions"], state["y"]
        if is_classifier:
            classes = fitted[:, 0] > 0 if is_deviance else fitted.argmax(axis=1)
            values["train_accuracy"] = float((classes == target).mean())
        else:
            squared_error = float(((target - fitted[:, 0]) ** 2).mean())
            measured = {f"train_{name}": value for name, value in regression_measures(squared_error, target).items()}
            values = measured | values  # the loss is that of the rows which the round sampled
        if rows.validation is not None:
            if not staged_predictions:
                predictions = (model.staged_predict_proba if is_classifier else model.staged_predict)(rows.validation)
                staged_predictions.append(islice(predictions, rounds_done, None))
            predicted = next(staged_predictions[0])
            if is_classifier:
                values["validation_loss"] = float(log_loss(rows.validation_target, predicted, labels=model.classes_))
                values["validation_accuracy"] = float((model.classes_[predicted.argmax(axis=1)] == rows.validation_target).mean())
            else:
                of_validation = regression_measures(
                    float(mean_squared_error(rows.validation_target, predicted)), cast("np.ndarray", rows.validation_target)
                )
                values |= {f"validation_{name}": value for name, value in of_validation.items()}
        monitor.add_step(done, total, values, model.learning_rate)
        monitor.progress(done + 1, total)
        return early_stopping.update(done, values) or (done + 1 < total and checkpoints.is_due)

    estimator.set_params(warm_start=True)
    while estimator.fit(rows.train, rows.train_target, monitor=on_round).n_estimators_ < total and not early_stopping.has_stopped:
        checkpoints.save(estimator.n_estimators_, total, write_estimator(estimator), **early_stopping.notes)
    estimator.set_params(warm_start=False)
    rounds = estimator.n_estimators_
    monitor.kept = {step: _with_rounds(estimator, step + 1) for step in monitor.checkpoint_steps(rounds)}
    return _with_rounds(estimator, early_stopping.steps_of_model(rounds))


def _with_rounds(estimator: Any, rounds: int) -> Any:
    """The fitted gradient boosting with its first rounds alone."""
    if rounds == estimator.n_estimators_:
        return estimator
    result = copy(estimator)
    result.n_estimators_ = rounds
    for name in ("estimators_", "train_score_", "oob_improvement_", "oob_scores_"):
        if hasattr(estimator, name):
            setattr(result, name, getattr(estimator, name)[:rounds])
    if hasattr(result, "oob_scores_"):
        result.oob_score_ = result.oob_scores_[-1]
    return result


RANDOM_FOREST = Step(
    key="train_random_forest",
    type="TRAIN",
    title="Train random forest",
    description="Averages trees grown on samples of the rows. Accepts missing numbers. Reports a score after each twentieth of the trees.",
    parameters=ForestParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build_forest, fit_forest, takes_missing=True),
    requires_target=True,
    problem_types=("CLASSIFICATION", "REGRESSION"),
)
EXTRA_TREES = Step(
    key="train_extra_trees",
    type="TRAIN",
    title="Train extra trees",
    description="Averages trees that split at random thresholds: faster and smoother than a random forest. Accepts missing numbers. "
    "Reports a score after each twentieth of the trees, if rows are held out for validation or sampled.",
    parameters=ExtraTreesParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build_extra_trees, fit_forest, takes_missing=True),
    requires_target=True,
    problem_types=("CLASSIFICATION", "REGRESSION"),
)
GRADIENT_BOOSTING = Step(
    key="train_gradient_boosting",
    type="TRAIN",
    title="Train gradient boosting",
    description="Trees that each correct the ones before, by scikit-learn. Reports loss and accuracy or R² after each round.",
    parameters=BoostingParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build_boosting, fit_boosting),
    requires_target=True,
    problem_types=("CLASSIFICATION", "REGRESSION"),
)
