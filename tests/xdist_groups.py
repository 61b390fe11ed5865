"""Which files share a process of the tests, because what they stand on takes long to make.

pytest-xdist's own mark for it writes the group into the test's id, which pytest 9.2 no longer lets anybody do, and says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling

GROUPS: Mapping[str, str] = {
    "tests/faults/test_bodies.py": "numbers",
    "tests/faults/test_faults.py": "faults",
    "tests/faults/test_network_faults.py": "numbers",
    "tests/faults/test_performance_targets.py": "numbers",
    "tests/faults/test_invariants.py": "faults",
    "tests/server/test_up.py": "up",  # one start serves them all
}


class GroupScheduling(LoadGroupScheduling):
    """A group goes to one process, in its order; every other test to whichever is free."""

    def _split_scope(self, nodeid: str) -> str:
        return GROUPS.get(nodeid.partition("::")[0], nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling | None:
    return GroupScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None
