"""The space of a study: its parameters, the values that each may have, and which of them a trial has.

A parameter with a condition is active if the parameter that it depends on is active and has one of the values named. Parameters may depend on such
parameters in turn. A trial has values of active parameters only, so two trials that differ in nothing else are the same point.

A number has a *share* of its range, 0 to 1, at which it lies: on the logarithm of its values if it is logarithmic, by position if it has steps. What
draws or changes numbers works on shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

Values = dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """One dimension. Of a number, `step` is None if every value of its range is possible; `choices` are the values of a categorical one.

    `depends_on` is the key of another parameter, which must have one of the values `when`.
    """

    key: str
    type: str
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    is_log: bool = False
    choices: tuple[Any, ...] = ()
    depends_on: str | None = None
    when: tuple[Any, ...] = ()

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Parameter:
        """Read a parameter as a study stores it."""
        key, kind, condition = f"{stored['node']}.{stored['name']}", stored["type"], stored.get("condition")
        dependency: dict[str, Any] = (
            {} if condition is None else {"depends_on": f"{condition['node']}.{condition['name']}", "when": tuple(condition["in"])}
        )
        if kind == "categorical":
            return cls(key, kind, choices=tuple(stored["choices"]), **dependency)
        step = stored.get("step")
        if step is None and kind == "int":
            step = 1
        return cls(key, kind, stored["low"], stored["high"], step, bool(stored.get("log")), **dependency)

    @cached_property
    def count(self) -> int | None:
        """How many values it may have; None if every number of a range."""
        if self.type == "categorical":
            return len(self.choices)
        if self.step is None:
            return 1 if self.low == self.high else None
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        return round((high - low) / step) + 1  # the step divides the range, by tolerance if it is not written as decimals

    def at(self, position: int) -> Any:
        """The value at `position` of those that it may have: exact decimals, as the step is written."""
        if self.type == "categorical":
            return self.choices[position]
        if self.step is None:
            return self._number(self.low)
        return self._number(min(Decimal(str(self.low)) + position * Decimal(str(self.step)), Decimal(str(self.high))))

    def of_share(self, share: float) -> Any:
        """The value at this share of the range. All values of a number with steps, and all categories, have the same width; on a logarithmic scale,
        those between which the logarithm lies."""
        if self._is_even:
            assert self.count is not None
            return self.at(min(int(share * self.count), self.count - 1))
        low, high = self._ends
        number = low + share * (high - low)
        return self.nearest(math.exp(number) if self.is_log else number)

    def share_of(self, value: Any) -> float:
        """The share at which a number lies: the middle of what `of_share` makes this value of."""
        if self._is_even:
            assert self.count is not None
            assert self.step is not None
            return (round((value - self.low) / self.step) + 0.5) / self.count
        low, high = self._ends
        return 0.5 if low == high else ((math.log(value) if self.is_log else value) - low) / (high - low)

    @property
    def _is_even(self) -> bool:
        return self.type == "categorical" or (self.step is not None and not self.is_log)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """The ends of the scale. On a logarithmic one with steps, each end has the width of half a step beyond it."""
        if not self.is_log:
            return self.low, self.high
        margin = 0.0 if self.step is None else min(self.step, self.low) / 2
        return math.log(self.low - margin), math.log(self.high + margin)

    def nearest(self, number: float) -> Any:
        """The possible value that is nearest to `number`."""
        if self.step is None:
            return self._number(min(max(number, self.low), self.high))
        assert self.count is not None
        return self.at(min(max(round((number - self.low) / self.step), 0), self.count - 1))

    def position_of(self, value: Any) -> int | None:
        """The position of one of its values, as `at` counts; None if it is none of them."""
        if self.type == "categorical":
            return next((position for position, choice in enumerate(self.choices) if is_same(choice, value)), None)
        if self.count is None or isinstance(value, bool) or not isinstance(value, int | float):
            return None
        position = 0 if self.step is None else round((value - self.low) / self.step)
        return position if 0 <= position < self.count and self.at(position) == value else None

    def _number(self, number: float | Decimal) -> float | int:
        return int(number) if self.type == "int" else float(number)


class Space:
    """The parameters of a study, in the order in which they were given."""

    def __init__(self, stored: Sequence[Mapping[str, Any]]) -> None:
        self.parameters = [Parameter.of(each) for each in stored]
        self.by_key = {parameter.key: parameter for parameter in self.parameters}

    @cached_property
    def ordered(self) -> list[Parameter]:
        """Each after the one that it depends on."""
        ordered: list[Parameter] = []
        reached: set[str | None] = {None}
        waiting = self.parameters
        while waiting:
            ready = [parameter for parameter in waiting if parameter.depends_on in reached]
            if not ready:
                raise ValueError(f"The conditions of {', '.join(parameter.key for parameter in waiting)} form a circle.")
            ordered += ready
            reached |= {parameter.key for parameter in ready}
            waiting = [parameter for parameter in waiting if parameter.key not in reached]
        return ordered

    def choose(self, value_of: Callable[[Parameter], Any]) -> Values:
        """Return the values of the active parameters, in the order in which those were given."""
        values: Values = {}
        for parameter in self.ordered:
            if is_active(parameter, values):
                values[parameter.key] = value_of(parameter)
        return {key: values[key] for key in self.by_key if key in values}


def is_active(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    """Whether a trial with these `values`, those of what it depends on among them, has a value of it."""
    if parameter.depends_on is None:
        return True
    return parameter.depends_on in values and any(is_same(values[parameter.depends_on], value) for value in parameter.when)


def is_same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; in Python, true is 1 as well."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other
