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


def tree_cpu(pid: int) -> float:
    """Return the CPU seconds of a process and all its descendants, ended ones included."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)


async def rate(client: Client, pipeline: str, version: str, count: int) -> float:
    """Submit jobs at once and return how many a second have completed."""
    started = time.perf_counter()
    jobs = [answer["job"]["id"] for answer in await asyncio.gather(*(client.run_pipeline(pipeline, version) for _ in range(count)))]
    while True:
        nodes = await client.one(STATUSES, ids=jobs)
        assert not any(node["error"] for node in nodes), nodes
        if all(node["status"] == "COMPLETED" for node in nodes):
            return count / (time.perf_counter() - started)
        await asyncio.sleep(0.05)


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
            with deployment.trellis_api() as (url, _), deployment.run_process("server.cli", "worker") as worker:
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
                cpu: dict[str, float] = {"train": 0.0, "process": 0.0}

                async def counted(key: str, run: Callable[[], Any]) -> float:
                    before = tree_cpu(worker.pid)
                    result = await run()
                    cpu[key] += tree_cpu(worker.pid) - before
                    return result

                for _ in range(ROUNDS):
                    trainings.append(await counted("train", lambda: rate(client, train, version, JOBS)))
                    processings.append(await counted("process", lambda: rate(client, process, version, JOBS)))
                    bares.append(await bare(JOBS))
                await client.close()
    print(f"{'':<38} {'a second':>9} {'CPU s of the worker a job':>26}")
    print(f"{f'trainings of {ROWS} rows':<38} {median(trainings):>9.1f} {cpu['train'] / (ROUNDS * JOBS):>26.3f}")
    print(f"{f'jobs that scale and write {ROWS} rows':<38} {median(processings):>9.1f} {cpu['process'] / (ROUNDS * JOBS):>26.3f}")
    print(f"{'the same training in a bare pool':<38} {median(bares):>9.1f}")
    ratios = [ours / theirs for ours, theirs in zip(trainings, bares, strict=True)]
    print(f"ratio: {median(ratios):.2f}x of the bare pool, the median of {', '.join(f'{each:.2f}' for each in ratios)}")


if __name__ == "__main__":
    with deployment.servers():
        asyncio.run(main())
