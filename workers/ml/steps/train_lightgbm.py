"""Training step: gradient boosting by LightGBM."""

from __future__ import annotations

import re
import warnings
from copy import copy
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from workers.ml.steps.step import Step
from workers.ml.steps.train import run
from workers.ml.steps.training_parameters import STEPS, ClassifierOrRegressorParameters, EarlyStoppingParameters
from workers.ml.trainer import THREADS, Trainer, TrainingMonitor, TrainingRows

# With random sampling, a segment is a tenth of the rounds, but at least this many.
SEGMENTS, MIN_SEGMENT_ROUNDS = 10, 50
ACCURACY, SQUARED_ERROR = "accuracy", "l2"  # names of measures: ours, and LightGBM's own


class LightGBMParameters(EarlyStoppingParameters, ClassifierOrRegressorParameters):
    n_estimators: int = Field(
        default=100, ge=1, le=10_000, title="Rounds", description="Number of boosting rounds.", json_schema_extra=STEPS
    )
    learning_rate: float = Field(default=0.1, gt=0, le=1, title="Learning rate", description="Factor applied to each round's contribution.")
    num_leaves: int = Field(default=31, ge=2, le=10_000, title="Leaves", description="Maximum leaves per tree.")
    max_depth: int | None = Field(
        default=None, ge=1, le=200, title="Maximum depth", description="Maximum depth of a tree; if unset, only the leaves are limited."
    )
    min_child_samples: int = Field(
        default=20, ge=1, le=1_000_000, title="Minimum rows per leaf", description="Minimum number of training rows in a leaf."
    )
    subsample: float = Field(
        default=1.0, gt=0, le=1, title="Rows per round", description="Share of the training rows sampled for each round."
    )
    colsample_bytree: float = Field(
        default=1.0, gt=0, le=1, title="Features per tree", description="Share of the features sampled for each tree."
    )
    reg_lambda: float = Field(default=0.0, ge=0, le=1e6, title="L2 penalty", description="L2 penalty on leaf values.")
    class_weight: Literal["balanced"] | None = Field(
        default=None, title="Class weight", description="`balanced` weights classes inversely to their frequency."
    )


def build(parameters: LightGBMParameters, problem: str, seed: int) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor  # the API imports the registry only for its schemas

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


