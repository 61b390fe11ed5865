"""A worker process like `trellis worker` with one task, which runs the body that a job names. Its arguments are the queues."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Row, insert

from db.core.work import Work
from db.tables import Experiment
from db.tables.jobs import JobKind
from workers.main import serve
from workers.runtime.attempt import Attempt, Effects


async def run_scripted_body(attempt: Attempt) -> Effects:
    """Run the job's body, and store until a file exists if the job says so; the effect of completion is an experiment named after the attempt."""
    parameters = attempt.job.parameters
    spec = parameters["spec"]
    if "salt" in spec:
        _answer_questions(attempt, spec)
    result = await attempt.run_body(f"tests.workers.bodies:{parameters['body']}", spec, is_shared=spec.get("is_shared", False))
    while "store_until" in spec and not Path(spec["store_until"]).exists():
        await asyncio.sleep(0.02)
    if "upload" in result:
        await attempt.upload(Path(result["upload"]), f"jobs/{attempt.job.owner_id}/{attempt.job.id}", "REPORT", "report", "text/plain")

    async def effects(work: Work, job: Row[Any]) -> Sequence[str]:
        await work.run(insert(Experiment).values(owner_id=job.owner_id, name=f"{job.id} {job.attempt}"))
        return []

    return effects


def _answer_questions(attempt: Attempt, spec: dict[str, Any]) -> None:
    async def add(arguments: dict[str, Any]) -> dict[str, int]:
        return {"sum": arguments["number"] + spec["salt"]}

    async def wait(_: dict[str, Any]) -> None:
        while not Path(spec["answer_when"]).exists():
            await asyncio.sleep(0.02)

    async def fail(_: dict[str, Any]) -> None:
        raise RuntimeError("There is no answer.")

    attempt.answer("add", add)
    attempt.answer("wait", wait)
    attempt.answer("fail", fail)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:], {JobKind.EXPORT: run_scripted_body}))
