"""The comparison of both ways of execution would find a faulty planner."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.client import Client
from tests.exhaustive import few
from tests.planning.conftest import Both, forget_plans, planning_off, send
from tests.planning.faults import Faults, injected_faults
from tests.planning.mutants import MUTANTS, Mutant
from tests.planning.operations import Operation
from tests.planning.test_sameness import CRASH

OPERATIONS = 60
SEED = "mutants"  # fixed: that a fault is found must not depend on chance

Case = tuple[Operation, Client, int | None, bytes]


@pytest.fixture(scope="module")
async def cases(both: Both) -> AsyncGenerator[tuple[Faults, list[Case]]]:
    """Operations with their responses without plans, which no mutant changes."""
    with pytest.MonkeyPatch.context() as monkeypatch, injected_faults(monkeypatch) as faults:
        expected: list[Case] = []
        with planning_off():
            for operation, client, salt in (*both.written(), *(both.generate(f"{SEED} {number}") for number in range(OPERATIONS))):
                faults.salt = salt
                response = await send(client, operation)
                if response != CRASH:
                    expected.append((operation, client, faults.salt, response))
        faults.salt = None
        yield faults, expected


async def finds_a_difference(both: Both, cases: tuple[Faults, list[Case]]) -> bool:
    faults, expected = cases
    for operation, client, salt, response in expected:
        faults.salt = salt
        if await both.difference(operation, client, await send(client, operation), response) is not None:
            return True
    return False


@pytest.mark.exhaustive
async def test_the_operations_for_mutants_find_nothing_in_the_planner_as_it_is(both: Both, cases: Any) -> None:
    assert not await finds_a_difference(both, cases)


@pytest.mark.parametrize(
    "mutant",
    few(1, MUTANTS),
    ids=lambda mutant: mutant.__name__,
)
async def test_each_fault_of_a_planner_is_found(both: Both, cases: Any, mutant: Mutant) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        forget_plans()
        is_found = await finds_a_difference(both, cases)
    forget_plans()
    assert is_found, mutant.__doc__
