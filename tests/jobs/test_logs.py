"""Job logs: the first and last lines as events, the whole log as a file of each attempt."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from sqlalchemy import select

from db.core.viewer import SYSTEM
from db.services import jobs
from db.tables import StoredObject
from db.tables.jobs import JobEventType
from db.tables.jobstates import JobStatus
from tests.client import Client
from tests.workers.worker_harness import WorkerHarness
from workers.runtime.logs import Excerpt, LineDecoder, LogFile

ATTEMPTS = """query($id: ID!) { job(id: $id) { attempts {
  number outcome log { id role filename contentType sizeBytes sha256 downloadUrl }
} } }"""
MIB = 1024**2
FLOOD = 48  # MiB


def global_id(key: UUID) -> str:
    return f"job_{key.hex}"


async def attempt_logs(viewer: Client, job: UUID) -> list[dict[str, Any] | None]:
    """Return the log of each attempt, with its text if there is one."""
    attempts = (await viewer.one(ATTEMPTS, id=global_id(job)))["attempts"]
    entries: list[dict[str, Any] | None] = []
    for attempt in attempts:
        log = attempt["log"]
        if log is not None:
            answer = await viewer.store.get(log.pop("downloadUrl"))
            assert answer.status_code == 200
            assert len(answer.content) == log["sizeBytes"]
            log["text"] = answer.text
        entries.append(log)
    return entries


def log_lines(log: dict[str, Any] | None) -> list[str]:
    """Return the lines without their timestamps, after checking those."""
    assert log is not None
    texts: list[str] = []
    for line in log["text"].splitlines():
        if line.startswith("["):
            texts.append(line)
        else:
            assert abs(datetime.now(UTC) - datetime.fromisoformat(line[:24])) < timedelta(minutes=5)
            texts.append(line[25:])
    return texts


async def messages(harness: WorkerHarness, job: UUID) -> list[str]:
    return [event.message for event in await harness.events(job) if event.type is JobEventType.LOG]


async def test_prints_logs_and_warnings_of_a_body_are_reported_in_order(harness_with_worker: WorkerHarness, owner: Client) -> None:
    job = await harness_with_worker.submit("print_everywhere")
    await harness_with_worker.wait_for_status(job, JobStatus.COMPLETED)
    expected = [
        "printed",
        "an error",
        "INFO model: fitted 3 trees",
        "WARNING bodies: UserWarning: this is deprecated (line N)",
        "reported",
        "from a subprocess",
        "100 %",
        "bad \ufffd\ufffd and \ufffd bytes",
        "a lone \\ud800 surrogate",
        "no end",
    ]
    (log,) = await attempt_logs(owner, job)
    assert [re.sub(r"line \d+", "line N", line) for line in log_lines(log)] == expected
    event_lines = "\n".join(await messages(harness_with_worker, job)).split("\n")
    assert [re.sub(r"line \d+", "line N", line) for line in event_lines] == expected
    assert log is not None
    assert (log["role"], log["contentType"]) == ("LOG", "text/plain; charset=utf-8")
    assert re.fullmatch(r"export-[0-9a-f]{8}-attempt-1\.log", log["filename"])


async def test_output_that_is_still_buffered_when_a_body_returns_is_reported_too(harness_with_worker: WorkerHarness, owner: Client) -> None:
    job = await harness_with_worker.submit("print_buffered")
    await harness_with_worker.wait_for_status(job, JobStatus.COMPLETED)
    (log,) = await attempt_logs(owner, job)
    assert sorted(log_lines(log)) == ["from a library", "the last line"]


async def test_a_job_that_says_nothing_has_no_log(harness_with_worker: WorkerHarness, owner: Client) -> None:
    job = await harness_with_worker.submit("quick")
    await harness_with_worker.wait_for_status(job, JobStatus.COMPLETED)
    assert await attempt_logs(owner, job) == [None]
    assert await messages(harness_with_worker, job) == []


async def test_every_attempt_keeps_its_own_log_and_a_failed_one_says_why(harness_with_worker: WorkerHarness, owner: Client) -> None:
    job = await harness_with_worker.submit("print_lines", lines=2, failures=1)
    await harness_with_worker.wait_for_status(job, JobStatus.COMPLETED)
    first, second = await attempt_logs(owner, job)
    first_lines = log_lines(first)
    assert first_lines[:3] == ["line 0", "line 1", "BODY_FAILED: Transient: The tide was out."]
    assert first_lines[-1] == "workers.ml.errors.Transient: The tide was out."
    assert log_lines(second) == ["line 0", "line 1"]


async def test_a_cancelled_job_and_one_killed_for_its_time_keep_their_logs(harness_with_worker: WorkerHarness, owner: Client) -> None:
    cancelled, late = await harness_with_worker.submit("print_and_sleep"), await harness_with_worker.submit("print_and_sleep", timeout=1.0)
    await harness_with_worker.wait_for_starts(cancelled)
    async with asyncio.timeout(60):
        while not await messages(harness_with_worker, cancelled):
            await asyncio.sleep(0.05)
    async with harness_with_worker.database.work(SYSTEM) as work:
        await jobs.cancel(work, cancelled)
    await harness_with_worker.wait_for_status(cancelled, JobStatus.CANCELLED)
    await harness_with_worker.wait_for_status(late, JobStatus.FAILED)
    # On a busy machine an attempt may be lost before it says anything.
    assert [log_lines(log) for log in await attempt_logs(owner, cancelled) if log is not None] == [["start 1"]]
    told = [log_lines(log) for log in await attempt_logs(owner, late) if log is not None]
    assert told == [["start 1", "TIMEOUT: The job exceeded its timeout of 1 s. Give it less to do or a higher timeout."]]


@pytest.mark.exhaustive
async def test_an_attempt_that_is_given_back_keeps_its_log_and_one_whose_worker_vanished_has_none(
    harness: WorkerHarness, owner: Client
) -> None:
    workers = [await harness.start_worker(), await harness.start_worker()]
    vanished = await harness.submit("print_and_sleep")
    await harness.wait_for_starts(vanished)
    worker = await harness.worker_of(vanished)
    worker.kill()
    await harness.wait_for_status(vanished, JobStatus.COMPLETED)
    first, second = await attempt_logs(owner, vanished)
    assert first is None
    assert log_lines(second) == ["start 2"]
    returned = await harness.submit("print_and_sleep")
    await harness.wait_for_starts(returned)
    (remaining_worker,) = [other for other in workers if other is not worker]
    await asyncio.sleep(0.3)
    remaining_worker.terminate()
    assert await asyncio.to_thread(remaining_worker.wait, 60) == 0
    await harness.start_worker()
    await harness.wait_for_status(returned, JobStatus.COMPLETED)
    assert [log_lines(log) for log in await attempt_logs(owner, returned)] == [["start 1"], ["start 2"]]


async def test_strangers_see_no_log(harness_with_worker: WorkerHarness, owner: Client, make_client: Any) -> None:
    job = await harness_with_worker.submit("print_lines", lines=1)
    await harness_with_worker.wait_for_status(job, JobStatus.COMPLETED)
    (log,) = await attempt_logs(owner, job)
    assert log is not None
    eve = await make_client("eve")
    assert await eve.one(ATTEMPTS, id=global_id(job)) is None
    assert await eve.one("query($id: ID!) { node(id: $id) { id } }", id=log["id"]) is None


async def test_logs_count_as_the_owners_objects_and_equal_ones_are_stored_once(harness_with_worker: WorkerHarness, owner: Client) -> None:
    job = await harness_with_worker.submit("print_lines", lines=3)
    await harness_with_worker.wait_for_status(job, JobStatus.COMPLETED)
    (log,) = await attempt_logs(owner, job)
    assert log is not None
    stored = await harness_with_worker.database.rows(
        select(*StoredObject.__table__.c).where(StoredObject.owner_id == harness_with_worker.owner_id)
    )
    assert [(row.sha256, row.size_bytes, row.reference_count) for row in stored] == [(log["sha256"], log["sizeBytes"], 1)]
    assert re.fullmatch(rf"jobs/{harness_with_worker.owner_id}/{job}/[0-9a-f-]{{36}}/logs/[0-9a-f-]{{36}}", stored[0].object_key)


@pytest.mark.exhaustive
async def test_a_flood_of_prints_leaves_a_short_log_and_a_worker_no_larger_than_before(harness: WorkerHarness, owner: Client) -> None:
    worker = await harness.start_worker(LOG_BYTES=str(MIB))
    await harness.wait_for_status(await harness.submit("print_lines", lines=1), JobStatus.COMPLETED)
    rss_before = psutil.Process(worker.pid).memory_info().rss
    job = await harness.submit("print_gigabytes", mebibytes=FLOOD)
    beside = await harness.submit("quick")
    await harness.wait_for_status(beside, JobStatus.COMPLETED)
    peak_rss = 0
    while (await harness.job(job)).status is not JobStatus.FAILED:
        peak_rss = max(peak_rss, psutil.Process(worker.pid).memory_info().rss)
        await asyncio.sleep(0.05)
    assert peak_rss - rss_before < 30 * MIB
    assert (await harness.job(job)).error["message"] == "ValueError: That was all."
    (log,) = await attempt_logs(owner, job)
    assert log is not None
    assert MIB / 2 < log["sizeBytes"] < MIB + 32 * 1024
    job_lines = log_lines(log)
    assert (job_lines[0], job_lines[1][:8]) == ("the first line", "0000000 ")
    assert "the last line" in job_lines
    assert "BODY_FAILED: ValueError: That was all." in job_lines
    (left_out,) = [
        int(match[1].replace(",", "")) for line in job_lines if (match := re.match(r"\[([\d,]+) lines were left out here", line))
    ]
    whole_lines = sum(bool(re.match(r"\d{7} x{55}$", line)) for line in job_lines)
    cut_lines = sum(bool(re.search(r"x{1,55}$", line)) for line in job_lines) - whole_lines
    assert whole_lines + cut_lines + left_out in {FLOOD * 16_384, FLOOD * 16_384 + 1}
    events = await messages(harness, job)
    assert events[0].split("\n")[0] == "the first line"
    assert events[-1].split("\n")[-1] == "the last line"
    assert all(len(event) < 8_200 for event in events)


@pytest.mark.exhaustive
async def test_prints_without_an_end_of_line_are_broken_into_lines(harness: WorkerHarness, owner: Client) -> None:
    worker = await harness.start_worker()
    job = await harness.submit("print_without_newlines", mebibytes=3)
    await harness.wait_for_status(job, JobStatus.COMPLETED)
    (log,) = await attempt_logs(owner, job)
    job_lines = log_lines(log)
    assert set("".join(job_lines)) == {"x"}
    assert sum(map(len, job_lines)) == 3 * MIB
    assert worker.poll() is None


@pytest.mark.exhaustive
async def test_a_job_has_so_many_log_events_with_all_its_attempts_and_the_last_lines_of_each_are_among_them(
    harness: WorkerHarness, owner: Client
) -> None:
    await harness.start_worker(LOG_EVENTS="10", EVENTS_PER_SECOND="1000", BACKOFF_BASE="0.1", BACKOFF_FACTOR="1")
    job = await harness.submit("print_lines", lines=60, pause=0.01, failures=1)
    await harness.wait_for_status(job, JobStatus.COMPLETED)
    events = [event for event in await harness.events(job) if event.type is JobEventType.LOG]
    assert len(events) <= 10
    assert events[0].message.startswith("line 0")
    assert [len(log_lines(log)) >= 60 for log in await attempt_logs(owner, job)] == [True, True]
    last = [event for event in events if event.attempt == 1][-1]
    assert last.message.endswith("line 59")


@pytest.mark.exhaustive
async def test_a_job_ends_as_it_should_when_its_log_cannot_be_stored(harness: WorkerHarness, owner: Client) -> None:
    await harness.start_worker(
        TRELLIS_S3_ENDPOINT_URL="http://127.0.0.1:1", LEASE="10"
    )  # storing the log is retried for longer than this lease
    job = await harness.submit("print_lines", lines=1)
    await harness.wait_for_status(job, JobStatus.COMPLETED)
    assert set(await attempt_logs(owner, job)) == {None}
    note = "The log of this attempt could not be stored: the object storage did not accept it in time."
    assert "\n".join(await messages(harness, job)).endswith(f"line 0\n{note}")


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_an_excerpt_counts_what_it_leaves_out_however_it_was_fed(size: int) -> None:
    printed = b"".join(b"line %d\n" % number for number in range(5_000))
    lines, excerpt = LineDecoder(), Excerpt()
    for start in range(0, len(printed), size):
        excerpt.add(lines.feed(printed[start : start + size]))
    excerpt.add(lines.finish())
    excerpt_lines = excerpt.take().split("\n")
    note = next(line for line in excerpt_lines if line.startswith("["))
    assert note == f"[{5_000 - len(excerpt_lines) + 1:,} lines were left out here]"
    first, last = excerpt_lines[: excerpt_lines.index(note)], excerpt_lines[excerpt_lines.index(note) + 1 :]
    assert first == [f"line {number}" for number in range(len(first))]
    assert last == [f"line {number}" for number in range(5_000 - len(last), 5_000)]
    assert not excerpt


def test_a_log_on_a_full_disk_is_none_and_harms_nobody() -> None:
    log = LogFile(Path("/dev/full"), MIB)
    log.add("a line\n")
    assert log.is_empty
    log.add("another line\n")
    log.close()
    log.add("and one more\n")
    assert log.is_empty


@pytest.mark.parametrize("limit", [0, 10, 50, 4_000, 5_000, 40_000, MIB])
def test_a_log_keeps_its_size_and_says_how_much_it_left_out(tmp_path: Path, limit: int) -> None:
    log = LogFile(tmp_path / "log", limit)
    for number in range(1_000):
        log.add(f"line {number}\nand its second half\n")
    log.close()
    written_lines = (tmp_path / "log").read_text().splitlines()
    notes = [line for line in written_lines if line.startswith("[")]
    left_out = int(notes[0][1:].split()[0].replace(",", "")) if notes else 0
    assert len(written_lines) - len(notes) + left_out == 2_000
    assert written_lines[-1].endswith("and its second half")
    assert "line 999" in written_lines[-2]
    assert (tmp_path / "log").stat().st_size < limit + 17 * 1024
