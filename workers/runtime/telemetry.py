"""What Prometheus is told of one worker process, on a port of its own where the settings name one."""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram, start_http_server
from sqlalchemy import Row

from workers.settings import WorkerSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_SOON = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)

SLOTS = Gauge("trellis_worker_process_slots", "Slots of this worker process.")
USED = Gauge("trellis_worker_process_slots_used", "Slots of this worker process that a job has.")
STARTED = Counter("trellis_worker_attempts_started", "Attempts that this worker began, by kind of job.", ["kind"])
ENDED = Counter(
    "trellis_worker_attempts_ended",
    "Attempts that ended on this worker: completed, failed, cancelled, retrying, given_back, or lost (its lease was another's by then).",
    ["kind", "outcome"],
)
SWEPT = Counter("trellis_worker_leases_swept", "Jobs that this worker took from others that had gone silent.")
DISPATCH = Histogram(
    "trellis_worker_dispatch_seconds", "From a job's creation to its first ring, for jobs that this worker took.", buckets=_SOON
)
START = Histogram(
    "trellis_worker_start_seconds", "From a job's creation to its first body's order, for first attempts on this worker.", buckets=_SOON
)
SETTLED_AGAIN = Counter("trellis_worker_settle_retries", "Times that a settle was tried again, because PostgreSQL did not answer.")
WRITTEN = Counter("trellis_worker_events_written", "Events of progress, steps, points and logs that this worker wrote, by type.", ["type"])
KILLED = Counter(
    "trellis_worker_bodies_killed",
    "Bodies that did not end by themselves, by reason: cancel, give_back, lost, lease, timeout, nursery, memory, machine_memory, processes, cpu, file_size, signal.",
    ["reason"],
)

_SIGNALS = {-signal.SIGXCPU: "cpu", -signal.SIGXFSZ: "file_size"}


def _no_span(_job: Row[Any]) -> AbstractContextManager[object]:
    return nullcontext()


# What surrounds an attempt; whoever traces puts something else here.
attempt_span: Callable[[Row[Any]], AbstractContextManager[object]] = _no_span


def taken(job: Row[Any]) -> None:
    """This worker has claimed the job. Both times are the database's, which set them in or before the claim."""
    STARTED.labels(job.kind.value).inc()
    if job.attempt == 1:
        DISPATCH.observe(max(0.0, (job.queued_at - job.created_at).total_seconds()))


class Start:
    """Measures one attempt from its claim to the order of its first body."""

    def __init__(self, job: Row[Any]) -> None:
        self._waited = (job.started_at - job.created_at).total_seconds() if job.attempt == 1 else None
        self._claimed = time.monotonic()

    def ordered(self) -> None:
        """A body was told what to run; the first one counts."""
        if self._waited is not None:
            START.observe(max(0.0, self._waited + time.monotonic() - self._claimed))
            self._waited = None


def died(status: int, reason: str | None) -> None:
    """A body ended without an answer: with this exit status (negative: the signal), killed for this reason by the nursery."""
    if reason is not None:
        KILLED.labels(reason.replace(" ", "_")).inc()
    elif status < 0:
        KILLED.labels(_SIGNALS.get(status, "signal")).inc()


@contextmanager
def served(settings: WorkerSettings) -> Generator[None]:
    """Serve the numbers until the block ends, where the settings name a port. A port that is taken costs the numbers, not the worker."""
    if not settings.metrics_port:
        yield
        return
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        advice = "Another process has it; set TRELLIS_WORKER_METRICS_PORT to a free one." if taken else "Set TRELLIS_WORKER_METRICS_HOST."
        log.error("numbers_not_served", host=settings.metrics_host, port=settings.metrics_port, error=error.strerror, advice=advice)  # noqa: TRY400 - a setting, not a bug
        yield
        return
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