def fit(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    """Fit in segments, each continuing from the model of the one before, so that training can resume from a checkpoint at a segment's end.

    LightGBM continues exactly from a model unless rows or features are sampled: its random generators restart with each fit, and their state
    cannot be read. With sampling, segments are therefore fixed and each has its own seed, so that an interrupted training uses the same
    segments as an uninterrupted one. Without sampling there is one segment, which can be checkpointed after any round.
    """
    checkpoints, total = monitor.checkpoints, estimator.n_estimators
    is_randomized = estimator.subsample < 1 or estimator.colsample_bytree < 1
    segment_rounds = max(MIN_SEGMENT_ROUNDS, -(-total // SEGMENTS)) if is_randomized else total
    original_parameters = estimator.get_params()
    options = {
        name: original_parameters[name] for name in ("n_estimators", "random_state", "early_stopping_rounds") if name in original_parameters
    }
    early_stopping = monitor.early_stopping
    restored = checkpoints.restore("round", _load_booster)
    model, done = None, 0
    if restored is not None:
        model, done = restored.model, restored.done
        early_stopping.restore(restored.notes)
    eval_set: list[tuple[Any, Any]] = [(rows.train, rows.train_target)]
    if rows.validation is not None:
        eval_set.append((rows.validation, rows.validation_target))
    monitor.begin_steps(done)
    while done < total and not early_stopping.has_stopped:
        segment = done // segment_rounds
        segment_end = min(total, (segment + 1) * segment_rounds)
        seed = options["random_state"] if segment == 0 else _segment_seed(options["random_state"], segment)
        estimator.set_params(**{**dict.fromkeys(options), "n_estimators": segment_end - done, "random_state": seed})
        callback = _RoundCallback(monitor, rows, done, total, saves_any_round=not is_randomized)
        with warnings.catch_warnings():
            # LightGBM 4.7 prefers eval_X and eval_y, but its classifier then does not encode the labels of eval_y.
            warnings.filterwarnings("ignore", message="The argument 'eval_set' is deprecated")
            estimator.fit(
                rows.train,
                rows.train_target,
                eval_set=eval_set,
                eval_names=["train", "validation"][: len(eval_set)],
                eval_metric=_accuracy if hasattr(estimator, "predict_proba") else None,
                callbacks=[callback],
                init_model=model,
            )
        model, done = estimator.booster_, callback.done
        if is_randomized and done < total and not early_stopping.has_stopped and checkpoints.is_due:
            callback.save_checkpoint(model)
    trained = estimator.booster_
    for step in monitor.checkpoint_steps(done):
        monitor.kept[step] = _with_rounds(estimator, trained, options, step + 1, step + 1)
    kept = early_stopping.steps_of_model(done)
    return _with_rounds(estimator, trained, options, kept, total)


def _accuracy(truth: Any, predicted: Any) -> tuple[str, float, bool]:
    """LightGBM's own error would weight the training rows by class; this measures the predictions that it has already."""
    classes = predicted > 0.5 if predicted.ndim == 1 else predicted.argmax(axis=1)
    return ACCURACY, float((classes == truth).mean()), True


def _with_rounds(estimator: Any, booster: Any, options: dict[str, Any], rounds: int, total: int) -> Any:
    """Return the estimator with its first `rounds` rounds, as one fit would have made it, without traces of segments or of later rounds.

    It has no losses per round either: they are already reported as points and would enlarge the model file.
    """
    from lightgbm import Booster  # see build

    text = booster.model_to_string(num_iteration=rounds)
    text = re.sub(r"^\[num_iterations: \d+\]$", f"[num_iterations: {total}]", text, flags=re.MULTILINE)
    single_fit = Booster(model_str=text)
    result = copy(estimator)
    is_best = options.get("early_stopping_rounds") is not None
    single_fit.best_iteration = rounds if is_best else booster.best_iteration
    single_fit.best_score = booster.best_score
    vars(result).update(_Booster=single_fit, _best_iteration=single_fit.best_iteration, _evals_result={})
    return result.set_params(**options)


class _RoundCallback:
    """Callback after each round. Counts rounds itself: a booster that finds no more splits has fewer trees than rounds."""

    def __init__(self, monitor: TrainingMonitor, rows: TrainingRows, done: int, total: int, *, saves_any_round: bool) -> None:
        self.done = done
        self._targets: dict[str, Any] = {"train": rows.train_target, "validation": rows.validation_target}
        self._monitor = monitor
        self._total = total
        self._saves_any_round = saves_any_round

    def __call__(self, env: Any) -> None:
        from workers.ml.scoring import regression_measures  # numpy; see build

        values: dict[str, float] = {}
        for part, metric, value, *_ in env.evaluation_result_list:
            if metric == SQUARED_ERROR:
                values |= {f"{part}_{name}": measure for name, measure in regression_measures(value, self._targets[part]).items()}
            else:
                values[f"{part}_{metric if metric == ACCURACY else 'loss'}"] = value
        self._monitor.add_step(self.done, self._total, values, env.params["learning_rate"])
        self.done += 1
        self._monitor.progress(self.done, self._total)
        if self._monitor.early_stopping.update(self.done - 1, values):
            from lightgbm.callback import EarlyStopException  # see build

            # It ends the training, whose model has the rounds up to this one.
            raise EarlyStopException(self.done - 1, env.evaluation_result_list)
        if self._saves_any_round and self.done < self._total and self._monitor.checkpoints.is_due:
            self.save_checkpoint(env.model)

    def save_checkpoint(self, booster: Any) -> None:
        self._monitor.checkpoints.save(
            self.done, self._total, lambda path: booster.save_model(path, num_iteration=-1), **self._monitor.early_stopping.notes
        )


def _load_booster(path: Path) -> Any:
    from lightgbm import Booster  # see build

    return Booster(model_file=path)


def _segment_seed(seed: int, segment: int) -> int:
    import numpy as np  # see build

    return int(np.random.SeedSequence([seed, segment]).generate_state(1)[0]) >> 1


LIGHTGBM = Step(
    key="train_lightgbm",
    type="TRAIN",
    title="Train LightGBM",
    description="Histogram-based gradient boosting, fast on many rows. Accepts missing numbers. Reports loss and accuracy or R² after each round.",
    parameters=LightGBMParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("lightgbm", build, fit, takes_missing=True),
    requires_target=True,
    problem_types=("CLASSIFICATION", "REGRESSION"),
)
