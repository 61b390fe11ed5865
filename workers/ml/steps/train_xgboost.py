"""Training step: gradient boosting by XGBoost, which is an optional package."""

from __future__ import annotations

from copy import copy
from typing import Any

from pydantic import Field

from workers.ml.steps.step import Step
from workers.ml.steps.train import run
from workers.ml.steps.training_parameters import STEPS, ClassifierOrRegressorParameters, EarlyStoppingParameters
from workers.ml.trainer import THREADS, Trainer, TrainingMonitor, TrainingRows

NAME = "xgboost"


class XGBoostParameters(EarlyStoppingParameters, ClassifierOrRegressorParameters):
    n_estimators: int = Field(
        default=100, ge=1, le=10_000, title="Rounds", description="Number of boosting rounds.", json_schema_extra=STEPS
    )
    learning_rate: float = Field(default=0.3, gt=0, le=1, title="Learning rate", description="Factor applied to each round's contribution.")
    max_depth: int = Field(default=6, ge=1, le=50, title="Maximum depth", description="Maximum depth of a tree.")
    min_child_weight: float = Field(
        default=1.0, ge=0, le=1e6, title="Minimum weight per leaf", description="Minimum sum of second derivatives of the loss in a leaf."
    )
    subsample: float = Field(
        default=1.0, gt=0, le=1, title="Rows per round", description="Share of the training rows sampled for each round."
    )
    colsample_bytree: float = Field(
        default=1.0, gt=0, le=1, title="Features per tree", description="Share of the features sampled for each tree."
    )
    reg_lambda: float = Field(default=1.0, ge=0, le=1e6, title="L2 penalty", description="L2 penalty on leaf values.")
    reg_alpha: float = Field(default=0.0, ge=0, le=1e6, title="L1 penalty", description="L1 penalty on leaf values.")


def build(parameters: XGBoostParameters, problem: str, seed: int) -> Any:
    from sklearn.ensemble import VotingClassifier  # the API imports the registry only for its schemas
    from xgboost import XGBClassifier, XGBRegressor

    options: dict[str, Any] = {
        "n_estimators": parameters.n_estimators,
        "learning_rate": parameters.learning_rate,
        "max_depth": parameters.max_depth,
        "min_child_weight": parameters.min_child_weight,
        "subsample": parameters.subsample,
        "colsample_bytree": parameters.colsample_bytree,
        "reg_lambda": parameters.reg_lambda,
        "reg_alpha": parameters.reg_alpha,
        "early_stopping_rounds": parameters.early_stopping_rounds,
        "importance_type": "gain",
        "tree_method": "hist",
        "random_state": seed,
        "n_jobs": THREADS,
        "verbosity": 0,
    }
    # XGBoost knows classes only as 0, 1, 2, ...; a vote of one gives them the labels of the dataset.
    return VotingClassifier([(NAME, XGBClassifier(**options))], voting="soft") if problem == "CLASSIFICATION" else XGBRegressor(**options)


def fit(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    from sklearn.preprocessing import LabelEncoder

    if not hasattr(estimator, "estimators"):  # a regressor
        rounds = _fit_booster(estimator, rows.train_target, rows.validation_target, rows, monitor, None)
        monitor.kept = {step: _with_rounds(estimator, step + 1) for step in monitor.checkpoint_steps(rounds)}
        return _with_rounds(estimator, monitor.early_stopping.steps_of_model(rounds))
    encoder: Any = LabelEncoder().fit(rows.train_target)
    validation_target = None if rows.validation_target is None else encoder.transform(rows.validation_target)
    metrics = ["error", "logloss"] if len(encoder.classes_) == 2 else ["merror", "mlogloss"]
    booster = estimator.estimators[0][1]
    rounds = _fit_booster(booster, encoder.transform(rows.train_target), validation_target, rows, monitor, metrics)
    # What VotingClassifier.fit sets; it would fit without validation rows.
    estimator.le_, estimator.classes_ = encoder, encoder.classes_

    def with_rounds(kept: int) -> Any:
        result = copy(estimator)
        result.estimators_ = [_with_rounds(booster, kept)]
        result.estimators = [(NAME, result.estimators_[0])]
        return result

    monitor.kept = {step: with_rounds(step + 1) for step in monitor.checkpoint_steps(rounds)}
    return with_rounds(monitor.early_stopping.steps_of_model(rounds))


def _with_rounds(booster: Any, rounds: int) -> Any:
    """The fitted estimator with its first rounds alone."""
    trees = booster.get_booster()[:rounds]
    if booster.early_stopping_rounds is not None:
        trees.best_iteration = rounds - 1  # what predictions of an estimator with this parameter look for
    result = copy(booster)
    vars(result)["_Booster"] = trees
    return result


def _fit_booster(
    booster: Any, target: Any, validation_target: Any, rows: TrainingRows, monitor: TrainingMonitor, metrics: list[str] | None
) -> int:
    """Fit, and return the number of rounds."""
    from xgboost.callback import TrainingCallback

    from workers.ml.scoring import regression_measures  # numpy; see build

    total = booster.n_estimators
    parts = {"validation_0": ("train", target), "validation_1": ("validation", validation_target)}

    class Reports(TrainingCallback):
        """Reports each round; a regressor's measure is the root of its loss."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            del model
            values: dict[str, float] = {}
            for key, (part, truth) in parts.items():
                for name, history in evals_log.get(key, {}).items():
                    if name == "rmse":
                        values |= {f"{part}_{name}": value for name, value in regression_measures(history[-1] ** 2, truth).items()}
                    elif name in ("error", "merror"):
                        values[f"{part}_accuracy"] = 1 - history[-1]
                    else:
                        values[f"{part}_loss"] = history[-1]
            monitor.add_step(epoch, total, values, booster.learning_rate)
            monitor.progress(epoch + 1, total)
            return monitor.early_stopping.update(epoch, values)

    eval_set = [(rows.train, target), *([] if rows.validation is None else [(rows.validation, validation_target)])]
    monitor.begin_steps()
    patience = booster.early_stopping_rounds
    booster.set_params(callbacks=[Reports()], eval_metric=metrics, early_stopping_rounds=None)
    booster.fit(rows.train, target, eval_set=eval_set, verbose=False)
    vars(booster).pop("evals_result_", None)  # already reported as points
    booster.set_params(callbacks=None, eval_metric=None, early_stopping_rounds=patience)
    return booster.get_booster().num_boosted_rounds()


XGBOOST = Step(
    key="train_xgboost",
    type="TRAIN",
    title="Train XGBoost",
    description="Histogram-based gradient boosting by XGBoost. Accepts missing numbers. Reports loss and accuracy or R² after each round. Needs the extra `xgboost`.",
    parameters=XGBoostParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer(
        "xgboost",
        build,
        fit,
        takes_missing=True,
        algorithm={"CLASSIFICATION": "XGBClassifier", "REGRESSION": "XGBRegressor"},
        requires=NAME,
    ),
    requires_target=True,
    extra=NAME,
    problem_types=("CLASSIFICATION", "REGRESSION"),
)
