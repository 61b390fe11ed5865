"""A test fails if one of its operations has no plan: the planner would have lost what it executes, and nobody would notice.

Introspection has none, nor has an operation while a test turns planning off. A test that wants one executed without says so with
`@pytest.mark.unplanned("reason")`. Operations of forked API processes count too; not those of processes that start like a user's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import orjson
import pytest

REPORT = "UNPLANNED_OPERATIONS"  # the variable with the path of the file to which processes report them
_EXPECTED = frozenset({"introspection", "off"})


def report_unplanned() -> None:
    """Report the operations of this process, from now on."""
    from graph.execution.planning.builder import Unplannable
    from graph.execution.planning.plan import Planner

    find = Planner.plan
    if find.__name__ == "reporting":
        return

    def reporting(self: Planner, executor: Any) -> Any:
        try:
            return find(self, executor)
        except Unplannable as unplannable:
            location = executor.operation.loc
            text = "" if location is None else location.source.body
            path = os.environ.get(REPORT)
            if path is not None and unplannable.reason not in _EXPECTED:
                with Path(path).open("ab") as file:
                    file.write(orjson.dumps([unplannable.reason, text]) + b"\n")
            raise

    Planner.plan = reporting


@pytest.fixture(scope="session")
def unplanned_report(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """The file to which this test process and those that it starts report."""
    handle, name = tempfile.mkstemp(dir=tmp_path_factory.getbasetemp(), prefix="unplanned-")
    os.close(handle)
    os.environ[REPORT] = name
    yield Path(name)
    del os.environ[REPORT]


@pytest.fixture(autouse=True)
def only_planned_operations(unplanned_report: Path, request: pytest.FixtureRequest) -> Generator[None]:
    """Fail a test that had an operation executed without a plan."""
    if "graph.execution.planning.plan" in sys.modules:
        report_unplanned()
    before = unplanned_report.stat().st_size
    yield
    if unplanned_report.stat().st_size == before:
        return
    expected = {reason for marker in request.node.iter_markers("unplanned") for reason in marker.args}
    with unplanned_report.open("rb") as file:
        file.seek(before)
        operations = [(reason, text) for reason, text in map(orjson.loads, file) if reason not in expected]
    assert operations == [], "operations without a plan"
