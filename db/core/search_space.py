"""Spaces that a study searches: their parameters, and what must hold of them. Pure functions of plain values.

A parameter is one of a node of the pipeline. It is a range of numbers (DOUBLE, INT), evenly divided if it has a `step`, or a list of choices
(CATEGORICAL). It is drawn only where the one that its condition names has one of the values of the condition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Any

import orjson

from db.core.checks import Checks

MAX_PARAMETERS, MAX_CHOICES = 50, 1_000
MAX_INTEGER = 2**53
TOLERANCE = 1e-9  # of the number of steps in a range
_PROBE = 0.381966  # of a range: where a value has a fraction if any has

Accepts = Callable[[str, str, Any], str | None]
"""Returns why a parameter of a node does not take a value, None if it does: `accepts(node, name, value)`."""


class SearchParameterType(StrEnum):
    """The values of a parameter that is searched."""

    DOUBLE = "double"
    INT = "int"
    CATEGORICAL = "categorical"


@dataclass(frozen=True, slots=True)
class Condition:
    """The parameter is drawn only where another one has one of these values."""

    node: str
    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SearchParameter:
    """A parameter of a node, and the values among which it is searched."""

    node: str
    name: str
    type: SearchParameterType
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None
    condition: Condition | None = None

    @property
    def key(self) -> str:
        """Its name in the parameters of a trial."""
        return f"{self.node}.{self.name}"

    def to_json(self) -> dict[str, Any]:
        """The form in which a study stores it; whole numbers of an INT as such."""
        condition = self.condition
        return {
            "node": self.node,
            "name": self.name,
            "type": self.type.value,
            "low": self._number(self.low),
            "high": self._number(self.high),
            "step": self._number(self.step),
            "log": self.log,
            "choices": None if self.choices is None else list(self.choices),
            "condition": None if condition is None else {"node": condition.node, "name": condition.name, "in": list(condition.values)},
        }

    def _number(self, value: float | None) -> float | None:
        return int(value) if value is not None and self.type is SearchParameterType.INT else value

    @property
    def examples(self) -> tuple[Any, ...]:
        """Values that stand for all of it: its choices, or of a range the ends and one within."""
        if self.type is SearchParameterType.CATEGORICAL:
            return self.choices or ()
        if self.low is None or self.high is None:
            return ()
        if self.type is SearchParameterType.INT:
            return int(self.low), int(self.high)
        within = self.low + (self.high - self.low) * _PROBE
        if self.step is not None:
            within = self.low + round((within - self.low) / self.step) * self.step
        return self.low, self.high, within

    @property
    def count(self) -> float:
        """How many values it has; infinite of a range without steps."""
        if self.type is SearchParameterType.CATEGORICAL:
            return len(self.choices or ())
        if self.low is None or self.high is None:
            return 0
        if self.type is SearchParameterType.INT:
            return math.floor((self.high - self.low) / (self.step or 1)) + 1
        return math.inf if self.step is None and self.high > self.low else round((self.high - self.low) / (self.step or 1)) + 1

    def has(self, value: Any) -> bool:
        """Whether it may have this value."""
        if self.type is SearchParameterType.CATEGORICAL:
            return any(_is_same(value, choice) for choice in self.choices or ())
        if isinstance(value, bool) or not isinstance(value, int | float) or self.low is None or self.high is None:
            return False
        return self.low <= value <= self.high and _is_on_step(
            value - self.low, self.step or (1 if self.type is SearchParameterType.INT else None)
        )


def check(checks: Checks, space: Sequence[SearchParameter], parameters: Mapping[str, Sequence[str]], accepts: Accepts) -> None:
    """Add an issue for each fault of a space; paths begin with "space". `parameters` has the names of those of each node of the pipeline."""
    if not space:
        checks.add(
            "space", message="A study needs at least one parameter to search. Name a node of the pipeline and one of its parameters."
        )
    if len(space) > MAX_PARAMETERS:
        checks.add("space", message=f"There are {len(space)} parameters; at most {MAX_PARAMETERS} are searched at once. Leave some out.")
        return
    seen: dict[str, int] = {}
    for index, parameter in enumerate(space):
        path = ("space", index)
        if parameter.node not in parameters:
            known = ", ".join(sorted(parameters))
            checks.add(*path, "node", message=f"The pipeline has no node {parameter.node[:100]!r}. Its nodes: {known}.")
        elif parameter.name not in parameters[parameter.node]:
            known = ", ".join(sorted(parameters[parameter.node])) or "none"
            message = f"Node {parameter.node!r} has no parameter {parameter.name[:100]!r} that can be searched. Its parameters: {known}."
            checks.add(*path, "name", message=message)
        elif parameter.key in seen:
            message = f"{parameter.key!r} is parameter {seen[parameter.key]} of the space already. Remove one of them."
            checks.add(*path, "name", message=message)
        else:
            seen[parameter.key] = index
            if _has_sound_values(checks, index, parameter):
                _check_accepted(checks, index, parameter, accepts)
    _check_conditions(checks, space)


def _has_sound_values(checks: Checks, index: int, parameter: SearchParameter) -> bool:
    before = len(checks.issues)
    check_one = _check_choices if parameter.type is SearchParameterType.CATEGORICAL else _check_range
    for field, message in check_one(parameter):
        checks.add("space", index, field, message=f"{parameter.key}: {message}")
    return len(checks.issues) == before


def _check_choices(parameter: SearchParameter) -> Iterator[tuple[str, str]]:
    for field in ("low", "high", "step"):
        if getattr(parameter, field) is not None:
            yield field, "a CATEGORICAL parameter has `choices` and no range. Leave this out, or give it the type DOUBLE or INT."
    if parameter.log:
        yield "log", "choices have no scale. Leave `log` out, or give it the type DOUBLE or INT."
    choices = parameter.choices
    if not choices:
        yield "choices", "a CATEGORICAL parameter needs at least one choice. List the values to try."
    elif len(choices) > MAX_CHOICES:
        yield "choices", f"there are {len(choices)} choices; at most {MAX_CHOICES} are searched."
    elif len(set(map(_text, choices))) < len(choices):
        yield "choices", "a choice is listed twice. List each value once."


def _check_range(parameter: SearchParameter) -> Iterator[tuple[str, str]]:
    type_, low, high, step = parameter.type.name, parameter.low, parameter.high, parameter.step
    if parameter.choices is not None:
        yield "choices", f"a parameter of type {type_} has a range, `low` to `high`, and no choices. Leave them out, or use CATEGORICAL."
    if low is None or high is None:
        yield (
            "low" if low is None else "high",
            f"a parameter of type {type_} needs `low` and `high`, the least and the greatest value to try.",
        )
        return
    numbers = {"low": low, "high": high, "step": step}
    for field, value in numbers.items():
        if value is not None and not math.isfinite(value):
            yield field, "this is no finite number."
            return
        if value is not None and parameter.type is SearchParameterType.INT and (value != int(value) or abs(value) > MAX_INTEGER):
            yield field, f"{value:g} is no whole number up to {MAX_INTEGER:,}; give one, or use the type DOUBLE."
            return
    if high < low:
        yield "high", f"`high` ({high:g}) is less than `low` ({low:g}). Exchange them."
    elif parameter.log and low <= 0:
        yield "low", f"a logarithmic range must begin above 0, and `low` is {low:g}. Raise it, or leave `log` out."
    if step is None or high < low:
        return
    if parameter.log:
        yield "step", "a logarithmic range has no step. Leave out `step` or `log`."
    elif step <= 0:
        yield "step", f"a step must be above 0, and this is {step:g}."
    elif not _is_on_step(high - low, step):
        nearest = low + math.floor((high - low) / step + TOLERANCE) * step
        yield (
            "step",
            f"steps of {step:g} from {low:g} do not reach {high:g}; the last one is {nearest:g}. Change `high` to that, or the step.",
        )


def _check_accepted(checks: Checks, index: int, parameter: SearchParameter, accepts: Accepts) -> None:
    is_range = parameter.type is not SearchParameterType.CATEGORICAL
    fields = ("low", "high", "type") if is_range else ("choices",) * len(parameter.examples)
    for field, value in zip(fields, parameter.examples, strict=False):
        refusal = accepts(parameter.node, parameter.name, value)
        if refusal is not None:
            message = f"{parameter.key} does not take {_text(value)[:100]}: {refusal}"
            if field == "type":
                message += " Use the type INT, or give a step."
            checks.add("space", index, field, message=message)
            return


def _check_conditions(checks: Checks, space: Sequence[SearchParameter]) -> None:
    by_key = {parameter.key: parameter for parameter in space}
    parents: dict[str, list[str]] = {}
    for index, parameter in enumerate(space):
        condition = parameter.condition
        if condition is None:
            continue
        path = ("space", index, "condition")
        parent = by_key.get(f"{condition.node}.{condition.name}")
        if parent is None:
            message = f"{parameter.key} depends on {condition.node}.{condition.name}"[:300]
            checks.add(*path, message=f"{message}, which is not in the space. Add that parameter, or remove the condition.")
            continue
        parents[parameter.key] = [parent.key]
        if not condition.values:
            checks.add(*path, "in", message=f"{parameter.key} would never be drawn: its condition has no values. List some, or remove it.")
        for value in condition.values:
            if not parent.has(value):
                message = f"{parent.key} never is {_text(value)[:100]}, so {parameter.key} would never be drawn by it. Use values that it may have."
                checks.add(*path, "in", message=message)
                break
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        circle = [str(key) for key in error.args[1]]
        index = next(i for i, parameter in enumerate(space) if parameter.key in circle and parameter.condition is not None)
        message = f"The conditions form a circle: {' → '.join(circle)}. Remove one of them."
        checks.add("space", index, "condition", message=message)


def grid_size(space: Sequence[SearchParameter]) -> float:
    """How many points a space has, each without the parameters that are not drawn in it; infinite if a range has no steps."""
    children: dict[str | None, list[SearchParameter]] = {}
    for parameter in space:
        condition = parameter.condition
        children.setdefault(None if condition is None else f"{condition.node}.{condition.name}", []).append(parameter)

    def size(parameter: SearchParameter) -> float:
        below = [(child, size(child)) for child in children.get(parameter.key, ())]
        named = [value for child, _ in below if child.condition is not None for value in child.condition.values]
        values = {_text(value): value for value in named if parameter.has(value)}
        total = parameter.count - len(values)  # those that no condition names
        for value in values.values():
            total += math.prod(
                points
                for child, points in below
                if child.condition is not None and any(_is_same(value, each) for each in child.condition.values)
            )
        return total

    return math.prod(size(parameter) for parameter in children.get(None, ()))


def _is_on_step(distance: float, step: float | None) -> bool:
    return step is None or abs(distance / step - round(distance / step)) <= TOLERANCE * max(1.0, abs(distance / step))


def _text(value: Any) -> str:
    """JSON in which equal values are equal texts, and a whole number is the same however it is written."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_INTEGER:
        value = int(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _is_same(one: Any, other: Any) -> bool:
    return _text(one) == _text(other)
