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
    "tests/faults/test_bodies.py": "faults",
    "tests/faults/test_network_faults.py": "faults",
    "tests/faults/test_performance_targets.py": "faults",
    "tests/faults/test_faults.py": "faults",
    "tests/faults/test_product_jobs.py": "faults",
    "tests/faults/test_invariants.py": "faults",
    "tests/server/test_console.py": "console",
    "tests/server/test_console_tabs.py": "console",
}
"""The files of a group run in this order."""

# Files and groups that take more than about ten seconds, by their duration in `make test`; of those that are short there, with the exhaustive tests.
LONGEST_FIRST = (
    "faults",
    "tests/faults/test_external_runs.py",
    "tests/faults/test_studies.py",
    "tests/faults/test_notifications.py",
    "tests/house/test_list_plans.py",
    "tests/jobs/test_resume.py",
    "tests/workers/test_bodies.py",
    "tests/graph/test_mutation_endings.py",
    "tests/workers/test_one_rule_of_reading.py",
    "tests/planning/test_sameness.py",
    "tests/server/test_up.py",
    "console",
    "tests/workers/test_engine.py",
    "tests/pipelines/test_running.py",
    "tests/jobs/test_logs.py",
    "account page",
    "tests/workers/test_worker_errors.py",
    "tests/workers/test_forkserver.py",
    "tests/billing/test_credits.py",
    "tests/workers/test_training.py",
    "tests/house/test_filters.py",
    "tests/house/test_isolation.py",
    "tests/workers/test_resumed_reading.py",
    "tests/workers/test_nasty_data.py",
    "tests/accounts/test_guessing.py",
    "tests/server/test_embedded_servers.py",
    "tests/workers/test_maintenance.py",
    "tests/house/test_every_row.py",
    "tests/exports/test_exporting.py",
    "tests/workers/test_artifacts.py",
    "tests/datasets/test_reading.py",
    "tests/server/test_api_processes.py",
    "tests/house/test_database.py",
    "tests/workers/test_training_checkpoints.py",
    "tests/accounts/test_team_invitations.py",
    "tests/accounts/test_ending_accounts.py",
    "tests/workers/test_stopping.py",
    "tests/workers/test_worker_loops.py",
    "tests/accounts/test_attacks_on_providers.py",
    "tests/workers/test_shared_processes.py",
    "tests/workers/test_sandbox.py",
    "tests/experiments/test_runs.py",
    "tests/server/test_users_command.py",
    "tests/jobs/test_streams.py",
    "tests/server/test_jobs_command.py",
    "tests/accounts/test_team_ownership.py",
    "tests/datasets/test_uploads.py",
    "tests/fuzz/test_fuzz.py",
    "tests/server/test_guard.py",
    "tests/graph/test_limits.py",
    "tests/accounts/test_changing_passwords.py",
    "tests/jobs/test_many_subscribers.py",
    "tests/server/test_attacks.py",
    "tests/clients/test_tools.py",
    "tests/workers/test_dispatch_listener.py",
    "tests/jobs/test_the_feed_goes_on.py",
    "tests/jobs/test_progress.py",
    "tests/planning/test_mutants.py",
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
    in_group = {path: place for place, path in enumerate(GROUPS)}

    def place(item: pytest.Item) -> tuple[int, int]:
        path = item.nodeid.partition("::")[0]
        return places.get(GROUPS.get(path, path), len(places)), in_group.get(path, 0)

    items.sort(key=place)
