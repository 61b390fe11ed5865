"""Submitting a run does not wait for other runs or uncommitted changes, and a dataset in use by a job cannot be deleted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from sqlalchemy import text, update

from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.services import pipelines
from db.tables import Dataset, Pipeline
from graph.core.ids import decode
from tests.client import Client
from tests.exhaustive import exhaustive

DELETE = """mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename ... on DeleteDatasetPayload { deletedId } ... on WrongState { state } } }"""
AT_ONCE = 10


@dataclass
class RunSetup:
    """A pipeline, a version of a dataset to run it on, and another dataset for the output."""

    pipeline: str
    version: str
    dataset: str
    output: str

    def request(self) -> pipelines.RunRequest:
        ids = (decode("pipeline", self.pipeline), decode("version", self.version))
        return pipelines.RunRequest(*ids, output_dataset_id=decode("dataset", self.output))


@pytest.fixture
async def run_setup(ada: Client, worker: object) -> RunSetup:
    version = await ada.ingest("numbers", "x,y\n1,2\n3,4\n")
    pipeline = (await ada.create_pipeline("scaled", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]
    owner = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { dataset { id } } } }"
    dataset = (await ada.one(owner, id=version))["dataset"]["id"]
    return RunSetup(pipeline, version, dataset, await ada.create_dataset("results"))


@pytest.mark.exhaustive
async def test_many_runs_at_once_make_a_dataset_each(ada: Client, run_setup: RunSetup) -> None:
    answers = await asyncio.gather(*(ada.run_pipeline(run_setup.pipeline, run_setup.version) for _ in range(AT_ONCE)))
    names = {answer["targetDataset"]["name"] for answer in answers}
    base = "numbers – scaled"
    assert base in names
    assert len(names) == AT_ONCE
    assert all(
        name == base or (name.startswith(f"{base} (") and name.removeprefix(f"{base} (").removesuffix(")").isdecimal()) for name in names
    )


@pytest.mark.parametrize("uncommitted", [exhaustive("another run"), exhaustive("a change of the pipeline"), "what a job that ends writes"])
async def test_a_run_does_not_wait_for_what_has_not_been_committed(
    ada: Client, database: Database, run_setup: RunSetup, uncommitted: str
) -> None:
    # The first run of a definition creates its snapshot, and concurrent runs wait for that; so create it beforehand.
    await ada.run_pipeline(run_setup.pipeline, run_setup.version, outputDatasetId=run_setup.output)

    async def hold(work: Work) -> None:
        if uncommitted == "another run":
            await pipelines.run(work, run_setup.request())
        elif uncommitted == "a change of the pipeline":
            changed = update(Pipeline).where(Pipeline.id == decode("pipeline", run_setup.pipeline))
            await work.run(changed.values(version=Pipeline.version + 1))
        else:
            for dataset in (run_setup.dataset, run_setup.output):
                written = update(Dataset).where(Dataset.id == decode("dataset", dataset))
                await work.run(written.values(last_number=Dataset.last_number + 1))

    async with database.work(SYSTEM) as work, asyncio.timeout(60):
        await hold(work)
        started = await ada.run_pipeline(run_setup.pipeline, run_setup.version, outputDatasetId=run_setup.output)
        assert started["__typename"] == "RunPipelinePayload"
    assert (await ada.wait(started["job"]["id"]))["status"] == "COMPLETED"


@pytest.mark.parametrize("which", ["dataset", "output"])
async def test_a_dataset_is_not_deleted_beside_a_run_that_is_being_submitted(
    ada: Client, database: Database, run_setup: RunSetup, which: str
) -> None:
    async with database.work(SYSTEM) as work:
        await pipelines.run(work, run_setup.request())
        deleting = asyncio.create_task(ada.one(DELETE, id=getattr(run_setup, which)))
        await _wait_for_blocked_statement(database)
        assert not deleting.done()
    assert await deleting == {"__typename": "WrongState", "state": "BUSY"}


async def _wait_for_blocked_statement(database: Database) -> None:
    """Wait until a statement is blocked on a lock."""
    waiting = text("SELECT 1 FROM pg_locks WHERE NOT granted")
    async with asyncio.timeout(60):
        while not await database.rows(waiting):
            await asyncio.sleep(0.02)
