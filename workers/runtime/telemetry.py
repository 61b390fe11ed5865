"""Prometheus metrics of one worker process, served on `metrics_port` if it is set."""

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

_LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)

SLOTS = Gauge("trellis_worker_process_slots", "Slots of this worker process.")
SLOTS_USED = Gauge("trellis_worker_process_slots_used", "Slots of this worker process that a job uses.")
ATTEMPTS_STARTED = Counter("trellis_worker_attempts_started", "Attempts that this worker started, by kind of job.", ["kind"])
ATTEMPTS_ENDED = Counter(
    "trellis_worker_attempts_ended",
    "Attempts that ended on this worker: completed, failed, cancelled, retrying, given_back, or lost (another worker had the lease by then).",
    ["kind", "outcome"],
)
LEASES_REAPED = Counter("trellis_worker_leases_swept", "Expired leases that this worker reaped.")
DISPATCH_SECONDS = Histogram(
    "trellis_worker_dispatch_seconds",
    "From a job's creation to its first dispatch, for jobs that this worker claimed.",
    buckets=_LATENCY_BUCKETS,
)
START_SECONDS = Histogram(
    "trellis_worker_start_seconds",
    "From a job's creation to the start of its first body, for first attempts on this worker.",
    buckets=_LATENCY_BUCKETS,
)
SETTLE_RETRIES = Counter("trellis_worker_settle_retries", "Retries of a settle because PostgreSQL was unavailable.")
EVENTS_WRITTEN = Counter(
    "trellis_worker_events_written", "Events of progress, steps, points and logs that this worker wrote, by type.", ["type"]
)
BODIES_KILLED = Counter(
    "trellis_worker_bodies_killed",
    "Bodies that were killed, by reason: cancel, give_back, lost, lease, timeout, forkserver, memory, machine_memory, processes, cpu, file_size, signal.",
    ["reason"],
)

_SIGNALS = {-signal.SIGXCPU: "cpu", -signal.SIGXFSZ: "file_size"}


def _no_span(_job: Row[Any]) -> AbstractContextManager[object]:
    return nullcontext()


# Context manager around an attempt; tracing replaces it.
attempt_span: Callable[[Row[Any]], AbstractContextManager[object]] = _no_span


def job_claimed(job: Row[Any]) -> None:
    """Count a claim. Both times are by the database's clock."""
    ATTEMPTS_STARTED.labels(job.kind.value).inc()
    if job.attempt == 1:
        DISPATCH_SECONDS.observe(max(0.0, (job.queued_at - job.created_at).total_seconds()))


class StartTimer:
    """Measures one attempt from its claim to the start of its first body."""

    def __init__(self, job: Row[Any]) -> None:
        self._queue_seconds = (job.started_at - job.created_at).total_seconds() if job.attempt == 1 else None
        self._claimed_at = time.monotonic()

    def body_started(self) -> None:
        """Observe the time when the first body starts; later calls have no effect."""
        if self._queue_seconds is not None:
            START_SECONDS.observe(max(0.0, self._queue_seconds + time.monotonic() - self._claimed_at))
            self._queue_seconds = None


def body_exited(status: int, reason: str | None) -> None:
    """Count a body that ended without a response. A negative exit status is a signal; `reason` is why it was killed, if by us."""
    if reason is not None:
        BODIES_KILLED.labels(reason.replace(" ", "_")).inc()
    elif status < 0:
        BODIES_KILLED.labels(_SIGNALS.get(status, "signal")).inc()


@contextmanager
def serve_metrics(settings: WorkerSettings) -> Generator[None]:
    """Serve the metrics until the block ends, if a port is set. A port in use costs the metrics, not the worker."""
    if not settings.metrics_port:
        yield
        return
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host)
    except OSError as error:
        is_port_taken = error.errno == errno.EADDRINUSE
        advice = (
            "Another process uses the port; set TRELLIS_WORKER_METRICS_PORT to a free one."
            if is_port_taken
            else "Set TRELLIS_WORKER_METRICS_HOST."
        )
        log.error("metrics_not_served", host=settings.metrics_host, port=settings.metrics_port, error=error.strerror, advice=advice)  # noqa: TRY400 - a setting, not a bug
        yield
        return
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
