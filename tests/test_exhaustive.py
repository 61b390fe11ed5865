"""`make test` runs at least one test of each file: only further cases are left to `make test-all`."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.exhaustive import COLLECTED_ITEMS


def test_every_file_has_a_test_that_is_not_exhaustive(request: pytest.FixtureRequest) -> None:
    marks_by_file: dict[str, set[bool]] = defaultdict(set)
    for item in request.config.stash[COLLECTED_ITEMS]:
        marks_by_file[item.path.name].add(item.get_closest_marker("exhaustive") is not None)
    assert [name for name, marks in marks_by_file.items() if False not in marks] == []
