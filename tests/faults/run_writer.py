"""A process that logs external runs to several APIs, each call until it is acknowledged: `python -m tests.faults.run_writer <JSON>`."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from tests.client import Client, GraphQLErrors
from tests.faults.viewers import RETRYABLE_CODES, RETRYABLE_ERRORS

CREATE = "mutation($input: CreateRunInput!) { createRun(input: $input) { ... on CreateRunPayload { run { id } } } }"
LOG = "mutation($run: ID!, $points: [MetricPointInput!]!) { logMetrics(input: {runId: $run, points: $points}) { __typename } }"
PARAMETERS = "mutation($run: ID!, $parameters: JSON!) { logParameters(input: {runId: $run, parameters: $parameters}) { __typename } }"
FINISH = "mutation($run: ID!) { finishRun(input: {runId: $run}) { __typename } }"


@dataclass(frozen=True)
class Writing:
    """What one process writes: runs, each with batches of points, to the APIs at `urls` in turn."""

    urls: list[str]
    token: str
    number: int
    runs: int
    batches: int
    points: int

    def values(self, run: int, batch: int) -> list[tuple[int, float]]:
        """Step and value of each point of a batch. A step has three points, which differ in value."""
        start = batch * self.points
        return [(i // 3, run + i / 7) for i in range(start, start + self.points)]


class Writer:
    """Sends each call until it is acknowledged."""

    def __init__(self, writing: Writing) -> None:
        self._clients = [Client(url, writing.token) for url in writing.urls]
        self._turns = count(writing.number)

    async def send(self, query: str, **variables: Any) -> Any:
        while True:
            try:
                return await self._clients[next(self._turns) % len(self._clients)].one(query, **variables)
            except GraphQLErrors as error:
                if not set(error.codes) <= RETRYABLE_CODES | {"RATE_LIMITED"}:
                    raise
            except (*RETRYABLE_ERRORS, ValueError):
                pass
            await asyncio.sleep(0.05)


async def write(writing: Writing) -> None:
    """Write all runs, one after the other; print the id of each once all of it is acknowledged."""
    writer = Writer(writing)
    for number in range(writing.runs):
        key = f"{writing.number}-{number}"
        run = (await writer.send(CREATE, input={"name": f"writer {key}", "idempotencyKey": key}))["run"]["id"]
        for batch in range(writing.batches):
            given = [
                {"key": "loss", "step": step, "value": value, "recordedAt": f"2026-03-01T00:00:00.{batch:06}Z"}
                for step, value in writing.values(number, batch)
            ]
            answer = await writer.send(LOG, run=run, points=given)
            assert answer["__typename"] == "LogMetricsPayload", answer
        await writer.send(PARAMETERS, run=run, parameters={"number": number, "writer": writing.number})
        await writer.send(FINISH, run=run)
        print(json.dumps({"run": run, "number": number}), flush=True)


def command(writing: Writing) -> list[str]:
    """The command of a process that writes this."""
    return [sys.executable, "-m", "tests.faults.run_writer", json.dumps(asdict(writing))]


if __name__ == "__main__":
    asyncio.run(write(Writing(**json.loads(sys.argv[1]))))
