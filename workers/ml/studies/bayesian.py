"""Points drawn by Optuna's tree-structured Parzen estimator, and the importances of parameters by its PED-ANOVA.

Optuna is a function here: its study is made of our rows, in memory, asked once, and dropped. The estimator's generator is seeded by the trial's number, so
that trials which look at the same rows get different points. A categorical value is known to Optuna by its position, since choices may be any JSON.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workers.ml.studies.observed import Observed, observed, worth_looking_at
from workers.ml.studies.random_points import seed_of
from workers.ml.studies.space import Parameter, Space, Values

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

RANDOM_TRIALS = 10
"""So many trials must have ended before anything is estimated. Until then points are random, and Optuna, which takes a second, is not imported."""
MIN_IMPORTANCE_TRIALS = 4


def estimated_point(space: Space, seed: int, number: int, rows: Sequence[Observed], goal: str, attempt: int = 0) -> Values:
    """Return the point that the estimator finds most promising after these rows. Trials that run count as bad ones, so that it looks elsewhere."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group`, which conditions need
        sampler = optuna.samplers.TPESampler(
            seed=seed_of(seed, number, attempt), n_startup_trials=RANDOM_TRIALS, multivariate=True, group=True, constant_liar=True
        )
    trial = _study(space, worth_looking_at(rows, goal), goal, sampler).ask()
    return space.choose(lambda parameter: _suggested(trial, parameter))


def importances(space: Sequence[Mapping[str, Any]], trials: Sequence[Mapping[str, Any]], goal: str) -> list[dict[str, Any]]:
    """Return {parameter, importance} with the most important first; their sum is 1. Nothing before some trials were completed.

    The importance says how far the best tenth of the trials differs in this parameter from all of them (PED-ANOVA).
    """
    completed = [row for row in observed(trials) if row.has_ended and not row.is_pruned]
    if len(completed) < MIN_IMPORTANCE_TRIALS:
        return []
    import optuna

    study = _study(Space(space), completed, goal, optuna.samplers.RandomSampler(seed=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "less than 2 trials": the importance of such a parameter is 0
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return [{"parameter": key, "importance": float(found[key])} for key in sorted(found, key=lambda key: (-found[key], key))]


def _study(space: Space, rows: Sequence[Observed], goal: str, sampler: Any) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of each study that it makes
    study = optuna.create_study(direction="maximize" if goal == "maximize" else "minimize", sampler=sampler)
    distributions = {parameter.key: _distribution(parameter) for parameter in space.parameters}
    study.add_trials([_trial(space, row, distributions) for row in rows])
    return study


def _trial(space: Space, row: Observed, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    from optuna.trial import TrialState, create_trial

    state = TrialState.PRUNED if row.is_pruned else TrialState.COMPLETE if row.has_ended else TrialState.RUNNING
    return create_trial(
        state=state,
        params={key: _known(space.by_key[key], value) for key, value in row.values.items()},
        distributions={key: distributions[key] for key in row.values},
        value=row.value if state is TrialState.COMPLETE else None,
        intermediate_values=dict(row.points),
    )


def _distribution(parameter: Parameter) -> BaseDistribution:
    """Optuna has no steps on a logarithmic scale: such a number is drawn without, and the nearest step taken."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.type == "categorical":
        return CategoricalDistribution(range(len(parameter.choices)))
    step = None if parameter.is_log else parameter.step
    if parameter.type == "int":
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.is_log, step=int(step or 1))
    return FloatDistribution(parameter.low, parameter.high, log=parameter.is_log, step=step)


def _suggested(trial: Trial, parameter: Parameter) -> Any:
    if parameter.type == "categorical":
        return parameter.choices[trial.suggest_categorical(parameter.key, range(len(parameter.choices)))]
    step = None if parameter.is_log else parameter.step
    if parameter.type == "int":
        low, high = int(parameter.low), int(parameter.high)
        return parameter.nearest(trial.suggest_int(parameter.key, low, high, log=parameter.is_log, step=int(step or 1)))
    return parameter.nearest(trial.suggest_float(parameter.key, parameter.low, parameter.high, log=parameter.is_log, step=step))


def _known(parameter: Parameter, value: Any) -> Any:
    """The value as Optuna knows it."""
    return parameter.position_of(value) if parameter.type == "categorical" else value
