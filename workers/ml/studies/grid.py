"""Grids: the points of a space in a fixed order, each once. Trial number n is the point n, found without counting up to it.

The points are numbered as in a mixed radix, with the last parameter fastest. What depends on a parameter is counted below those of its values with which
it is active, so that no point differs from another by a parameter that it does not have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from workers.ml.studies.space import Parameter, Space, Values, is_same


def grid_point(space: Space, number: int) -> Values:
    """Return the point `number`, counted from 1 as trials are; after the last one, the points begin again.

    Raises ValueError for a parameter that may have any number of a range.
    """
    grid = _Grid(space)
    point = grid.at((number - 1) % grid.size)
    return {key: point[key] for key in space.by_key if key in point}


class _Grid:
    """The tree of the parameters, each below the one that it depends on."""

    def __init__(self, space: Space) -> None:
        self._children: dict[str | None, list[Parameter]] = {None: []}
        for parameter in space.ordered:
            if parameter.count is None:
                raise ValueError(f"{parameter.key} has no step: a grid would have any number of its values.")
            self._children[parameter.key] = []
            self._children[parameter.depends_on].append(parameter)
        self._sizes: dict[str, int] = {}
        for parameter in reversed(space.ordered):
            self._sizes[parameter.key] = sum(values * size for _, values, size in self._runs(parameter))
        self.size = math.prod(self._sizes[parameter.key] for parameter in self._children[None])

    def at(self, index: int) -> Values:
        return self._choose(self._children[None], index)

    def _choose(self, parameters: Sequence[Parameter], index: int) -> Values:
        """The values of independent parameters, and of what depends on them, at this index of all their combinations."""
        values: Values = {}
        for parameter in reversed(parameters):
            index, rest = divmod(index, self._sizes[parameter.key])
            values |= self._choose_one(parameter, rest)
        return values

    def _choose_one(self, parameter: Parameter, index: int) -> Values:
        for first, count, size in self._runs(parameter):
            if index < count * size:
                value = parameter.at(first + index // size)
                return {parameter.key: value} | self._choose(self._active(parameter, value), index % size)
            index -= count * size
        raise AssertionError(parameter.key)

    def _runs(self, parameter: Parameter) -> Iterator[tuple[int, int, int]]:
        """Successive values with equally many points each: the position of the first one, their number, the points of each. Only values that conditions
        name have more than one point, so a range of a billion values takes no longer than one of ten."""
        assert parameter.count is not None
        named = {parameter.position_of(value) for child in self._children[parameter.key] for value in child.when}
        start = 0
        for position in sorted(position for position in named if position is not None):
            yield start, position - start, 1
            yield position, 1, math.prod(self._sizes[child.key] for child in self._active(parameter, parameter.at(position)))
            start = position + 1
        yield start, parameter.count - start, 1

    def _active(self, parameter: Parameter, value: Any) -> list[Parameter]:
        return [child for child in self._children[parameter.key] if any(is_same(value, each) for each in child.when)]
