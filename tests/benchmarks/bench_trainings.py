"""Small jobs through the whole system, against the same work in a bare process pool.

A training of 400 rows, from the first submit to the last artifact of the last job, plots included; and a job that scales and writes the same
rows. The bare pool has as many processes as this machine has cores, the libraries loaded: it reads the same Parquet file, fits the same
scikit-learn Pipeline, measures it and writes it with skops; no plots, no progress, no store, no database.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import psutil

from tests.benchmarks import deployment
from tests.client import Client

ROWS, JOBS, ROUNDS, WARMUP_JOBS = 400, 40, 3, 8
SUBMITS_AT_ONCE = 40  # as many as a few people's programs send; the API tells those beyond its connections to come again
SEED = 20_260_101
NUMBERS = [f"x{number}" for number in range(6)]
STATUSES = "query($ids: [ID!]!) { nodes(ids: $ids) { ... on Job { status error { code message } } } }"


def table() -> pl.DataFrame:
    rng = random.Random(SEED)
    columns: dict[str, list[Any]] = {name: [rng.gauss(0, 1) for _ in range(ROWS)] for name in NUMBERS}
    columns["color"] = [rng.choice(("red", "green", "blue")) for _ in range(ROWS)]
    columns["label"] = ["yes" if first + rng.gauss(0, 1) > 0 else "no" for first in columns["x0"]]
    return pl.DataFrame(columns)


def train_bare(file: str) -> int:
    """Fit, measure and write in this process; return the size of the model and the number of scores."""
    import skops.io
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = pl.read_parquet(file)
    train: Any
    test: Any
    train, test = train_test_split(frame, test_size=0.2, random_state=1, stratify=frame["label"])
    features = ColumnTransformer([("color", OneHotEncoder(), ["color"]), ("numbers", StandardScaler(), NUMBERS)])
    model = Pipeline([("features", features), ("model", LogisticRegression())]).fit(train, train["label"])
    predicted, probabilities = model.predict(test), model.predict_proba(test)
    scores = [accuracy_score(test["label"], predicted), f1_score(test["label"], predicted, average="macro")]
    scores += [log_loss(test["label"], probabilities), roc_auc_score(test["label"] == "yes", probabilities[:, 1])]
    return len(skops.io.dumps(model)) + len(scores)


def tree_cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and all its descendants, ended ones included."""
    return sum(sum(each.cpu_times()[:4]) for each in (process, *process.children(recursive=True)))


def cpu_by_role(worker: int, api: int) -> dict[str, float]:
    """Return the CPU seconds so far of each part of the deployment."""
    us = psutil.Process()
    forkservers = psutil.Process(worker).children()
    servers = {
        role: next(each for each in us.children() if each.name().startswith(name))
        for role, name in (("PostgreSQL", "postgres"), ("object store", "rclone"), ("Redis", "valkey"))
    }
    return {
        "worker": sum(psutil.Process(worker).cpu_times()[:2]),
        "forkserver": sum(sum(each.cpu_times()[:2]) for each in forkservers),
        "bodies": sum(tree_cpu(each) - sum(each.cpu_times()[:2]) for each in forkservers),
        "API": tree_cpu(psutil.Process(api)),
        **{role: tree_cpu(server) for role, server in servers.items()},
        "client": sum(us.cpu_times()[:2]),
    }


async def rate(client: Client, pipeline: str, version: str, count: int) -> float:
    """Submit jobs at once and return how many a second have completed."""
    started = time.perf_counter()
    some_at_once = asyncio.Semaphore(SUBMITS_AT_ONCE)

    async def submit() -> str:
        async with some_at_once:
            return (await client.run_pipeline(pipeline, version))["job"]["id"]

    jobs = await asyncio.gather(*(submit() for _ in range(count)))
    while jobs:  # of those that have not ended, a few: asking for all of them would cost the API more than submitting them
        asked = jobs[:8]
        nodes = await client.one(STATUSES, ids=asked)
        assert not any(node["error"] for node in nodes), nodes
        ended = {job for job, node in zip(asked, nodes, strict=True) if node["status"] == "COMPLETED"}
        jobs = [job for job in jobs if job not in ended]
        if not ended:
            await asyncio.sleep(0.05)
    return count / (time.perf_counter() - started)


async def main() -> None:
    frame = table()
    csv = io.BytesIO()
    frame.write_csv(csv)
    steps = (("data", "dataset", {}), ("split", "split", {}), ("encode", "one_hot_encode", {}), ("scale", "scale", {}))
    training = (*steps, ("train", "train_logistic_regression", {"target": "label"}))
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("forkserver")) as pool,
    ):
        file = Path(folder) / "table.parquet"
        frame.write_parquet(file)
        async with deployment.database() as database:
            from workers.catalogue import project_steps_sync

            await asyncio.to_thread(project_steps_sync, deployment.state_settings().database_url)
            del database
            with deployment.trellis_api() as (url, api_pid), deployment.run_process("server.cli", "worker") as worker:
                client = Client(url, deployment.TOKEN)
                version = await client.ingest("trainings", csv.getvalue())
                train = (await client.create_pipeline("train", *training))["pipeline"]["id"]
                process = (await client.create_pipeline("process", *steps[::3]))["pipeline"]["id"]

                async def bare(count: int) -> float:
                    started = time.perf_counter()
                    loop = asyncio.get_running_loop()
                    await asyncio.gather(*(loop.run_in_executor(pool, train_bare, str(file)) for _ in range(count)))
                    return count / (time.perf_counter() - started)

                for pipeline in (train, process):
                    await rate(client, pipeline, version, WARMUP_JOBS)
                await bare(WARMUP_JOBS)
                trainings: list[float] = []
                processings: list[float] = []
                bares: list[float] = []
                cpu: dict[str, Counter[str]] = {"train": Counter(), "process": Counter()}

                async def counted(key: str, run: Callable[[], Any]) -> float:
                    before = cpu_by_role(worker.pid, api_pid)
                    result = await run()
                    after = cpu_by_role(worker.pid, api_pid)
                    cpu[key].update({role: seconds - before[role] for role, seconds in after.items()})
                    return result

                for _ in range(ROUNDS):
                    trainings.append(await counted("train", lambda: rate(client, train, version, JOBS)))
                    processings.append(await counted("process", lambda: rate(client, process, version, JOBS)))
                    bares.append(await bare(JOBS))
                await client.close()
    print(f"{'':<38} {'a second':>9}")
    print(f"{f'trainings of {ROWS} rows':<38} {median(trainings):>9.1f}")
    print(f"{f'jobs that scale and write {ROWS} rows':<38} {median(processings):>9.1f}")
    print(f"{'the same training in a bare pool':<38} {median(bares):>9.1f}")
    print(f"\n{'CPU milliseconds a job':<38} {'training':>9} {'scaling':>9}")
    for role in (*cpu["train"], "all but the client"):
        counted_roles = [role] if role in cpu["train"] else [each for each in cpu["train"] if each != "client"]
        sums = [sum(cpu[key][each] for each in counted_roles) / (ROUNDS * JOBS) * 1000 for key in ("train", "process")]
        print(f"{role:<38} {sums[0]:>9.1f} {sums[1]:>9.1f}")
    ratios = [ours / theirs for ours, theirs in zip(trainings, bares, strict=True)]
    print(f"ratio: {median(ratios):.2f}x of the bare pool, the median of {', '.join(f'{each:.2f}' for each in ratios)}")


if __name__ == "__main__":
    with deployment.servers():
        asyncio.run(main())
