"""A job whose body or worker is killed goes on where it was, and nobody can tell from what it made."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import polars as pl
import psutil
import pytest
from sqlalchemy import Row, select

from db.core.work import Database
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables import JobCheckpoint, StoredObject, Upload
from tests.client import Client

OFTEN = {
    "LEASE": "5",
    "PULSE": "0.3",
    "LOOK": "0.2",
    "SLOTS": "1",
    "GRACE": "0.3",
    "BACKOFF_BASE": "0.1",
    "BACKOFF_FACTOR": "1",
    "CANCEL_PATIENCE": "0.5",
    "CHECKPOINT_EVERY": "0.2",
    "CHECKPOINT_BYTES": "100000",
}
ROUNDS = 400
RUN = """query($id: ID!) { run(id: $id) { status metrics { key last lastStep min minStep max maxStep count }
  metricHistory(maxPoints: 2000) { key totalPoints points { step value } }
  modelVersion { artifacts { role sha256 } } job { status attempt tries nodes { key status } } } }"""
VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { status rowCount columns { name type nullable } issues { code }
  rawFile { sizeBytes sha256 downloadUrl } processedFile { sizeBytes sha256 downloadUrl }
  profile { rowCount duplicateRowCount missingCellRatio correlations } } } }"""


@dataclass
class Workshop:
    """One worker that checkpoints often, and ways to harm it."""

    database: Database
    objects: ObjectStore
    folder: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def open(cls, database: Database, objects: ObjectStore, folder: Path) -> Workshop:
        return cls(database, objects, folder, _start(folder))

    def kill_worker(self) -> None:
        """And start another."""
        self.process.kill()
        self.process.wait()
        self.process = _start(self.folder)

    def body(self) -> psutil.Process:
        """The process that works on the job: it stands in a folder of its own."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if Path(process.cwd()).is_relative_to(self.folder / "scratch"):
                    return process
            except psutil.Error:
                continue
        raise AssertionError("no body runs")

    async def checkpoint(self, job: str, name: str) -> Row[Any]:
        """The job's checkpoint, once there is one."""
        mine = select(*JobCheckpoint.__table__.c).where(JobCheckpoint.job_id == UUID(job.removeprefix("job_")), JobCheckpoint.name == name)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            rows = await self.database.rows(mine)
            if rows:
                return rows[0]
            await asyncio.sleep(0.01)
        pytest.fail("There was no checkpoint within 60 s.")

    async def leftovers(self) -> tuple[int, set[str]]:
        """How many checkpoints there are, and which objects nothing refers to."""
        rows = await self.database.rows(select(JobCheckpoint.job_id))
        referenced = {row.object_key for row in await self.database.rows(select(StoredObject.object_key))}
        referenced |= {row.object_key for row in await self.database.rows(select(Upload.object_key))}
        there = {listed.key async for listed in self.objects.list("")}
        return len(rows), there - referenced - self.before

    before: frozenset[str] = frozenset()


