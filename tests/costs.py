"""A plugin of pytest: the CPU time of each file of tests, with that of all processes that its tests started and of the servers. `make test-costs` uses it.

Not the duration, which depends on what else the machine does; and without further test processes, whose servers are shared.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress

import psutil
import pytest


def cpu_seconds() -> float:
    """Of this process and all that it started and that they started, also of those that have ended."""
    process, total = psutil.Process(), 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            times = each.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


class Meter:
    """Notes at the end of each file what was used since the end of the one before."""

    def __init__(self) -> None:
        self._costs: dict[str, float] = {}
        self._before = cpu_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            path = item.nodeid.partition("::")[0]
            if nextitem is None or nextitem.nodeid.partition("::")[0] != path:
                now = cpu_seconds()
                self._costs[path] = self._costs.get(path, 0.0) + now - self._before
                self._before = now

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("seconds of CPU")
        for path, seconds in sorted(self._costs.items(), key=lambda cost: -cost[1]):
            terminalreporter.write_line(f"{seconds:7.1f} {path}")
        terminalreporter.write_line(f"{sum(self._costs.values()):7.1f} in all")


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.pluginmanager.register(Meter())
