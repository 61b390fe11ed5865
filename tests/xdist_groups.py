"""Which test files share an xdist process, and which start first.

All tests of a file run in one process, so that module fixtures are made once. The longest files start first, so that the processes finish
at about the same time.

pytest-xdist's `xdist_group` mark is not used: it appends the group to the test's id, which pytest 9.2 silently ignores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling

GROUPS: Mapping[str, str] = {
    "tests/accounts/test_account_page.py": "account page",
    "tests/accounts/test_sign_in_page.py": "account page",
    "tests/faults/test_bodies.py": "numbers",
    "tests/faults/test_faults.py": "faults",
    "tests/faults/test_network_faults.py": "numbers",
    "tests/faults/test_performance_targets.py": "numbers",
    "tests/faults/test_product_jobs.py": "faults",
    "tests/faults/test_invariants.py": "faults",
    "tests/server/test_console.py": "console",
    "tests/server/test_console_tabs.py": "console",
}

# Files and groups that take more than about ten seconds, by their total duration with the exhaustive tests.
LONGEST_FIRST = (
    "tests/jobs/test_resume.py",
    "faults",
    "numbers",
    "tests/workers/test_bodies.py",
    "console",
    "account page",
    "tests/planning/test_sameness.py",
    "tests/workers/test_one_rule_of_reading.py",
    "tests/server/test_up.py",
    "tests/graph/test_mutation_endings.py",
    "tests/jobs/test_logs.py",
    "tests/billing/test_credits.py",
    "tests/workers/test_worker_errors.py",
    "tests/workers/test_engine.py",
    "tests/house/test_filters.py",
    "tests/house/test_database.py",
    "tests/server/test_api_processes.py",
    "tests/workers/test_training.py",
    "tests/workers/test_training_checkpoints.py",
    "tests/workers/test_forkserver.py",
    "tests/pipelines/test_running.py",
    "tests/server/test_attacks.py",
    "tests/jobs/test_many_subscribers.py",
    "tests/workers/test_resumed_reading.py",
    "tests/workers/test_nasty_data.py",
    "tests/server/test_embedded_servers.py",
    "tests/house/test_isolation.py",
    "tests/accounts/test_guessing.py",
    "tests/house/test_every_row.py",
    "tests/planning/test_mutants.py",
    "tests/workers/test_reported_inputs.py",
    "tests/server/test_users_command.py",
    "tests/jobs/test_progress.py",
    "tests/workers/test_maintenance.py",
    "tests/workers/test_stopping.py",
    "tests/workers/test_final_reports.py",
    "tests/workers/test_dispatch_listener.py",
    "tests/server/test_guard.py",
    "tests/jobs/test_the_feed_goes_on.py",
    "tests/server/test_jobs_command.py",
    "tests/clients/test_tools.py",
    "tests/fuzz/test_fuzz.py",
)


def group_of(nodeid: str) -> str:
    """Return the group of a test's file, or the file itself."""
    path = nodeid.partition("::")[0]
    return GROUPS.get(path, path)


class GroupScheduling(LoadGroupScheduling):
    """Assign groups in collection order: the next group goes to the next free process."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling | None:
    if config.getvalue("dist") != "loadgroup":
        return None
    config.option.loadscopereorder = False  # xdist would start the files with the most tests first
    return GroupScheduling(config, log)


def sort_longest_first(items: list[pytest.Item]) -> None:
    """Sort stably, so that each process has the same order."""
    places = {group: place for place, group in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(group_of(item.nodeid), len(places)))
