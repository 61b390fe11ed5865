"""A job whose body or worker is killed resumes from its checkpoint, and its results are the same as without the kill."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
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
from tests.exhaustive import exhaustive
from tests.prefork import ForkedProcess, prefork_server

FREQUENT_CHECKPOINTS = {
    "LEASE": "5",
    "HEARTBEAT_INTERVAL": "0.3",
    "POLL_INTERVAL": "0.2",
    "SLOTS": "1",
    "GRACE": "0.3",
    "BACKOFF_BASE": "0.1",
    "BACKOFF_FACTOR": "1",
    "CANCEL_GRACE": "0.5",
    "CHECKPOINT_INTERVAL": "0",
    "CHECKPOINT_MIN_BYTES": "100000",
}
ROUNDS = 120
QUIET = 0.5  # seconds
UNDISTURBED: dict[str, Any] = {}
"""The results of an undisturbed ingest of each file, and of an undisturbed training."""
RUN = """query($id: ID!) { run(id: $id) { status metrics { key last lastStep min minStep max maxStep count }
  metricHistory(maxPoints: 2000) { key totalPoints points { step value } }
  modelVersion { artifacts { role sha256 } } job { status attempt tries nodes { key status } } } }"""
VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { status rowCount columns { name type nullable } issues { code message row column } preview
  rawFile { sizeBytes sha256 downloadUrl } processedFile { sizeBytes sha256 downloadUrl }
  profile { rowCount duplicateRowCount missingCellRatio correlations } } } }"""


