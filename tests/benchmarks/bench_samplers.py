"""What the methods of studies find: 60 trials each, with log loss as the objective and fixed spaces.

BAYESIAN and EVOLUTION against RANDOM, whose first points are the same, by the median best of ten seeds: on a function of four numbers that is known, the
squared distance from (0.3, 0.3, 0.3, 0.3) in a cube from -1 to 1, where the best is 0 and thus the value the regret; and of LightGBM on the validation rows
of breast-cancer and digits. HYPERBAND against RANDOM, whose points are all the same, by the boosting rounds that both need until one of the trials has
been trained to its end with RANDOM's best value, over five seeds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from workers.ml.studies.drawing import draw
from workers.ml.studies.halving import goes_on, rungs_of_trial

TRIALS, SEEDS, HALVING_SEEDS = 60, range(10), range(5)
ROUNDS, HALVING_ROUNDS, MIN_STEPS, FACTOR = 30, 81, 9, 3  # the last two as by default
Point = dict[str, Any]
Objective = Callable[[Point], float]


def parameter(name: str, low: float, high: float, kind: str = "double", *, log: bool = False) -> dict[str, Any]:
    unset = {"step": None, "choices": None, "condition": None}
    return {"node": "train", "name": name, "type": kind, "low": low, "high": high, "log": log, **unset}


CUBE = [parameter(f"x{number}", -1.0, 1.0) for number in range(4)]
LIGHTGBM = [
    parameter("learning_rate", 0.01, 1.0, log=True),
    parameter("num_leaves", 2, 64, "int", log=True),
    parameter("min_child_samples", 1, 60, "int"),
    parameter("reg_lambda", 1e-3, 30.0, log=True),
    parameter("colsample_bytree", 0.2, 1.0),
]


def distance(point: Point) -> float:
    return sum((value - 0.3) ** 2 for value in point.values())


def best_values(method: str, space: Sequence[dict[str, Any]], seed: int, objective: Objective) -> float:
    rows: list[dict[str, Any]] = []
    for number in range(1, TRIALS + 1):
        point = draw(method, space, seed, number, rows, "minimize")["parameters"]
        rows.append({"number": number, "status": "completed", "parameters": point, "value": objective(point), "points": {}})
    return min(row["value"] for row in rows)


class Boosting:
    """The log loss on validation rows after each round of LightGBM, of one dataset."""

    def __init__(self, load: Any, rounds: int) -> None:
        from sklearn.model_selection import train_test_split

        features, target = load(return_X_y=True)
        self._rows = train_test_split(features, target, test_size=0.3, random_state=1, stratify=target)
        self._rounds = rounds
        self._curves: dict[str, list[float]] = {}

    def curve(self, point: Point) -> list[float]:
        import lightgbm

        key = repr(point)
        if key not in self._curves:
            train, validation, train_target, validation_target = self._rows
            options = {name.removeprefix("train."): value for name, value in point.items()}
            model = lightgbm.LGBMClassifier(n_estimators=self._rounds, n_jobs=1, random_state=1, verbose=-1, **options)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # LightGBM 4.7 prefers eval_X and eval_y
                model.fit(train, train_target, eval_set=[(validation, validation_target)])
            (measured,) = model.evals_result_["valid_0"].values()
            # A booster that finds no more splits has fewer values than rounds.
            self._curves[key] = [*measured, *[measured[-1]] * (self._rounds - len(measured))]
        return self._curves[key]

    def last_loss(self, point: Point) -> float:
        return self.curve(point)[-1]


def compare(title: str, space: Sequence[dict[str, Any]], objective: Objective) -> None:
    best = {method: [best_values(method, space, seed, objective) for seed in SEEDS] for method in ("random", "bayesian", "evolution")}
    medians = {method: median(values) for method, values in best.items()}
    print(f"{title}, median best of {len(SEEDS)} seeds: " + ", ".join(f"{method} {value:.5f}" for method, value in medians.items()))
    for method in ("bayesian", "evolution"):
        wins = sum(one < other for one, other in zip(best[method], best["random"], strict=True))
        print(f"  {method} / random {medians[method] / medians['random']:.3f}, better for {wins} of {len(SEEDS)} seeds")


def halve(boosting: Boosting, seed: int) -> tuple[float, float, float, float]:
    """Return RANDOM's best loss and the rounds until it, and HYPERBAND's: infinitely many if that trial was pruned."""
    at_rungs: dict[int, list[float]] = {}
    rounds = {"random": 0, "hyperband": 0}
    best = {"random": math.inf, "hyperband": math.inf}
    reached: dict[str, float] = {}
    curves = [boosting.curve(draw("hyperband", LIGHTGBM, seed, number, [], "minimize")["parameters"]) for number in range(1, TRIALS + 1)]
    goal = min(curve[-1] for curve in curves)
    for number, curve in enumerate(curves, start=1):
        steps = HALVING_ROUNDS
        for rung in rungs_of_trial(number, MIN_STEPS, HALVING_ROUNDS, FACTOR):
            value, values = curve[rung["steps"] - 1], at_rungs.setdefault(rung["number"], [])
            values.append(value)
            if not goes_on(1 + sum(other < value for other in values), len(values), FACTOR):
                steps = rung["steps"]
                break
        for method, used in (("random", HALVING_ROUNDS), ("hyperband", steps)):
            rounds[method] += used
            if used == HALVING_ROUNDS:
                best[method] = min(best[method], curve[-1])
            if best[method] <= goal:
                reached.setdefault(method, rounds[method])
    print(
        f"  seed {seed}: best {best['random']:.5f} and {best['hyperband']:.5f}, rounds in all {rounds['random']} and {rounds['hyperband']}"
    )
    return goal, reached["random"], best["hyperband"], reached.get("hyperband", math.inf)


def main() -> None:
    from sklearn.datasets import load_breast_cancer, load_digits

    compare("Distance in a cube", CUBE, distance)
    compare("LightGBM on breast-cancer", LIGHTGBM, Boosting(load_breast_cancer, ROUNDS).last_loss)
    compare("LightGBM on digits", LIGHTGBM, Boosting(load_digits, ROUNDS).last_loss)
    print("Rounds until RANDOM's best:")
    for name, load in (("breast-cancer", load_breast_cancer), ("digits", load_digits)):
        print(f" LightGBM on {name}")
        boosting = Boosting(load, HALVING_ROUNDS)
        ratios = [halving / random for _, random, _, halving in (halve(boosting, seed) for seed in HALVING_SEEDS)]
        print(f"  hyperband / random, median: {median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
