"""What `make test` leaves to `make test-all`: long proofs, and cases of which another shows the same once.

`-m "not exhaustive"`, the default in pyproject.toml, deselects what is marked; `pytest -m ""` runs everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

COLLECTED_ITEMS = pytest.StashKey[Sequence[pytest.Item]]()
"""Every test that was collected, those included that are deselected."""


def exhaustive(*values: Any, id: str | None = None) -> Any:
    """A case for `pytest.mark.parametrize`, of a mechanism that another case exercises."""
    return pytest.param(*values, id=id, marks=pytest.mark.exhaustive)
