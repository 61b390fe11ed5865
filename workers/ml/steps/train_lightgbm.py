"""Gradient boosting by LightGBM."""

from __future__ import annotations

import warnings
from typing import Any, Literal

from pydantic import Field

from workers.ml.steps.step import Step
from workers.ml.steps.train import run
from workers.ml.steps.trainer import THREADS, Curve, EitherParameters, Rows, Trainer


class LightGBMParameters(EitherParameters):
    n_estimators: int = Field(default=100, ge=1, le=10_000, title="Rounds", description="Number of boosting rounds.")
    learning_rate: float = Field(default=0.1, gt=0, le=1, title="Learning rate", description="How much each round contributes.")
    num_leaves: int = Field(default=31, ge=2, le=10_000, title="Leaves", description="Most leaves of a tree.")
    max_depth: int | None = Field(
        default=None, ge=1, le=200, title="Most levels", description="Most levels of a tree; without, only the leaves are limited."
    )
    min_child_samples: int = Field(
        default=20, ge=1, le=1_000_000, title="Least rows of a leaf", description="Least number of training rows in a leaf."
    )
    subsample: float = Field(
        default=1.0, gt=0, le=1, title="Rows of a round", description="Share of the training rows that each round learns from."
    )
    colsample_bytree: float = Field(
        default=1.0, gt=0, le=1, title="Features of a tree", description="Share of the features that each tree chooses from."
    )
    reg_lambda: float = Field(default=0.0, ge=0, le=1e6, title="L2 penalty", description="Penalty on the values of leaves.")
    class_weight: Literal["balanced"] | None = Field(
        default=None, title="Class weight", description="`balanced` weighs classes by the inverse of their frequency."
    )
    early_stopping_rounds: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        title="Early stopping",
        description="Stops when the validation loss has not fallen for so many rounds; the split must hold out validation rows.",
    )


def build(parameters: LightGBMParameters, problem: str, seed: int) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor  # the API imports the registry for its schemas alone

    options: dict[str, Any] = {
        "n_estimators": parameters.n_estimators,
        "learning_rate": parameters.learning_rate,
        "num_leaves": parameters.num_leaves,
        "max_depth": -1 if parameters.max_depth is None else parameters.max_depth,
        "min_child_samples": parameters.min_child_samples,
        "subsample": parameters.subsample,
        "subsample_freq": 1 if parameters.subsample < 1 else 0,
        "colsample_bytree": parameters.colsample_bytree,
        "reg_lambda": parameters.reg_lambda,
        "importance_type": "gain",
        "random_state": seed,
        "n_jobs": THREADS,
        "verbose": -1,
        "deterministic": True,
        "force_row_wise": True,
    }
    if parameters.early_stopping_rounds is not None:
        options["early_stopping_rounds"] = parameters.early_stopping_rounds
    return LGBMClassifier(**options, class_weight=parameters.class_weight) if problem == "CLASSIFICATION" else LGBMRegressor(**options)


def fit(estimator: Any, rows: Rows, curve: Curve) -> Any:
    total = estimator.n_estimators

    def watch(env: Any) -> None:
        for part, _, value, *_ in env.evaluation_result_list:
            curve.point(f"{part}_loss", env.iteration, value)
        curve.progress(env.iteration + 1, total)

    evaluated: list[tuple[Any, Any]] = [(rows.train, rows.train_target)]
    if rows.validation is not None:
        evaluated.append((rows.validation, rows.validation_target))
    with warnings.catch_warnings():
        # LightGBM 4.7 wants eval_X and eval_y instead, and its classifier then forgets to number the labels of eval_y.
        warnings.filterwarnings("ignore", message="The argument 'eval_set' is deprecated")
        return estimator.fit(
            rows.train, rows.train_target, eval_set=evaluated, eval_names=["train", "validation"][: len(evaluated)], callbacks=[watch]
        )


LIGHTGBM = Step(
    key="train_lightgbm",
    type="TRAIN",
    title="Train LightGBM",
    description="Gradient boosting on histograms, fast on many rows. Takes missing numbers. Reports the loss each round.",
    parameters=LightGBMParameters,
    place="train",
    run=run,
    trainer=Trainer("lightgbm", build, fit, takes_missing=True),
    requires_target=True,
    problem_types=("CLASSIFICATION", "REGRESSION"),
)
