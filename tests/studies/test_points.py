"""Points of studies: each method draws from the rows that it is given and from nothing else, and stays in the space with its conditions."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from random import Random
from statistics import median
from typing import Any

import pytest

from tests.exhaustive import few
from tests.studies.spaces import assert_in_space, choice, grid_size, number, random_space, when
from workers.ml.studies import observed
from workers.ml.studies.drawing import draw

SPACE = [
    when(number("depth", 1, 3, kind="int"), "kind", "tree"),
    number("rate", 1e-4, 1.0, log=True),
    choice("kind", "tree", "linear"),
    number("share", 0.1, 0.5, step=0.2),
]


def rows_of(space: list[dict[str, Any]], count: int, method: str = "random", goal: str = "minimize") -> list[dict[str, Any]]:
    """A study of this many trials with a value that is best at rate 0.01 and share 0.3."""
    rows: list[dict[str, Any]] = []
    for trial in range(count):
        point = draw(method, space, 7, trial, rows, goal)["parameters"]
        rows.append(completed(trial, point, loss(point) if goal == "minimize" else -loss(point)))
    return rows


def loss(point: dict[str, Any]) -> float:
    rate, share = point.get("train.rate", 0.1), point.get("train.share", 0.1)
    return (math.log10(rate) + 2) ** 2 + 10 * (share - 0.3) ** 2 + (0.5 if point.get("train.kind") == "linear" else 0.0)


def completed(trial: int, point: dict[str, Any], value: float | None) -> dict[str, Any]:
    return {"number": trial, "status": "completed", "parameters": point, "value": value, "points": {}}


def test_a_grid_has_each_point_once_and_none_that_differs_only_in_what_it_does_not_have() -> None:
    space = [when(number("depth", 1, 2, kind="int"), "kind", "tree"), choice("kind", "tree", "linear"), number("share", 0.1, 0.3, step=0.2)]
    points = [draw("grid", space, 0, trial, [], "minimize") for trial in range(1, 8)]
    assert [list(point["parameters"].values()) for point in points] == [
        [1, "tree", 0.1],
        [1, "tree", 0.3],
        [2, "tree", 0.1],
        [2, "tree", 0.3],
        ["linear", 0.1],
        ["linear", 0.3],
        [1, "tree", 0.1],  # after the last one from the beginning
    ]
    assert {point["suggested_from"] for point in points} == {None}
    assert grid_size(space) == 6
    endless = [number("rate", 0.0, 1.0)]
    assert grid_size(endless) == math.inf
    with pytest.raises(ValueError, match=r"train.rate has no step"):
        draw("grid", endless, 0, 1, [], "minimize")


def test_the_size_of_a_grid_of_very_many_values_is_found_at_once() -> None:
    wide = number("wide", 1, 10**12, kind="int")
    space = [wide, when(choice("deep", "a", "b", "c"), "wide", 5, 10**11)]
    assert grid_size(space) == 10**12 + 2 * 2
    assert draw("grid", space, 0, 10**12 + 4, [], "minimize")["parameters"] == {"train.wide": 10**12}
    assert draw("grid", space, 0, 7, [], "minimize")["parameters"] == {"train.wide": 5, "train.deep": "c"}


def test_a_grid_has_the_end_of_a_range_that_steps_reach_only_by_rounding() -> None:
    space = [number("share", 0.1, 0.29999999999, step=0.1)]
    assert grid_size(space) == 3
    points = [draw("grid", space, 0, trial, [], "minimize")["parameters"]["train.share"] for trial in range(1, 5)]
    assert points == [0.1, 0.2, 0.29999999999, 0.1]


@pytest.mark.parametrize("seed", few(40, range(400)))
def test_a_grid_of_any_space_is_all_of_it(seed: int) -> None:
    space = random_space(Random(seed), has_steps=True)
    points = [draw("grid", space, 0, trial, [], "minimize")["parameters"] for trial in range(1, int(grid_size(space)) + 1)]
    for point in points:
        assert_in_space(point, space)
    assert len({json.dumps(point, sort_keys=True) for point in points}) == len(points)
    # Random points would find one that the grid lacks.
    grid = {json.dumps(point, sort_keys=True) for point in points}
    drawn = (draw("random", space, seed, trial, [], "minimize")["parameters"] for trial in range(50))
    assert {json.dumps(point, sort_keys=True) for point in drawn} <= grid


@pytest.mark.parametrize("seed", few(40, range(400)))
@pytest.mark.parametrize("method", ["random", "hyperband", "evolution"])
def test_points_of_any_space_lie_in_it_and_are_functions_of_seed_number_and_rows(method: str, seed: int) -> None:
    rng = Random(seed)
    space = random_space(rng, has_steps=rng.random() < 0.5)
    rows = rows_of(space, 24, method)
    for row in rows:
        assert_in_space(row["parameters"], space)
    shuffled = rng.sample(json.loads(json.dumps(rows)), len(rows))
    assert draw(method, space, 7, 24, shuffled, "minimize") == draw(method, space, 7, 24, rows, "minimize")


@pytest.mark.parametrize("seed", few(3, range(60)))
def test_the_estimator_takes_any_space(seed: int) -> None:
    space = random_space(Random(seed), has_steps=seed % 2 == 0)
    rows = rows_of(space, 14, "bayesian", goal="maximize")
    for row in rows:
        assert_in_space(row["parameters"], space)


def test_the_same_seed_and_number_give_the_same_random_point_in_all_releases() -> None:
    points = [draw("random", SPACE, 20_260_101, trial, [], "minimize")["parameters"] for trial in (1, 2, 3)]
    assert points == [
        {"train.depth": 3, "train.rate": pytest.approx(0.0020872855137441595, rel=1e-12), "train.kind": "tree", "train.share": 0.1},
        {"train.rate": pytest.approx(0.003030139326053033, rel=1e-12), "train.kind": "linear", "train.share": 0.1},
        {"train.rate": pytest.approx(0.016013850667402876, rel=1e-12), "train.kind": "linear", "train.share": 0.5},
    ]


def test_a_condition_changes_no_value_of_others() -> None:
    unconditional = [{**parameter, "condition": None} for parameter in SPACE]
    for trial in range(20):
        point, other = (draw("random", space, 1, trial, [], "minimize")["parameters"] for space in (SPACE, unconditional))
        assert point.items() <= other.items()
        assert ("train.depth" in point) == (point["train.kind"] == "tree")


def test_random_numbers_are_even_on_their_scale() -> None:
    points = [draw("random", SPACE, 3, trial, [], "minimize")["parameters"] for trial in range(2_000)]
    logs = sorted(math.log10(point["train.rate"]) for point in points)
    assert [logs[position] for position in (500, 1_000, 1_500)] == pytest.approx([-3, -2, -1], abs=0.15)
    for key, values in {"train.kind": ("tree", "linear"), "train.share": (0.1, 0.3, 0.5), "train.depth": (1, 2, 3)}.items():
        drawn = [point[key] for point in points if key in point]
        assert [drawn.count(value) / len(drawn) for value in values] == pytest.approx([1 / len(values)] * len(values), abs=0.04)


def test_the_estimator_is_a_function_of_its_rows() -> None:
    rows = rows_of(SPACE, 30)
    point = draw("bayesian", SPACE, 7, 30, rows, "minimize")
    assert point["suggested_from"] == 29
    assert_in_space(point["parameters"], SPACE)
    through_json = Random(1).sample(json.loads(json.dumps(rows)), len(rows))
    assert draw("bayesian", SPACE, 7, 30, through_json, "minimize") == point
    # Trials that look at the same rows at once have points of their own, and so has another draw for the same trial.
    others = [draw("bayesian", SPACE, 7, trial, rows, "minimize", attempt)["parameters"] for trial, attempt in ((31, 0), (32, 0), (30, 1))]
    assert all(other != point["parameters"] for other in others)
    assert draw("bayesian", SPACE, 8, 30, rows, "minimize") != point


def test_the_estimator_looks_away_from_trials_that_run_and_learns_nothing_from_failed_ones() -> None:
    rows = rows_of(SPACE, 30)
    without = draw("bayesian", SPACE, 7, 33, rows, "minimize")
    useless = [
        {**completed(30, rows[0]["parameters"], None), "status": "failed"},
        {**completed(31, rows[0]["parameters"], None), "status": "pending", "parameters": None},
        completed(32, rows[0]["parameters"], math.nan),
    ]
    assert draw("bayesian", SPACE, 7, 33, rows + useless, "minimize") == without
    running = [{**completed(trial, without["parameters"], None), "status": "running"} for trial in (30, 31, 32)]
    assert draw("bayesian", SPACE, 7, 33, rows + running, "minimize")["parameters"] != without["parameters"]


def test_the_estimator_learns_from_pruned_trials_what_they_reported_last() -> None:
    rows = rows_of(SPACE, 12)
    pruned = [
        {**completed(12 + index, row["parameters"], None), "status": "pruned", "points": {"3": index / 10, "1": 5.0}}
        for index, row in enumerate(rows_of(SPACE, 26)[12:])
    ]
    point = draw("bayesian", SPACE, 7, 40, rows + pruned, "minimize")
    assert point["suggested_from"] == 25
    assert point != draw("bayesian", SPACE, 7, 40, rows, "minimize")


@pytest.mark.parametrize("method", ["bayesian", "evolution"])
def test_the_first_points_are_random(method: str) -> None:
    rows = rows_of(SPACE, 9)
    assert draw(method, SPACE, 7, 9, rows, "minimize") == draw("random", SPACE, 7, 9, rows, "minimize")


def test_of_very_many_trials_the_best_and_the_newest_are_looked_at() -> None:
    rows = rows_of(SPACE, 1_050)
    running = {**completed(3, rows[3]["parameters"], None), "status": "running"}
    rows[3] = running
    kept = {row.number for row in observed.worth_looking_at(observed.observed(rows), "minimize")}
    best = sorted((row for row in rows[:550] if row is not running), key=lambda row: row["value"])[:500]
    assert kept == {3, *(row["number"] for row in best), *range(550, 1_050)}
    highest = {row.number for row in observed.worth_looking_at(observed.observed(rows), "maximize")}
    assert highest != kept
    assert len(highest) == 1_001


def test_a_child_differs_from_its_parent_in_one_parameter_and_what_depends_on_it() -> None:
    rows = rows_of(SPACE, 40)
    for trial in range(40, 60):
        drawn = draw("evolution", SPACE, 7, trial, rows, "minimize")
        assert drawn["suggested_from"] == 39
        population = [row["parameters"] for row in rows[-20:]]
        assert any(changed_parameters(drawn["parameters"], parent) == 1 for parent in population)


def changed_parameters(child: dict[str, Any], parent: dict[str, Any]) -> int:
    """How many parameters differ besides the depth, which a child has or lacks by its kind."""
    names = [name for name in ("train.rate", "train.kind", "train.share") if child[name] != parent[name]]
    if child["train.kind"] == parent["train.kind"] and child.get("train.depth") != parent.get("train.depth"):
        names.append("train.depth")
    return len(names)


def test_evolution_repeats_no_point_while_others_are_left() -> None:
    space = [choice("a", *range(5)), choice("b", *range(8))]
    rows: list[dict[str, Any]] = []
    for trial in range(30):
        point = draw("evolution", space, 3, trial, rows, "maximize")["parameters"]
        rows.append(completed(trial, point, float(point["train.a"] + point["train.b"])))
    assert len({json.dumps(row["parameters"]) for row in rows}) == 30


@pytest.mark.parametrize(("method", "part"), [("bayesian", 0.2), ("evolution", 0.4)])
def test_what_learns_from_trials_comes_nearer_to_the_best_point(method: str, part: float) -> None:
    space = [number(f"x{index}", -1.0, 1.0) for index in range(4)]

    def best(method: str, seed: int) -> float:
        rows: list[dict[str, Any]] = []
        for trial in range(60):
            point = draw(method, space, seed, trial, rows, "maximize")["parameters"]
            rows.append(completed(trial, point, -sum((value - 0.3) ** 2 for value in point.values())))
        return -max(row["value"] for row in rows)

    seeds = range(3) if method == "bayesian" else range(9)
    assert median(best(method, seed) for seed in seeds) < part * median(best("random", seed) for seed in seeds)


def test_parameters_that_matter_are_more_important() -> None:
    from workers.ml.studies.bayesian import importances

    space = [number("rate", 1e-4, 1.0, log=True), number("noise", 0.0, 1.0), choice("kind", [1], {"a": 1}, None)]
    rows: list[dict[str, Any]] = []
    for trial in range(200):
        point = draw("random", space, 1, trial, [], "minimize")["parameters"]
        rows.append(completed(trial, point, (math.log10(point["train.rate"]) + 2) ** 2))
    found = importances(space, rows, "minimize")
    assert found[0]["parameter"] == "train.rate"
    assert found[0]["importance"] > 2 * found[1]["importance"]
    assert sum(each["importance"] for each in found) == pytest.approx(1.0)
    assert importances(space, list(reversed(json.loads(json.dumps(rows)))), "minimize") == found
    assert importances(space, rows[:3], "minimize") == []


def test_optuna_is_imported_by_the_estimator_alone_and_needs_no_database() -> None:
    """It takes a second, so trials that are drawn otherwise, and the first ones of an estimator, do without."""
    program = """
import sys
from workers.ml.studies.drawing import draw
space = [{"node": "n", "name": "x", "type": "double", "low": 0.0, "high": 1.0, "step": None, "log": False, "choices": None, "condition": None}]
rows = [{"number": n, "status": "completed", "parameters": {"n.x": n / 30}, "value": float(n), "points": {}} for n in range(30)]
for method in ("random", "evolution", "hyperband"):
    draw(method, space, 1, 30, rows, "minimize")
draw("bayesian", space, 1, 9, rows[:9], "minimize")
print("optuna" in sys.modules)
draw("bayesian", space, 1, 30, rows, "minimize")
print("optuna" in sys.modules, "sqlalchemy" in sys.modules, "torch" in sys.modules)
"""
    completed_process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert completed_process.stdout.split() == ["False", "True", "False", "False"]
    assert completed_process.stderr == ""
