"""Plans answer as graphql-core does: generated operations, executed both ways, have the same responses."""

from __future__ import annotations

from itertools import chain

import orjson
import pytest

from tests.exhaustive import exhaustive
from tests.planning.conftest import Both, planning_off, send
from tests.planning.faults import injected_faults
from tests.planning.test_mutations_and_events import unplanned

# graphql-core cancels the siblings of a field that made their object null. A load that another field waits for too is then cancelled under
# that field, and the request fails as a whole. A plan cancels no part of itself.
CRASH = b"Internal Server Error"


@pytest.mark.parametrize("count", [20, exhaustive(10_000)])
@pytest.mark.timeout(1_800)
async def test_generated_operations_have_the_same_responses_with_and_without_a_plan(
    both: Both, seed: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_data = executed = crashes = 0
    with injected_faults(monkeypatch) as faults:
        generated = (both.generate(f"{seed} {number}") for number in range(count))
        for number, (operation, client, faults.salt) in enumerate(chain(both.written(), generated)):
            before = unplanned()
            planned = await send(client, operation)
            assert unplanned() == before, f"this has no plan: {operation.text}"
            with planning_off():
                expected = await send(client, operation)
            if expected == CRASH:
                crashes += 1
                continue
            difference = await both.difference(operation, client, planned, expected)
            assert difference is None, (
                f"operation {number} of TEST_SEED={seed}, faults {faults.salt}:\n{operation.text}\n{orjson.dumps(operation.variables).decode()}\n{difference}"
            )
            executed += b'"data":' in planned
            with_data += b'"data":{' in planned
    assert crashes <= max(1, 0.02 * count)
    assert executed > 0.7 * count, "most generated operations are valid"
    assert with_data > 0.5 * count, "and most have data"
