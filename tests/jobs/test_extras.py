"""A job that needs an extra of the package is refused if no worker has it, waits apart from those that need none, and is run by one that has it."""

from __future__ import annotations

import io
import time
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from db.core.queues import served_routes
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.queries import jobs as job_queries
from db.services import extras, jobs, workers
from db.services.jobs import Claim
from db.settings import state_settings
from db.tables import Worker
from tests.client import Client
from tests.jobs.job_driver import LEASE, QUEUE, JobDriver
from tests.lazy_module import LazyModule

DATASETS: Any = LazyModule("sklearn.datasets")
EXTRA = "xgboost"
ROUTE = f"{QUEUE}+{EXTRA}"


async def _register(driver: JobDriver, *names: str) -> UUID:
    async with driver.database.work(SYSTEM) as work:
        return await workers.register(work, f"equipped-{time.monotonic_ns()}", served_routes([QUEUE], names), 4, names)


async def _stop(driver: JobDriver, *worker_ids: UUID) -> None:
    async with driver.database.work(SYSTEM) as work:
        for worker_id in worker_ids:
            await workers.stop(work, worker_id)


async def _dispatched(driver: JobDriver, *routes: str) -> list[tuple[str, UUID]]:
    async with driver.database.work(SYSTEM) as work:
        return [(notice.queue, notice.job_id) for notice in await jobs.dispatch(work, routes, 60.0)]


async def _places(driver: JobDriver, *ids: UUID) -> list[tuple[str, int | None]]:
    found = await job_queries.wait_info(driver.database, SYSTEM, ids)
    return [(found[id_].reason, found[id_].position) for id_ in ids]


async def test_a_job_waits_for_a_worker_with_its_extra_and_no_other_job_waits_for_it(job_driver: JobDriver) -> None:
    special = [(await job_driver.submit(extras=[EXTRA])).id for _ in range(9)]  # more than the dispatcher sends at a time
    plain = (await job_driver.submit()).id
    assert await _places(job_driver, special[0], plain) == [("no_worker", 1), ("queue", 1)]
    assert await _dispatched(job_driver, QUEUE) == [(QUEUE, plain)]
    assert await job_driver.claim(special[0]) is None, "the worker has not what it needs, whoever told it of the job"
    assert (await job_driver.job(special[0])).queue == QUEUE

    equipped = await _register(job_driver, "onnx", EXTRA)
    assert await _places(job_driver, *special[:2]) == [("queue", 1), ("queue", 2)]
    notices = await _dispatched(job_driver, *served_routes([QUEUE], ["onnx", EXTRA]))
    assert notices[0] == (ROUTE, special[0])
    assert {route for route, _ in notices} == {ROUTE}
    async with job_driver.database.work(SYSTEM) as work:
        claimed = await jobs.claim(work, special[0], equipped, "equipped", LEASE)
        waiting = await jobs.claim_waiting(work, served_routes([QUEUE], [EXTRA]), 2, equipped, "equipped", LEASE)
    assert claimed is not None
    assert (claimed.id, {job.id for job in waiting}) == (special[0], {plain, special[1]}), "also without Redis"
    for job in (claimed, *waiting):
        await job_driver.complete(Claim(job.id, 1, equipped))
    await _stop(job_driver, equipped)


async def test_of_several_extras_the_worker_has_all(job_driver: JobDriver) -> None:
    job = (await job_driver.submit(extras=["xgboost", "onnx"])).id
    partly, fully = await _register(job_driver, "onnx"), await _register(job_driver, "onnx", "xgboost")
    async with job_driver.database.work(SYSTEM) as work:
        assert await jobs.claim(work, job, partly, "partly", LEASE) is None
        assert await jobs.claim(work, job, fully, "fully", LEASE) is not None
    await job_driver.complete(Claim(job, 1, fully))
    await _stop(job_driver, partly, fully)


async def test_the_limit_of_a_queue_counts_its_jobs_with_and_without_extras(job_driver: JobDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_settings(), "queue_concurrency_limits", {QUEUE: 1})
    running = await job_driver.submit_and_claim()
    job = (await job_driver.submit(extras=[EXTRA])).id
    equipped = await _register(job_driver, EXTRA)
    assert (await _places(job_driver, job))[0][0] == "concurrency"
    async with job_driver.database.work(SYSTEM) as work:
        assert await jobs.claim(work, job, equipped, "equipped", LEASE) is None
    await job_driver.complete(running)
    async with job_driver.database.work(SYSTEM) as work:
        assert await jobs.claim(work, job, equipped, "equipped", LEASE) is not None
    await job_driver.complete(Claim(job, 1, equipped))
    await _stop(job_driver, equipped)


async def test_a_pipeline_that_needs_an_extra_is_run_where_it_is_and_refused_where_it_is_not(
    ada: Client, database: Database, worker: object
) -> None:
    import polars as pl

    data = DATASETS.load_iris()
    table = io.BytesIO()
    pl.DataFrame(data.data, schema=["a", "b", "c", "d"]).with_columns(target=pl.Series(data.target.astype(str))).write_csv(table)
    version = await ada.ingest("iris", table.getvalue().decode(), targetColumn="target")
    created = await ada.create_pipeline("p", ("data", "dataset", {}), ("train", "train_xgboost", {"n_estimators": 3}))
    pipeline = created["pipeline"]["id"]
    started = await ada.run_pipeline(pipeline, version)
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    assert (await ada.one("query($id: ID!) { job(id: $id) { queue } }", id=started["job"]["id"])) == {"queue": "tabular"}

    before = await database.rows(select(Worker.id, Worker.extras))
    jobs_before = (await ada.one("{ jobs { totalCount } }"))["totalCount"]
    try:
        async with database.work(SYSTEM) as work:
            await work.run(update(Worker).values(extras=["onnx"]))
        refused = await ada.run_pipeline(pipeline, version)
        message = (
            "Node 'train' of the pipeline needs an extra. XGBoost cannot be used: the extra `xgboost` is not installed."
            " Run `pip install 'trellis[xgboost]'` where the workers run."
        )
        assert refused["issues"] == [{"path": ["pipelineId"], "message": message}]
        predicted = await ada.one(
            "mutation($input: PredictInput!) { predict(input: $input) { __typename ... on InvalidInput { issues { path message } } } }",
            input={"modelVersionId": ended["outputs"][0]["id"], "rows": [{"a": 1, "b": 1, "c": 1, "d": 1}]},
        )
        assert predicted["issues"][0]["path"] == ["modelVersionId"]
        assert predicted["issues"][0]["message"].startswith("The model needs an extra. XGBoost cannot be used: the extra `xgboost`")
        assert (await ada.one("{ jobs { totalCount } }"))["totalCount"] == jobs_before
    finally:
        async with database.work(SYSTEM) as work:
            for row in before:
                await work.run(update(Worker).where(Worker.id == row.id).values(extras=row.extras))


def test_extras_are_called_as_the_package_declares_them() -> None:
    import tomllib
    from pathlib import Path

    declared = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.PACKAGES) <= set(declared)
