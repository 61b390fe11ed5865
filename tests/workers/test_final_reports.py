"""Final reports of a job: written with its settle or not at all, whatever errors PostgreSQL raises."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any

import pytest
from sqlalchemy import Row

from db.core.work import Database, Work
from db.services.jobs import NodeChange
from db.tables.jobs import JobEventType, JobNodeStatus
from db.tables.jobstates import JobStatus
from tests.workers.in_process_worker import RunningWorker
from tests.workers.worker_harness import WorkerHarness
from workers.runtime import settlement
from workers.runtime.attempt import Attempt, Effects

RefuseRows = Callable[[str, str, str, int], Coroutine[Any, Any, None]]
REFUSE_TRIGGER = """
CREATE FUNCTION test_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF {when} AND nextval('test_refusals') <= {times} THEN RAISE EXCEPTION 'refused by a test' USING ERRCODE = '{state}'; END IF;
  RETURN NEW;
END $$
"""


@pytest.fixture
async def refuse_rows(database: Database) -> AsyncGenerator[RefuseRows]:
    """Have PostgreSQL reject rows of a table, a number of times, with an SQLSTATE. A sequence counts them, since rollbacks do not undo it."""
    tables: list[str] = []

    async def refuse_rows(table: str, when: str, state: str, times: int) -> None:
        tables.append(table)
        async with database.engine.begin() as connection:
            await connection.exec_driver_sql("CREATE SEQUENCE test_refusals")
            await connection.exec_driver_sql(REFUSE_TRIGGER.format(when=when, state=state, times=times))
            trigger = f"CREATE TRIGGER test_refuse BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION test_refuse()"
            await connection.exec_driver_sql(trigger)

    yield refuse_rows
    async with database.engine.begin() as connection:
        for table in tables:
            await connection.exec_driver_sql(f"DROP TRIGGER test_refuse ON {table}")
            await connection.exec_driver_sql("DROP FUNCTION test_refuse")
            await connection.exec_driver_sql("DROP SEQUENCE test_refusals")


async def no_effects(_work: Work, _job: Row[Any]) -> Sequence[str]:
    return []


async def report_last_line(attempt: Attempt) -> Effects:
    await attempt.begin_nodes([("split", "split")], {"split": "Split"})
    attempt.reports.log_line("the last word")
    attempt.reports.node(NodeChange("split", JobNodeStatus.COMPLETED, 100, None, None))
    return no_effects


async def log_messages(harness: WorkerHarness, job_id: Any) -> list[str]:
    return [event.message for event in await harness.events(job_id) if event.type is JobEventType.LOG]


async def test_a_completed_job_has_told_everything_though_postgres_broke_the_first_writes_off(
    harness: WorkerHarness, running_worker: RunningWorker, refuse_rows: RefuseRows
) -> None:
    await refuse_rows("job_events", "NEW.type::text ILIKE 'log'", "40001", 3)
    async with running_worker(report_last_line):
        job_id = await harness.submit("none")
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert await log_messages(harness, job_id) == ["the last word"]
    assert (job.attempt, job.tries, job.losses) == (1, 0, 0)


@pytest.mark.exhaustive
async def test_a_job_that_cannot_tell_its_rest_in_time_runs_again_and_uses_no_try(
    harness: WorkerHarness, running_worker: RunningWorker, refuse_rows: RefuseRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "RETRY_TIMEOUT", 0.1)
    monkeypatch.setattr(settlement, "RETRY_INTERVAL", 0.2)
    await refuse_rows("job_events", "NEW.type::text ILIKE 'log'", "40001", 3)
    async with running_worker(report_last_line, backoff_base=0.1, backoff_factor=1.0):
        job_id = await harness.submit("none", max_tries=1)
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    *earlier, last = await harness.outcomes(job_id)
    # If PostgreSQL does not take the job back in this tenth of a second either, the lease ends the attempt.
    assert earlier
    assert set(earlier) <= {"retrying", "lost"}
    assert (last, job.tries, job.losses) == ("completed", 0, earlier.count("lost"))
    assert await log_messages(harness, job_id) == ["the last word"]


@pytest.mark.exhaustive
async def test_what_can_never_be_written_keeps_nothing_else_back(
    harness: WorkerHarness, running_worker: RunningWorker, refuse_rows: RefuseRows
) -> None:
    await refuse_rows("job_events", "NEW.type::text ILIKE 'log'", "22021", 1_000)
    async with running_worker(report_last_line):
        job_id = await harness.submit("none")
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert await log_messages(harness, job_id) == []
    assert [event.data["nodes"] for event in await harness.events(job_id) if event.type is JobEventType.STEP_COMPLETED] == [
        [{"key": "split", "status": "COMPLETED"}]
    ]
    assert job.attempt == 1


@pytest.mark.exhaustive
async def test_a_failure_whose_words_postgres_refuses_is_settled_without_them(
    harness: WorkerHarness, running_worker: RunningWorker, refuse_rows: RefuseRows
) -> None:
    await refuse_rows("jobs", "NEW.error->>'traceback' IS NOT NULL", "22021", 1_000)

    async def task(_attempt: Attempt) -> Effects:
        async def effects(_work: Work, _job: Row[Any]) -> Sequence[str]:
            raise RuntimeError("Not to be written.")

        return effects

    async with running_worker(task):
        job = await harness.wait_for_status(await harness.submit("none", max_tries=1), JobStatus.FAILED)
    message = "The job failed, and the database rejected the error message. See the log of the worker."
    expected = {"code": "WORKER_ERROR", "message": message, "retryable": True, "traceback": None, "row": None, "column": None}
    assert (job.error, job.attempt, job.losses) == (expected, 1, 0)
