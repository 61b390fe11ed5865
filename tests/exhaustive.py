"""Tests that only `make test-all` runs: long ones, and further cases of a mechanism that another case covers.

`-m "not exhaustive"`, the default in pyproject.toml, deselects them; `pytest -m ""` runs all tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

COLLECTED_ITEMS = pytest.StashKey[Sequence[pytest.Item]]()
"""All collected tests, deselected ones included."""


def exhaustive(*values: Any, id: str | None = None) -> Any:
    """A case for `pytest.mark.parametrize` of a mechanism that another case covers."""
    return pytest.param(*values, id=id, marks=pytest.mark.exhaustive)
