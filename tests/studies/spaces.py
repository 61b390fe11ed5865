"""Spaces of studies, and whether a point lies in one."""

from __future__ import annotations

from random import Random
from typing import Any

from db.core import search_space
from db.core.search_space import Condition, SearchParameter, SearchParameterType


def number(name: str, low: float, high: float, *, step: float | None = None, log: bool = False, kind: str = "double") -> dict[str, Any]:
    return _parameter(name, kind, low=low, high=high, step=step, log=log)


def choice(name: str, *choices: Any) -> dict[str, Any]:
    return _parameter(name, "categorical", choices=list(choices))


def when(parameter: dict[str, Any], name: str, *values: Any) -> dict[str, Any]:
    """The parameter, active if `name` has one of these values."""
    return {**parameter, "condition": {"node": "train", "name": name, "in": list(values)}}


def _parameter(name: str, kind: str, **changes: Any) -> dict[str, Any]:
    unset = {"low": None, "high": None, "step": None, "log": False, "choices": None, "condition": None}
    return {"node": "train", "name": name, "type": kind, **unset, **changes}


def grid_size(space: list[dict[str, Any]]) -> float:
    """How many points a study takes the space to have when it is created."""
    return search_space.grid_size([_search_parameter(**parameter) for parameter in space])


def _search_parameter(**stored: Any) -> SearchParameter:
    condition, choices = stored["condition"], stored["choices"]
    given: dict[str, Any] = {
        **stored,
        "type": SearchParameterType(stored["type"]),
        "choices": None if choices is None else tuple(choices),
        "condition": None if condition is None else Condition(condition["node"], condition["name"], tuple(condition["in"])),
    }
    return SearchParameter(**given)


def random_space(rng: Random, *, has_steps: bool) -> list[dict[str, Any]]:
    """Up to five parameters of all types, some on condition of an earlier one, in any order; with steps, a space of some hundred points."""
    space: list[dict[str, Any]] = []
    for position in range(rng.randint(1, 5)):
        name = f"p{position}"
        match rng.choice(("choice", "int", "double", "log")):
            case "choice":
                parameter = choice(name, *rng.sample(["a", "b", True, 1, None, [1, 2], 0.5], rng.randint(1, 4)))
            case "int":
                low = rng.randint(-3, 3)
                step = rng.choice((None, 2))
                parameter = number(name, low, low + (step or 1) * rng.randint(0, 4), step=step, kind="int")
            case "double":
                parameter = number(name, 0.1, 0.4, step=0.1 if has_steps else None)
            case _:
                parameter = number(name, 1, 4, log=True, kind="int") if has_steps else number(name, 1e-4, 10.0, log=True)
        others = [other for other in space if other["type"] in ("categorical", "int")]
        if others and rng.random() < 0.6:
            other = rng.choice(others)
            possible = other["choices"] or list(range(other["low"], other["high"] + 1))
            parameter = when(parameter, other["name"], *rng.sample(possible, rng.randint(1, len(possible))))
        space.append(parameter)
    rng.shuffle(space)
    return space


def assert_in_space(values: dict[str, Any], space: list[dict[str, Any]]) -> None:
    """Assert that exactly the active parameters have values, in the order of the space, and that each value is one of its own."""
    by_key = {f"{parameter['node']}.{parameter['name']}": parameter for parameter in space}
    assert list(values) == [key for key, parameter in by_key.items() if _is_active(parameter, by_key, values)]
    for key, value in values.items():
        parameter = by_key[key]
        if parameter["type"] == "categorical":
            assert any(value is each or (value == each and type(value) is type(each)) for each in parameter["choices"])
            continue
        assert type(value) is (int if parameter["type"] == "int" else float)
        assert parameter["low"] <= value <= parameter["high"]
        step = parameter["step"] or (1 if parameter["type"] == "int" else None)
        if step is not None:
            assert abs((steps := (value - parameter["low"]) / step) - round(steps)) < 1e-9


def _is_active(parameter: dict[str, Any], by_key: dict[str, Any], values: dict[str, Any]) -> bool:
    condition = parameter["condition"]
    if condition is None:
        return True
    key = f"{condition['node']}.{condition['name']}"
    matches = any(values.get(key) == each and type(values.get(key)) is type(each) for each in condition["in"])
    return key in values and matches and _is_active(by_key[key], by_key, values)
