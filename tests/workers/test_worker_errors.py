"""A worker's error is not a job's failure, a job's timeout covers all it does, and its result has a size limit."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Row

from db.core.work import Work
from db.services.jobs import Failure
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables.jobstates import JobStatus
from tests.exhaustive import exhaustive
from tests.workers.in_process_worker import RunningWorker
from tests.workers.worker_harness import WorkerHarness
from workers.runtime import attempt as attempts
from workers.runtime import frames, process_tree
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.failures import BodyFailed, failure_of

QUICK_BODY = "tests.workers.bodies:quick"
CHECKPOINT_UPLOAD_TIMEOUT = 3.0  # seconds; on a busy machine a job that does not wait for it takes one, too


async def no_effects(_work: Work, _job: Row[Any]) -> Sequence[str]:
    return []


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "DISK_FULL"), exhaustive(errno.EMFILE, "WORKER_ERROR")], ids=["no space", "too many files"]
)
async def test_what_goes_wrong_before_a_body_was_ordered_uses_no_try(
    harness: WorkerHarness, running_worker: RunningWorker, number: int, code: str
) -> None:
    async def task(attempt: Attempt) -> Effects:
        if attempt.job.attempt == 1:
            raise OSError(number, os.strerror(number))
        return no_effects

    async with running_worker(task):
        job_id = await harness.submit("none", max_tries=1)
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert (job.attempt, job.tries, job.losses) == (2, 0, 1)
    (error_code,) = [event.data["error"]["code"] for event in await harness.events(job_id) if event.data and "error" in event.data]
    assert error_code == code


async def test_what_goes_wrong_after_a_body_was_ordered_uses_a_try(harness: WorkerHarness, running_worker: RunningWorker) -> None:
    async def task(attempt: Attempt) -> Effects:
        await attempt.run_body(QUICK_BODY, attempt.job.parameters["spec"])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with running_worker(task):
        job = await harness.wait_for_status(await harness.submit("none", max_tries=1), JobStatus.FAILED)
    assert (job.error["code"], job.attempt, job.tries, job.losses) == ("DISK_FULL", 1, 1, 0)


async def test_no_body_runs_after_the_last_one_whose_slot_is_another_jobs(harness: WorkerHarness, running_worker: RunningWorker) -> None:
    async def task(attempt: Attempt) -> Effects:
        for is_last in (False, True, True):
            await attempt.run_body(QUICK_BODY, attempt.job.parameters["spec"], is_last=is_last)
        return no_effects

    async with running_worker(task):
        job = await harness.wait_for_status(job_id := await harness.submit("none", max_tries=1), JobStatus.FAILED)
    assert (job.error["code"], len(await harness.wait_for_starts(job_id, 2))) == ("WORKER_ERROR", 2)
    assert "the last body of the attempt has ended" in job.error["message"]


@pytest.mark.parametrize("when", [exhaustive("before"), exhaustive("after")])
async def test_a_store_that_refuses_the_keys_ends_a_job_after_its_tries(
    harness: WorkerHarness, running_worker: RunningWorker, settings: StateSettings, when: str
) -> None:
    """Wrong keys are no outage, for which a job would wait without end."""

    async def task(attempt: Attempt) -> Effects:
        if when == "after":
            await attempt.run_body(QUICK_BODY, attempt.job.parameters["spec"])
        async with ObjectStore.open(settings.model_copy(update={"s3_access_key_id": "somebodyelse"})) as refusing:
            await refusing.read("a", 1)
        return no_effects

    async with running_worker(task, backoff_base="0.1"):
        job = await harness.wait_for_status(await harness.submit("none", max_tries=2), JobStatus.FAILED)
    assert (job.error["code"], job.tries, job.losses, job.postponements) == ("STORE_REFUSED", 2, 0, 0)
    assert job.error["message"] == (
        "The object storage refused the credentials of Trellis (InvalidAccessKeyId, status 403). Its operator must correct "
        "TRELLIS_S3_ACCESS_KEY_ID and TRELLIS_S3_SECRET_ACCESS_KEY, or allow them to use the bucket."
    )


@pytest.mark.exhaustive
async def test_a_jobs_time_is_for_all_that_it_does_and_not_for_its_body_alone(
    harness: WorkerHarness, running_worker: RunningWorker
) -> None:
    async def task(attempt: Attempt) -> Effects:
        await attempt.run_body(QUICK_BODY, attempt.job.parameters["spec"])
        await asyncio.sleep(60)  # a hanging object store
        return no_effects

    async with running_worker(task):
        started = time.monotonic()
        job = await harness.wait_for_status(await harness.submit("none", timeout=2.0), JobStatus.FAILED)
        assert time.monotonic() - started < 20
    message = "The job exceeded its timeout of 2 s. Give it less to do or a higher timeout."
    assert (job.error["code"], job.error["message"], job.error["retryable"]) == ("TIMEOUT", message, False)


@pytest.mark.parametrize(("is_retryable", "waits"), [(True, True), (False, False)])
async def test_a_checkpoint_is_waited_for_only_where_another_attempt_goes_on_with_it(
    harness: WorkerHarness, running_worker: RunningWorker, monkeypatch: pytest.MonkeyPatch, is_retryable: bool, waits: bool
) -> None:
    monkeypatch.setitem(attempts.CHECKPOINT_UPLOAD_TIMEOUTS, None, CHECKPOINT_UPLOAD_TIMEOUT)
    times: list[float] = []

    async def hang(*_: object) -> tuple[int, str]:
        await asyncio.sleep(60)
        return 0, ""

    async def task(attempt: Attempt) -> Effects:
        if attempt.job.attempt > 1:
            return no_effects
        await attempt.run_body(QUICK_BODY, attempt.job.parameters["spec"])
        file = attempt.folder / "file"
        file.write_bytes(b"half a model")
        attempt.checkpoints.enqueue("training", 1, {}, file, is_disposable=False)
        times.append(time.monotonic())
        raise BodyFailed(Failure("ANY", "It went wrong.", retryable=is_retryable, retry_immediately=True))

    monkeypatch.setattr(ObjectStore, "upload", hang)
    async with running_worker(task):
        job_id = await harness.submit("none")
        await harness.wait_for_status(job_id, JobStatus.COMPLETED if is_retryable else JobStatus.FAILED)
        times.append(time.monotonic())
    assert (times[1] - times[0] > CHECKPOINT_UPLOAD_TIMEOUT) is waits


@pytest.mark.exhaustive
async def test_a_sigterm_to_all_processes_of_a_worker_uses_no_try(harness: WorkerHarness) -> None:
    worker = await harness.start_worker(GRACE="5")
    job_id = await harness.submit("long")
    ((body, _),) = await harness.wait_for_starts(job_id)
    os.kill(body, signal.SIGTERM)  # a service manager signals all processes in any order
    await asyncio.sleep(0.1)
    worker.terminate()
    assert await asyncio.to_thread(worker.wait, 60) == 0
    await harness.start_worker()
    job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert (job.attempt, job.tries, job.losses) == (2, 0, 0)
    assert await harness.outcomes(job_id) == ["given_back", "completed"]


@pytest.mark.exhaustive
async def test_a_body_that_somebody_terminates_uses_a_try(harness_with_worker: WorkerHarness) -> None:
    job_id = await harness_with_worker.submit("long")
    ((body, _),) = await harness_with_worker.wait_for_starts(job_id)
    os.kill(body, signal.SIGTERM)
    job = await harness_with_worker.wait_for_status(job_id, JobStatus.COMPLETED)
    assert (job.attempt, job.tries) == (2, 1)


@pytest.mark.exhaustive
async def test_whatever_a_body_printed_before_it_was_killed_its_end_can_be_told(harness_with_worker: WorkerHarness) -> None:
    job = await harness_with_worker.wait_for_status(await harness_with_worker.submit("print_and_crash", max_tries=1), JobStatus.FAILED)
    assert (job.error["code"], job.error["message"]) == ("BODY_KILLED", "The job's process was killed by SIGSEGV.")
    assert job.error["traceback"].startswith("before \ufffd after\nalone ")
    assert (job.attempt, job.losses) == (1, 0)


def test_words_that_postgresql_cannot_keep_are_told_without_what_it_cannot_keep() -> None:
    error = FileNotFoundError(2, "No such file", os.fsdecode(b"caf\xe9\x00"))
    failure = failure_of(error, body_started=True)
    assert failure.message == "FileNotFoundError: [Errno 2] No such file: 'caf\\udce9\\x00'"
    sanitized = failure_of(BodyFailed(Failure("ANY", "caf\udce9\x00", retryable=False, column="\x00")), body_started=True)
    assert (sanitized.message, sanitized.column) == ("caf\ufffd\ufffd", "\ufffd")


async def test_an_answer_that_is_too_large_is_named_as_such(harness_with_worker: WorkerHarness) -> None:
    job = await harness_with_worker.wait_for_status(await harness_with_worker.submit("return_large_result", mebibytes=33), JobStatus.FAILED)
    size = 33 * 1024**2 + len('{"result": {"much": ""}}')
    message = f"FrameTooLarge: The result of the job has {size:,} bytes; the limit is {frames.MAX_FRAME_BYTES:,}. Give it less to do."
    assert (job.error["code"], job.error["message"], job.error["retryable"]) == ("RESULT_TOO_LARGE", message, False)


@pytest.mark.exhaustive
async def test_the_largest_answer_keeps_nobody_waiting() -> None:
    """In CPU time of all threads, as a share of the decoding: a busy machine lengthens both."""
    rows = [{"name": f"row {number}\x00", "values": [1, 2, 3]} for number in range(180_000)]
    reader = asyncio.StreamReader(limit=frames.MAX_FRAME_BYTES)
    message = frames.encode({"result": rows})
    assert len(message) > 8 * 1024**2
    reader.feed_data(message)
    began = last = time.process_time()
    longest = 0.0
    read_task = asyncio.create_task(frames.read(reader))
    while not read_task.done():
        await asyncio.sleep(0.005)
        longest, last = max(longest, time.process_time() - last), time.process_time()
    decoded = await read_task
    assert decoded is not None
    assert decoded["result"][-1] == {"name": "row 179999\ufffd", "values": [1, 2, 3]}
    assert longest < (last - began) / 2


@pytest.mark.parametrize("value", [{"a": [1, 2.5, "ü", None, True]}, {"n": float("nan")}, {"i": -float("inf")}, {"s": "\ud800x"}])
def test_messages_are_what_they_were_but_for_what_postgresql_cannot_keep(value: dict[str, Any]) -> None:
    decoded = frames.decode(frames.encode(value)[4:])
    expected = {"n": None} if "n" in value else {"i": None} if "i" in value else {"s": "\ufffdx"} if "s" in value else value
    assert decoded == expected
    assert orjson.loads(orjson.dumps(decoded)) == expected


@pytest.mark.exhaustive
async def test_a_pool_whose_process_the_kernel_killed_for_memory_is_out_of_memory(harness_with_worker: WorkerHarness) -> None:
    job = await harness_with_worker.wait_for_status(await harness_with_worker.submit("break_process_pool", kills=1), JobStatus.FAILED)
    message = "The job needed more memory than is available. Give it fewer rows or columns."
    assert (job.error["code"], job.error["message"], job.attempt) == ("OUT_OF_MEMORY", message, 1)
    job = await harness_with_worker.wait_for_status(
        await harness_with_worker.submit("break_process_pool", max_tries=1, kills=0), JobStatus.FAILED
    )
    assert (job.error["code"], job.error["retryable"]) == ("BODY_FAILED", True)


def test_what_is_swapped_out_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text(
        "Name:\tbody\nRssAnon:\t  100 kB\nRssFile:\t 5000 kB\nRssShmem:\t   20 kB\nVmSwap:\t    3000 kB\n"
    )
    monkeypatch.setattr(process_tree, "_PROC", tmp_path)
    assert process_tree.memory_upper_bound([7]) == 3_120 * 1024
