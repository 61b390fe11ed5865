"""Tests that only `make test-all` runs: long ones, and further cases of a mechanism that another case covers.

`-m "not exhaustive"`, the default in pyproject.toml, deselects them; `pytest -m ""` runs all tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar
from zlib import crc32

import pytest

T = TypeVar("T")

COLLECTED_ITEMS = pytest.StashKey[Sequence[pytest.Item]]()
"""All collected tests, deselected ones included."""


def exhaustive(*values: Any, id: str | None = None) -> Any:
    """A case for `pytest.mark.parametrize` of a mechanism that another case covers."""
    return pytest.param(*values, id=id, marks=pytest.mark.exhaustive)


def few(count: int, cases: Iterable[Any]) -> list[Any]:
    """Cases of one mechanism, of which `make test` runs the first so many."""
    return [
        case if position < count else exhaustive(*case) if isinstance(case, tuple) else exhaustive(case)
        for position, case in enumerate(cases)
    ]


def is_sampled(name: str, one_in: int) -> bool:
    """Whether `make test` runs this case of a walk over everything that there is: it depends on the name alone, so that no new case moves others."""
    return crc32(name.encode()) % one_in == 0


def sampled(cases: Iterable[T], one_in: int, name: Callable[[T], str] = str) -> list[Any]:
    """The cases of such a walk: `make test` runs the first and about one in so many, `make test-all` all."""
    return [
        pytest.param(case, id=name(case), marks=[] if not position or is_sampled(name(case), one_in) else pytest.mark.exhaustive)
        for position, case in enumerate(cases)
    ]