def _start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TRELLIS_WORKER_SCRATCH": str(folder / "scratch")}
    environment |= {f"TRELLIS_WORKER_{name}": value for name, value in OFTEN.items()}
    with (folder / "worker.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "server.cli", "worker"], env=environment, stdout=log, stderr=log)


@pytest.fixture
async def workshop(
    settings: StateSettings, database: Database, ada: Client, worker: subprocess.Popen[bytes], tmp_path: Path
) -> AsyncGenerator[Workshop]:
    """The tests' own worker stands still meanwhile, so that it takes no job away."""
    worker.send_signal(signal.SIGSTOP)
    async with ObjectStore.open(settings) as objects:
        workshop = Workshop.open(database, objects, tmp_path)
        workshop.before = frozenset([listed.key async for listed in objects.list("")])
        yield workshop
        workshop.process.kill()
        workshop.process.wait()
    worker.send_signal(signal.SIGCONT)


def table(rows: int) -> str:
    chance = np.random.default_rng(1)
    frame = pl.DataFrame({f"x{number}": chance.normal(size=rows).round(6) for number in range(8)})
    return frame.with_columns(y=(pl.col("x0") * 2 + pl.col("x1") ** 2 + pl.Series(chance.normal(size=rows))).round(6)).write_csv()


async def training(ada: Client) -> tuple[str, str]:
    """A pipeline and a version that it takes some seconds to learn from."""
    version = await ada.ingest("numbers", table(8_000))
    parameters = {"target": "y", "n_estimators": ROUNDS, "num_leaves": 63}
    steps = ("data", "dataset", {}), ("split", "split", {"validation_fraction": 0.2}), ("train", "train_lightgbm", parameters)
    return (await ada.create_pipeline("p", *steps))["pipeline"]["id"], version


async def logged(ada: Client, job: str, attempt: int) -> list[str]:
    events = [event async for event in ada.events(job)]
    return [event["message"] for event in events if event["type"] == "LOG" and event["attempt"] == attempt]


def model(run: dict[str, Any]) -> str:
    return next(artifact["sha256"] for artifact in run["modelVersion"]["artifacts"] if artifact["role"] == "MODEL")


@pytest.mark.parametrize("killed", ["body", "worker"])
async def test_a_killed_training_goes_on_from_its_checkpoint_and_makes_the_same_model(ada: Client, workshop: Workshop, killed: str) -> None:
    pipeline, version = await training(ada)
    whole = await ada.run_pipeline(pipeline, version, seed=7)
    assert (await ada.wait(whole["job"]["id"]))["status"] == "COMPLETED"
    broken = await ada.run_pipeline(pipeline, version, seed=7)
    job = broken["job"]["id"]
    await workshop.checkpoint(job, "training")
    if killed == "body":
        workshop.body().kill()
    else:
        workshop.kill_worker()
    ended = await ada.wait(job)
    assert (ended["status"], ended["attempt"], ended["tries"]) == ("COMPLETED", 2, 1 if killed == "body" else 0)
    said = await logged(ada, job, attempt=2)
    goes_on = [line for message in said for line in message.splitlines() if line.startswith("Goes on from round ")]
    assert len(goes_on) == 1
    done = int(goes_on[0].split()[4])
    assert goes_on == [f"Goes on from round {done} of {ROUNDS}."]
    assert 0 < done < ROUNDS
    expected, run = [await ada.one(RUN, id=started["run"]["id"]) for started in (whole, broken)]
    assert {series["key"]: [point["step"] for point in series["points"]] for series in run["metricHistory"]}.items() >= {
        "train_loss": list(range(ROUNDS)),
        "validation_loss": list(range(ROUNDS)),
    }.items()
    assert (run["metricHistory"], run["metrics"], model(run)) == (expected["metricHistory"], expected["metrics"], model(expected))
    shown = [event["progress"] async for event in ada.events(job) if event["type"] in ("PROGRESS", "METRIC") and event["attempt"] == 2]
    assert min(shown) >= 20  # where the training begins: it went on from its checkpoint
    rows, orphans = await workshop.leftovers()
    assert rows == 0
    if killed == "body":  # with a worker goes what it was just storing, which is collected later
        assert orphans == set()


async def test_a_damaged_checkpoint_is_not_used(ada: Client, workshop: Workshop) -> None:
    pipeline, version = await training(ada)
    whole = await ada.run_pipeline(pipeline, version, seed=7)
    await ada.wait(whole["job"]["id"])
    broken = await ada.run_pipeline(pipeline, version, seed=7)
    job = broken["job"]["id"]
    await workshop.checkpoint(job, "training")
    body = workshop.body()
    body.suspend()
    await asyncio.sleep(0.5)  # what was handed over before is stored
    kept = await workshop.checkpoint(job, "training")
    await workshop.objects.write(kept.object_key, b"nonsense", "text/plain")
    body.kill()
    ended = await ada.wait(job)
    assert (ended["status"], ended["attempt"]) == ("COMPLETED", 2)
    said = "\n".join(await logged(ada, job, attempt=2))
    assert "The checkpoint of an earlier attempt cannot be used: its file has 8 bytes" in said
    assert "Goes on from" not in said
    expected, run = [await ada.one(RUN, id=started["run"]["id"]) for started in (whole, broken)]
    assert (run["metricHistory"], run["metrics"], model(run)) == (expected["metricHistory"], expected["metrics"], model(expected))
    assert await workshop.leftovers() == (0, set())


async def test_a_cancelled_job_leaves_no_checkpoint(ada: Client, workshop: Workshop) -> None:
    pipeline, version = await training(ada)
    started = await ada.run_pipeline(pipeline, version, seed=7)
    job = started["job"]["id"]
    await workshop.checkpoint(job, "training")
    await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=job)
    assert (await ada.wait(job))["status"] == "CANCELLED"
    until = time.monotonic() + 10
    while await workshop.leftovers() != (0, set()) and time.monotonic() < until:
        await asyncio.sleep(0.05)  # objects go after the commit
    assert await workshop.leftovers() == (0, set())


@pytest.mark.parametrize(
    ("stage", "told"), [("raw", "Goes on with the copy of the file"), ("table", "Goes on with the table of 400,000 rows")]
)
@pytest.mark.parametrize("killed", ["body", "worker"])
async def test_a_killed_ingest_goes_on_with_what_was_fetched_and_read(
    ada: Client, workshop: Workshop, stage: str, told: str, killed: str
) -> None:
    content = table(400_000).encode()
    whole = await ada.ingest("whole", content)
    version, job = await ada.upload(await ada.create_dataset("broken"), "whole.csv", content)
    await workshop.checkpoint(job, stage)
    if killed == "body":
        workshop.body().kill()
    else:
        workshop.kill_worker()
    ended = await ada.wait(job)
    assert (ended["status"], ended["attempt"]) == ("COMPLETED", 2)
    assert told in "\n".join(await logged(ada, job, attempt=2))
    expected, made = [await ada.one(VERSION, id=made) for made in (whole, version)]
    for file in ("rawFile", "processedFile"):
        content = httpx.get(made[file].pop("downloadUrl")).content
        assert (len(content), hashlib.sha256(content).hexdigest()) == (made[file]["sizeBytes"], made[file]["sha256"])
        del expected[file]["downloadUrl"]
    assert made == expected
    rows, orphans = await workshop.leftovers()
    assert rows == 0
    if killed == "body":
        assert orphans == set()
