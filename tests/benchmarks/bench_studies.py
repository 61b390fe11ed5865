"""1,000 trials of a RANDOM study against 1,000 plain jobs of the same training, and what it takes to schedule a study that has made 5,000 trials,
against one that has made none and against the submission of a training. A top-up inserts a trial with its job and its run, in one transaction.
"""

from __future__ import annotations

import asyncio
import os
import time
from statistics import median
from typing import Any
from uuid import UUID

from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.pipelines import running
from db.services.studies import scheduling
from tests.benchmarks import deployment
from tests.benchmarks.bench_trainings import rate
from tests.client import Client
from tests.studies.searching import CREATE

JOBS = int(os.environ.get("BENCH_TRIALS", "1000"))
TRIALS, TOP_UPS = 5_000, 50
CSV = "a,b\n" + "".join(f"{row},{row * 7 % 11}\n" for row in range(60))
SPACE = [{"node": "train", "name": "alpha", "type": "DOUBLE", "low": 0.001, "high": 1000.0, "log": True}]

# A study with many ended trials: each with a job and a run of its own. Triggers require jobs to begin as pending, so they are off.
HISTORY = """
SET LOCAL session_replication_role = replica;
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT i, uuidv7() AS job_id, uuidv7() AS run_id, uuidv7() AS trial_id FROM generate_series(1, :count) i;
INSERT INTO jobs (id, owner_id, kind, status, queue, progress, attempt, last_sequence, dataset_id, dataset_version_id, pipeline_id, snapshot_id, completed_at)
SELECT m.job_id, s.owner_id, 'train', 'completed', 'tabular', 100, 1, 3, v.dataset_id, v.id, s.pipeline_id, s.snapshot_id, now()
FROM made m, studies s JOIN dataset_versions v ON v.id = s.dataset_version_id WHERE s.id = :study;
INSERT INTO runs (id, owner_id, experiment_id, number, status, seed, job_id, dataset_version_id, study_id)
SELECT m.run_id, s.owner_id, s.experiment_id, e.last_number + m.i, 'completed', 0, m.job_id, s.dataset_version_id, s.id
FROM made m, studies s JOIN experiments e ON e.id = s.experiment_id WHERE s.id = :study;
INSERT INTO trials (id, study_id, number, status, job_id, run_id, parameters, value, completed_at)
SELECT m.trial_id, :study, m.i, 'completed', m.job_id, m.run_id, '{}', m.i, now() FROM made m;
UPDATE experiments e SET last_number = e.last_number + :count FROM studies s WHERE s.id = :study AND e.id = s.experiment_id;
UPDATE studies SET last_number = :count, trials_completed = :count WHERE id = :study;
"""


async def submission_times(database: Database, study: dict[str, Any]) -> list[float]:
    """Return the milliseconds in which each of some trainings of the study's pipeline is submitted. No worker runs."""
    pipeline, version = (UUID(study[name].partition("_")[2]) for name in ("pipelineId", "datasetVersionId"))
    times: list[float] = []
    for _ in range(TOP_UPS):
        started = time.perf_counter()
        async with database.work(SYSTEM) as work:
            await running.run(work, running.RunRequest(pipeline, version))
        times.append((time.perf_counter() - started) * 1000)
        async with database.work(SYSTEM) as work:
            await work.run(text("SET LOCAL session_replication_role = replica"))
            await work.run(text("UPDATE jobs SET status = 'cancelled', completed_at = now() WHERE status = 'pending'"))
    return times


async def schedule_times(database: Database, client: Client, study: dict[str, Any], trials: int) -> list[float]:
    """Create a study with so many trials behind it, and return the milliseconds of each further top-up by one trial. No worker runs."""
    budget = {"maxTrials": trials + TOP_UPS + 2, "maxParallel": 1}
    created = await client.one(CREATE, input={**study, "name": f"after {trials}", "budget": budget})
    key = UUID(created["study"]["id"].removeprefix("study_"))
    async with database.work(SYSTEM) as work:
        for statement in ("DELETE FROM study_events WHERE study_id = :study", "DELETE FROM trials WHERE study_id = :study"):
            await work.run(text(statement), {"study": key})
        await work.run(text("UPDATE studies SET open_trials = 0, last_number = 0, last_sequence = 0 WHERE id = :study"), {"study": key})
        for statement in HISTORY.split(";\n"):
            if statement.strip():
                parameters = {name: value for name, value in (("study", key), ("count", trials)) if f":{name}" in statement}
                await work.run(text(statement), parameters)
    times: list[float] = []
    for _ in range(TOP_UPS):
        started = time.perf_counter()
        await scheduling.schedule(database, key)
        times.append((time.perf_counter() - started) * 1000)
        async with database.work(SYSTEM) as work:  # its trial ends
            await work.run(text("SET LOCAL session_replication_role = replica"))
            ended = "UPDATE jobs SET status = 'cancelled', completed_at = now() WHERE id IN (SELECT job_id FROM trials WHERE study_id = :study AND status = 'pending')"
            await work.run(text(ended), {"study": key})
    return times


async def run_study(client: Client, study: dict[str, Any]) -> float:
    """Return how many trials a second have ended."""
    started = time.perf_counter()
    created = await client.one(CREATE, input={**study, "budget": {"maxTrials": JOBS, "maxParallel": 2 * (os.cpu_count() or 1)}})
    while True:
        told = await client.one("query($id: ID!) { study(id: $id) { status trialsCompleted } }", id=created["study"]["id"])
        if told["status"] not in ("PENDING", "RUNNING"):
            assert told == {"status": "COMPLETED", "trialsCompleted": JOBS}, told
            return JOBS / (time.perf_counter() - started)
        await asyncio.sleep(0.2)


async def main() -> None:
    async with deployment.database() as database:
        from workers.catalogue import project_steps_sync

        await asyncio.to_thread(project_steps_sync, deployment.state_settings().database_url)
        with deployment.trellis_api() as (url, _):
            client = Client(url, deployment.TOKEN)
            with deployment.run_process("server.cli", "worker"):
                version = await client.ingest("d", CSV)
                steps = (("data", "dataset", {}), ("train", "train_ridge_regression", {"target": "b"}))
                pipeline = (await client.create_pipeline("p", *steps))["pipeline"]["id"]
                study = {
                    "name": "s",
                    "method": "RANDOM",
                    "pipelineId": pipeline,
                    "datasetVersionId": version,
                    "objective": {"metric": "rmse"},
                    "space": SPACE,
                }
                await rate(client, pipeline, version, 8)
                jobs = await rate(client, pipeline, version, JOBS)
                trials = await run_study(client, study)
            submissions = await submission_times(database, study)
            first = await schedule_times(database, client, study, 0)
            last = await schedule_times(database, client, study, TRIALS)
            await client.close()
    print(f"{f'{JOBS:,} plain jobs':<44} {jobs:>7.1f} a second")
    print(f"{f'{JOBS:,} trials of a study':<44} {trials:>7.1f} a second")
    print(f"ratio: {jobs / trials:.2f}x the time of the plain jobs (to reach: below 2)")
    print(f"a training is submitted in {median(submissions):.1f} ms (median)")
    print(
        f"a top-up of a study without trials: {median(first):.1f} ms; of one with {TRIALS:,}: {median(last):.1f} ms, greatest {max(last[1:]):.1f} ms"
    )
    print(
        f"ratio: {median(last) / median(first):.2f}x that of a study without trials (to reach: 1), {median(last) / median(submissions):.2f}x a submission"
    )


if __name__ == "__main__":
    with deployment.servers():
        asyncio.run(main())
