"""Which tests `make test` runs, and in which order."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tests.exhaustive import COLLECTED_ITEMS
from tests.xdist_groups import GROUPS, LONGEST_FIRST

ROOT = Path(__file__).parents[1]


def test_every_file_has_a_test_that_is_not_exhaustive(request: pytest.FixtureRequest) -> None:
    """Or says in its first lines, by `pytestmark`, that it has none."""
    marks_by_file: dict[str, set[bool]] = defaultdict(set)
    for item in request.config.stash[COLLECTED_ITEMS]:
        module = item.getparent(pytest.Module)
        assert module is not None
        if not any(mark.name == "exhaustive" for mark in module.own_markers):
            marks_by_file[item.path.relative_to(ROOT).as_posix()].add(item.get_closest_marker("exhaustive") is not None)
    assert [name for name, marks in marks_by_file.items() if False not in marks] == []


def test_the_files_and_groups_that_come_first_exist() -> None:
    names = {*GROUPS, *(name for name in LONGEST_FIRST if name not in GROUPS.values())}
    assert [name for name in names if not (ROOT / name).exists()] == []
