"""A process that logs external runs to several APIs, through GraphQL or as MLflow's clients do, each call until it is acknowledged:
`python -m tests.faults.run_writer <JSON>`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from tests.client import Client, GraphQLErrors
from tests.faults.viewers import RETRYABLE_CODES, RETRYABLE_ERRORS

START_MS = 1_772_323_200_000
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
    is_mlflow: bool = False

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

    async def post(self, path: str, **fields: Any) -> Any:
        """Call MLflow's protocol; repeat what its clients repeat."""
        while True:
            with suppress(*RETRYABLE_ERRORS, ValueError):
                client = self._clients[next(self._turns) % len(self._clients)]
                answer = await client.http.post(f"/api/2.0/mlflow/runs/{path}", json=fields)
                if answer.status_code == 200:
                    return answer.json()
                assert answer.status_code in {429, 500, 502, 503, 504}, answer.text
            await asyncio.sleep(0.05)


async def write(writing: Writing) -> None:
    """Write all runs, one after the other; print the id of each once all of it is acknowledged."""
    writer = Writer(writing)
    for number in range(writing.runs):
        run = await (_write_as_mlflow if writing.is_mlflow else _write)(writer, writing, number)
        print(json.dumps({"run": run, "number": number}), flush=True)


async def _write_as_mlflow(writer: Writer, writing: Writing, number: int) -> str:
    """Write one run as a client of MLflow, which gives no idempotency key; return its id."""
    created = await writer.post("create", experiment_id="0", run_name=f"writer {writing.number}-{number}", start_time=START_MS)
    run = created["run"]["info"]["run_id"]
    for batch in range(writing.batches):
        values = writing.values(number, batch)
        metrics = [{"key": "loss", "step": step, "value": value, "timestamp": START_MS + batch} for step, value in values]
        await writer.post("log-batch", run_id=run, metrics=metrics)
    params = [{"key": "number", "value": str(number)}, {"key": "writer", "value": str(writing.number)}]
    await writer.post("log-batch", run_id=run, params=params)
    await writer.post("update", run_id=run, status="FINISHED", end_time=START_MS + writing.batches)
    return run


async def _write(writer: Writer, writing: Writing, number: int) -> str:
    """Write one run through GraphQL; return its id."""
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
    return run


def command(writing: Writing) -> list[str]:
    """The command of a process that writes this."""
    return [sys.executable, "-m", "tests.faults.run_writer", json.dumps(asdict(writing))]


if __name__ == "__main__":
    asyncio.run(write(Writing(**json.loads(sys.argv[1]))))