@dataclass
class CheckpointingWorker:
    """One worker with frequent checkpoints, and ways to disturb it."""

    database: Database
    objects: ObjectStore
    folder: Path
    process: ForkedProcess

    def kill_worker(self) -> None:
        """Kill the worker and start another."""
        self.process.kill()
        self.process.wait()
        self.process = _start_worker(self.folder)

    async def body(self) -> psutil.Process:
        """Return the child process that runs the job; its working directory is set once it has received the job."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if Path(process.cwd()).is_relative_to(self.folder / "scratch"):
                        return process
            await asyncio.sleep(0.01)
        pytest.fail("No body ran within 60 s.")

    async def checkpoint(self, job: str, name: str) -> Row[Any]:
        """Return the job's checkpoint as soon as there is one."""
        statement = select(*JobCheckpoint.__table__.c).where(
            JobCheckpoint.job_id == UUID(job.removeprefix("job_")), JobCheckpoint.name == name
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            rows = await self.database.rows(statement)
            if rows:
                return rows[0]
            await asyncio.sleep(0.01)
        pytest.fail("There was no checkpoint within 60 s.")

    async def last_checkpoint(self, job: str, name: str) -> Row[Any]:
        """Return the last checkpoint of a suspended body: wait until no newer one is stored for `QUIET` seconds."""
        latest, since = await self.checkpoint(job, name), time.monotonic()
        while time.monotonic() < since + QUIET:
            await asyncio.sleep(0.05)
            newest = await self.checkpoint(job, name)
            if newest != latest:
                latest, since = newest, time.monotonic()
        return latest

    async def leftovers(self) -> tuple[int, set[str]]:
        """Return the number of checkpoints, and the objects that nothing references."""
        rows = await self.database.rows(select(JobCheckpoint.job_id))
        referenced = {row.object_key for row in await self.database.rows(select(StoredObject.object_key))}
        referenced |= {row.object_key for row in await self.database.rows(select(Upload.object_key))}
        stored_keys = {item.key async for item in self.objects.list("")}
        return len(rows), stored_keys - referenced - self.before

    before: frozenset[str] = frozenset()


def _start_worker(folder: Path) -> ForkedProcess:
    environment = {**os.environ, "TRELLIS_WORKER_SCRATCH": str(folder / "scratch")}
    environment |= {f"TRELLIS_WORKER_{name}": value for name, value in FREQUENT_CHECKPOINTS.items()}
    return prefork_server().start([sys.executable, "-m", "server.cli", "worker"], environment, folder / "worker.log")


@pytest.fixture(scope="module")
async def only_worker(
    settings: StateSettings, database: Database, worker: ForkedProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[CheckpointingWorker]:
    """Suspend the tests' shared worker meanwhile, so that it claims no job."""
    worker.send_signal(signal.SIGSTOP)
    folder = tmp_path_factory.mktemp("resume")
    async with ObjectStore.open(settings) as objects:
        workshop = CheckpointingWorker(database, objects, folder, _start_worker(folder))
        yield workshop
        workshop.process.kill()
        workshop.process.wait()
    worker.send_signal(signal.SIGCONT)


@pytest.fixture
async def checkpointing_worker(only_worker: CheckpointingWorker, ada: Client) -> CheckpointingWorker:
    """The worker of the module, which a test may kill, and which starts again."""
    only_worker.before = frozenset([item.key async for item in only_worker.objects.list("")])
    return only_worker


def table(rows: int) -> str:
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({f"x{number}": rng.normal(size=rows).round(6) for number in range(8)})
    return frame.with_columns(y=(pl.col("x0") * 2 + pl.col("x1") ** 2 + pl.Series(rng.normal(size=rows))).round(6)).write_csv()


async def training(ada: Client) -> tuple[str, str]:
    """Create a pipeline and a version whose training takes some seconds."""
    version = await ada.ingest("numbers", table(2_000))
    parameters = {"target": "y", "n_estimators": ROUNDS, "num_leaves": 31}
    steps = ("data", "dataset", {}), ("split", "split", {"validation_fraction": 0.2}), ("train", "train_lightgbm", parameters)
    return (await ada.create_pipeline("p", *steps))["pipeline"]["id"], version


async def trained(ada: Client, pipeline: str, version: str) -> dict[str, Any]:
    """Return the results of the undisturbed run; one is enough for all tests."""
    if "run" not in UNDISTURBED:
        started = await ada.run_pipeline(pipeline, version, seed=7)
        assert (await ada.wait(started["job"]["id"]))["status"] == "COMPLETED"
        UNDISTURBED["run"] = await ada.one(RUN, id=started["run"]["id"])
    return UNDISTURBED["run"]


async def log_messages(ada: Client, job: str, attempt: int) -> list[str]:
    events = [event async for event in ada.events(job)]
    return [event["message"] for event in events if event["type"] == "LOG" and event["attempt"] == attempt]


def curves(run: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The points and the summaries of a run; of how long its steps took, only which there are."""
    history = [
        {**series, "points": [point["step"] for point in series["points"]]} if series["key"] == "step_seconds" else series
        for series in run["metricHistory"]
    ]
    return history, [metric for metric in run["metrics"] if metric["key"] != "step_seconds"]


def model(run: dict[str, Any]) -> str:
    return next(artifact["sha256"] for artifact in run["modelVersion"]["artifacts"] if artifact["role"] == "MODEL")


@pytest.mark.parametrize("killed", [exhaustive("body"), "worker"])
async def test_a_killed_training_goes_on_from_its_checkpoint_and_makes_the_same_model(
    ada: Client, checkpointing_worker: CheckpointingWorker, killed: str
) -> None:
    pipeline, version = await training(ada)
    expected = await trained(ada, pipeline, version)
    started = await ada.run_pipeline(pipeline, version, seed=7)
    job = started["job"]["id"]
    await checkpointing_worker.checkpoint(job, "training")
    if killed == "body":
        (await checkpointing_worker.body()).kill()
    else:
        checkpointing_worker.kill_worker()
    ended = await ada.wait(job)
    assert (ended["status"], ended["attempt"], ended["tries"]) == ("COMPLETED", 2, 1 if killed == "body" else 0)
    messages = await log_messages(ada, job, attempt=2)
    resume_lines = [line for message in messages for line in message.splitlines() if line.startswith("Resumes from round ")]
    assert len(resume_lines) == 1
    rounds_done = int(resume_lines[0].split()[3])
    assert resume_lines == [f"Resumes from round {rounds_done} of {ROUNDS}."]
    assert 0 < rounds_done < ROUNDS
    run = await ada.one(RUN, id=started["run"]["id"])
    assert {series["key"]: [point["step"] for point in series["points"]] for series in run["metricHistory"]}.items() >= {
        "train_loss": list(range(ROUNDS)),
        "validation_loss": list(range(ROUNDS)),
    }.items()
    assert (*curves(run), model(run)) == (*curves(expected), model(expected))
    progress = [event["progress"] async for event in ada.events(job) if event["type"] in ("PROGRESS", "METRIC") and event["attempt"] == 2]
    assert min(progress) >= 20  # where training begins: it resumed from its checkpoint
    rows, orphans = await checkpointing_worker.leftovers()
    assert rows == 0
    if killed == "body":  # killing the worker orphans the object that it was storing, which maintenance deletes later
        assert orphans == set()


@pytest.mark.exhaustive
async def test_a_damaged_checkpoint_is_not_used(ada: Client, checkpointing_worker: CheckpointingWorker) -> None:
    pipeline, version = await training(ada)
    expected = await trained(ada, pipeline, version)
    started = await ada.run_pipeline(pipeline, version, seed=7)
    job = started["job"]["id"]
    await checkpointing_worker.checkpoint(job, "training")
    body = await checkpointing_worker.body()
    body.suspend()
    damaged: str | None = None
    while damaged != (key := (await checkpointing_worker.last_checkpoint(job, "training")).object_key):
        await checkpointing_worker.objects.write(key, b"nonsense", "text/plain")
        damaged = key
        await asyncio.sleep(0.5)  # a later one may be on its way to the store
    body.kill()
    ended = await ada.wait(job)
    assert (ended["status"], ended["attempt"]) == ("COMPLETED", 2)
    log_text = "\n".join(await log_messages(ada, job, attempt=2))
    assert "The checkpoint of an earlier attempt cannot be used: its file has 8 bytes" in log_text
    assert "Resumes from" not in log_text
    run = await ada.one(RUN, id=started["run"]["id"])
    assert (*curves(run), model(run)) == (*curves(expected), model(expected))
    assert await checkpointing_worker.leftovers() == (0, set())


@pytest.mark.exhaustive
async def test_a_cancelled_job_leaves_no_checkpoint(ada: Client, checkpointing_worker: CheckpointingWorker) -> None:
    pipeline, version = await training(ada)
    started = await ada.run_pipeline(pipeline, version, seed=7)
    job = started["job"]["id"]
    await checkpointing_worker.checkpoint(job, "training")
    await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=job)
    assert (await ada.wait(job))["status"] == "CANCELLED"
    deadline = time.monotonic() + 60
    while await checkpointing_worker.leftovers() != (0, set()) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)  # objects are deleted after the commit
    assert await checkpointing_worker.leftovers() == (0, set())


def wide() -> bytes:
    """A small table of many columns, whose profile takes much longer than storing it."""
    rng = np.random.default_rng(1)
    return pl.DataFrame({f"x{number}": rng.normal(size=4_000).round(4) for number in range(160)}).write_csv().encode()


def long() -> bytes:
    """Two blocks that are read in parallel, one part each, and a slow one that has to be parsed record by record."""
    rows = np.arange(2_000_000)
    text = "row;note\n" + "\n".join(map("{};a".format, rows))
    sound = text[: text.index("\n", 17 * 1024**2) + 1]
    return (sound + "".join(f'{row};"5" pipe\n' for row in range(180_000))).encode()


async def undisturbed(ada: Client, name: str, content: bytes) -> dict[str, Any]:
    if name not in UNDISTURBED:
        version = await ada.one(VERSION, id=await ada.ingest("whole", content))
        for file in ("rawFile", "processedFile"):
            del version[file]["downloadUrl"]
        UNDISTURBED[name] = version
    return UNDISTURBED[name]


async def downloaded(version: dict[str, Any]) -> dict[str, Any]:
    """Check the files in the store against their sizes and digests."""
    async with httpx.AsyncClient(verify=False) as http:
        for file in ("rawFile", "processedFile"):
            content = (await http.get(version[file].pop("downloadUrl"))).content
            assert (len(content), hashlib.sha256(content).hexdigest()) == (version[file]["sizeBytes"], version[file]["sha256"])
    return version


@pytest.mark.parametrize(
    ("stage", "log_line", "killed"),
    [
        exhaustive("raw", "Resumes with the copy of the file", "worker"),
        exhaustive("rows-0002", "Resumes after ", "body"),
        exhaustive("rows-0002", "Resumes after ", "worker"),
        exhaustive("table", "Resumes with the table of 4,000 rows", "body"),
    ],
)
async def test_a_killed_ingest_goes_on_with_what_was_fetched_and_read(
    ada: Client, checkpointing_worker: CheckpointingWorker, stage: str, log_line: str, killed: str
) -> None:
    make_content = long if stage == "rows-0002" else wide
    content = make_content()
    expected = await undisturbed(ada, make_content.__name__, content)
    version, job = await ada.upload(await ada.create_dataset("broken"), "whole.csv", content)
    checkpoint = await checkpointing_worker.checkpoint(job, stage)
    if killed == "body":
        (await checkpointing_worker.body()).kill()
    else:
        checkpointing_worker.kill_worker()
    ended = await ada.wait(job)
    assert (ended["status"], ended["attempt"]) == ("COMPLETED", 2)
    log_text = "\n".join(await log_messages(ada, job, attempt=2))
    assert log_line in log_text
    if stage == "rows-0002":
        assert f"Resumes after {checkpoint.position:,} rows that an earlier attempt read." in log_text
        progress = [event["progress"] async for event in ada.events(job) if event["type"] == "PROGRESS" and event["attempt"] == 2]
        assert min(progress) >= checkpoint.state["percent"] >= 20
    assert await downloaded(await ada.one(VERSION, id=version)) == expected
    rows, orphans = await checkpointing_worker.leftovers()
    assert rows == 0
    if killed == "body":  # killing the worker orphans the object that it was storing, which maintenance deletes later
        assert orphans == set()


@pytest.mark.exhaustive
@pytest.mark.parametrize("harm", ["damaged", "missing"])
async def test_a_reading_goes_on_from_the_part_before_a_damaged_one(
    ada: Client, checkpointing_worker: CheckpointingWorker, harm: str
) -> None:
    content = long()
    expected = await undisturbed(ada, "long", content)
    version, job = await ada.upload(await ada.create_dataset("broken"), "whole.csv", content)
    second = await checkpointing_worker.checkpoint(job, "rows-0002")
    first = await checkpointing_worker.checkpoint(job, "rows-0001")
    assert 0 < first.position < second.position
    body = await checkpointing_worker.body()
    body.suspend()
    if harm == "damaged":
        await checkpointing_worker.objects.write(second.object_key, b"nonsense", "text/plain")
    else:
        await checkpointing_worker.objects.delete([second.object_key])
    body.kill()
    ended = await ada.wait(job)
    assert (ended["status"], ended["attempt"]) == ("COMPLETED", 2)
    log_text = "\n".join(await log_messages(ada, job, attempt=2))
    reason = "its file has 8 bytes" if harm == "damaged" else "its file is missing from the object store"
    assert f"A checkpoint of an earlier attempt cannot be used: {reason}" in log_text
    assert f"Resumes after {first.position:,} rows that an earlier attempt read." in log_text
    assert await downloaded(await ada.one(VERSION, id=version)) == expected
    assert await checkpointing_worker.leftovers() == (0, set())
