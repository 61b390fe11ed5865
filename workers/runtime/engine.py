"""The engine of a worker process: claims jobs while slots are free, renews their leases, reaps expired ones, runs maintenance tasks."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, func, select
from sqlalchemy.exc import DBAPIError

from db.core.database_errors import is_transient
from db.core.queues import named_queues, served_routes
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import Unavailable
from db.services import extras, jobs, maintenance, workers
from db.services.jobs import Failure
from db.services.jobs.transitions import CANCELLED_PREFIX, ENDED, REQUEUED_PREFIX
from db.settings import state_settings
from db.streams.notices import DISPATCH_CHANNEL, listen
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus
from workers.runtime import telemetry
from workers.runtime.attempt import Attempt, Effects, StopReason, Task, WorkerResources
from workers.runtime.body_runner import BodyFailed
from workers.runtime.dispatch_listener import DispatchListener
from workers.runtime.maintenance import Maintenance
from workers.runtime.outbox import Outbox

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RETRY_PAUSE = 0.5  # seconds before a retry after PostgreSQL was unavailable
GIVE_BACK_TIME = 1.0  # seconds that giving jobs back takes, unless uploads of their logs and checkpoints are slow
DEREGISTER_TIMEOUT = 3.0  # seconds that marking the worker as stopped may take
CHEAP_POLL = 0.02  # seconds that a poll may take for the next to follow at once
MAX_POLL_PAUSE = 0.2  # longest pause, in seconds, after a more expensive poll
OUTBOX_CONNECTIONS = 2  # receivers' answers are recorded over these, beside whatever jobs do
DISPATCHED_PREFIX = "rung:"  # prefix of the notice that jobs of a queue were dispatched


class Engine:
    """Runs until `stop`. Every loop survives outages of PostgreSQL and Redis."""

    def __init__(self, resources: WorkerResources, redis_url: str, queues: Sequence[str], tasks: Mapping[JobKind, Task]) -> None:
        self._resources = resources
        self._database = resources.database
        self._settings = resources.settings
        self._redis_url = redis_url
        self._extras = extras.installed()
        self._queues = served_routes(queues, self._extras)
        self._tasks = tasks
        self._slots = resources.settings.slot_count()
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._id: UUID
        self._attempts: dict[UUID, Attempt] = {}
        self._attempt_tasks: set[asyncio.Task[None]] = set()
        self._storing: dict[Attempt, None] = {}  # in order; their last bodies have ended
        self._reserved_slots = 0
        self._stopping = asyncio.Event()
        self._skip_grace = asyncio.Event()
        self._poll_now = asyncio.Event()
        self._heartbeat_now = asyncio.Event()
        self._outbox_now = asyncio.Event()
        self._has_waiting_jobs = False  # as of the last poll; concurrency limits may hold all of them back
        self._dispatch_listener = DispatchListener(
            redis_url,
            self._queues,
            self._slots,
            lambda: self._free_slots,
            self._claim_dispatched,
            lambda ids: jobs.current_dispatches(self._database, ids),
        )
        self._maintenance = Maintenance(maintenance.MaintenanceContext(resources.database, resources.objects, state_settings()), self._name)

    @property
    def _without_slot(self) -> list[Attempt]:
        """Attempts that store their outputs use no core, so other jobs take their slots; no more than there are, as the store may be slow."""
        return list(self._storing)[: self._slots]

    @property
    def _used_slots(self) -> int:
        return len(self._attempt_tasks) - len(self._without_slot)

    @property
    def _free_slots(self) -> int:
        return 0 if self._stopping.is_set() else self._slots - self._used_slots - self._reserved_slots

    def stop(self) -> None:
        """Claim no more jobs; give running ones the grace period, then give them back. A second call skips the grace period."""
        (self._skip_grace if self._stopping.is_set() else self._stopping).set()

    async def run(self) -> None:
        """Process jobs until `stop` is called."""
        if not await self._register():
            return
        telemetry.SLOTS.set(self._slots)
        telemetry.SLOTS_USED.set_function(lambda: self._used_slots)
        log.info("worker_ready", worker=self._name, queues=named_queues(self._queues), slots=self._slots)
        loops = [
            asyncio.create_task(loop, name=name)
            for name, loop in {
                "heartbeat": self._heartbeat_loop(),
                "poll": self._poll_loop(),
                "maintenance": self._maintenance_loop(),
                "outbox": self._outbox_loop(),
                "notices": self._notice_loop(),
                "dispatch_listener": self._dispatch_listener.run(),
            }.items()
        ]
        try:
            await self._stopping.wait()
            await self._drain()
        finally:
            await _cancel_all(loops)
        with suppress(Unavailable, TimeoutError):  # otherwise a maintenance task marks it as stopped once its heartbeat is old
            async with asyncio.timeout(DEREGISTER_TIMEOUT), self._database.work(SYSTEM) as work:
                await workers.stop(work, self._id)
        log.info("worker_stopped", worker=self._name)

    async def _register(self) -> bool:
        while not self._stopping.is_set():
            try:
                await self._make_partitions()
                async with self._database.work(SYSTEM) as work:
                    self._id = await workers.register(work, self._name, self._queues, self._slots, self._extras)
            except Unavailable as error:
                log.warning("worker_registration_delayed", error=str(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_PAUSE):
                        await self._stopping.wait()
            else:
                return True
        return False

    async def _make_partitions(self) -> None:
        """Create partitions before the first job: after a long downtime even that of the current month may be missing."""
        try:
            async with self._database.work(SYSTEM) as work:
                await work.scalar(select(func.trellis_make_partitions(maintenance.PARTITIONS_AHEAD)))
        except DBAPIError as error:  # jobs write to the default partitions; the maintenance task tells the operator what to do
            log.warning("partitions_not_created", error=str(error.orig))

    async def _drain(self) -> None:
        """Let short bodies finish and give the other jobs back, which uses no try. The end of the grace period is reserved for giving back."""
        grace = self._settings.grace
        if self._attempt_tasks:
            skip_grace = asyncio.create_task(self._skip_grace.wait())
            done = asyncio.ensure_future(asyncio.gather(*self._attempt_tasks, return_exceptions=True))
            await asyncio.wait([skip_grace, done], timeout=grace - min(grace / 3, GIVE_BACK_TIME), return_when=asyncio.FIRST_COMPLETED)
            skip_grace.cancel()
        while self._attempt_tasks or self._reserved_slots:  # a claim in progress may still start an attempt
            for attempt in self._attempts.values():
                attempt.stop(StopReason.GIVE_BACK)
            await asyncio.wait([*self._attempt_tasks, asyncio.create_task(asyncio.sleep(0.1))], return_when=asyncio.FIRST_COMPLETED)

    async def _poll_loop(self) -> None:
        """Poll every `poll_interval` seconds, which bounds the cost of a lost notice, and at once on a notice."""
        polled_at = time.monotonic()
        while True:
            # Frequent notices must not postpone the full poll, which alone finds expired leases.
            remaining = polled_at + self._settings.poll_interval - time.monotonic()
            notified = remaining > 0 and await self._wait(self._poll_now, remaining)
            if not notified:
                polled_at = time.monotonic()
            started_at = time.monotonic()
            await self._run_iteration(lambda notified=notified: self._poll(notified=notified))
            # Every job that ends sends a notice. Each poll sorts the queue; if it is long, the polls of many workers would saturate
            # PostgreSQL. A notice during the pause is not lost, and the first one after an idle time is handled at once.
            await asyncio.sleep(min(4 * max(time.monotonic() - started_at - CHEAP_POLL, 0.0), MAX_POLL_PAUSE))

    async def _run_every(self, step: Callable[[], Awaitable[None]], interval: float, event: asyncio.Event) -> None:
        while True:
            await self._run_iteration(step)
            await self._wait(event, interval)

    @staticmethod
    async def _run_iteration(step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Unavailable as error:
            log.warning("postgres_unavailable", error=error.detail)
            await asyncio.sleep(RETRY_PAUSE)
        except DBAPIError as error:
            log_error = log.warning if is_transient(error) else log.exception
            log_error("worker_loop_failed", error=str(error.orig))
            await asyncio.sleep(RETRY_PAUSE)
        except Exception:  # a loop survives every failure of an iteration
            log.exception("worker_loop_failed")
            await asyncio.sleep(RETRY_PAUSE)

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> bool:
        """Return whether the event was set within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        event.clear()
        return True

    # Claiming jobs

    async def _notice_loop(self) -> None:
        while True:
            await self._run_iteration(self._listen_for_notices)

    async def _listen_for_notices(self) -> None:
        async with aclosing(listen(self._redis_url, DISPATCH_CHANNEL)) as notices:
            async for notice in notices:
                if notice is None:
                    self._poll_now.set()
                else:
                    self._handle_notice(notice.decode(errors="replace"))  # a notice may hold any bytes

    def _handle_notice(self, notice: str) -> None:
        queue = notice.removeprefix(REQUEUED_PREFIX)
        if queue in self._queues:
            self._has_waiting_jobs = True
            self._poll_now.set()
        elif notice == str(self._id):
            self._heartbeat_now.set()
        elif notice.startswith(DISPATCHED_PREFIX):
            if (name := notice.removeprefix(DISPATCHED_PREFIX)) in self._queues:
                self._dispatch_listener.wake(name)
        elif notice == ENDED or notice.startswith((REQUEUED_PREFIX, CANCELLED_PREFIX)):
            self._outbox_now.set()
            if self._has_waiting_jobs:  # the end of a job on any worker may have made room under a concurrency limit
                self._poll_now.set()
            name, _, job = notice.removeprefix(CANCELLED_PREFIX).partition(":")
            if notice.startswith(CANCELLED_PREFIX) and name in self._queues:
                self._dispatch_listener.job_cancelled(name, job)

    async def _poll(self, *, notified: bool) -> None:
        """Reap expired leases and dispatch waiting jobs; claim them directly without Redis. One statement if there is nothing to do."""
        has_waiting_jobs, has_expired_leases = notified, False
        if not notified:
            found = await jobs.poll(
                self._database, self._queues, self._settings.dispatch_retry_interval if self._dispatch_listener.is_connected else 0.0
            )
            self._has_waiting_jobs, has_waiting_jobs, has_expired_leases = found.has_waiting, found.has_waiting, found.has_expired
            if found.has_outbox:
                self._outbox_now.set()
        if has_expired_leases:
            await self._reap_expired()
        if has_waiting_jobs and self._free_slots > 0 and not await self._dispatch():
            await self._claim_waiting()

    async def _dispatch(self) -> bool:
        """Send dispatch notices for waiting jobs. False if Redis is unavailable."""
        if not self._dispatch_listener.is_connected:
            return False
        async with self._database.work(SYSTEM) as work:
            without_slot = [attempt.job.id for attempt in self._without_slot]
            dispatches = await jobs.dispatch(work, self._queues, self._settings.dispatch_retry_interval, without_slot)
        return not dispatches or await self._dispatch_listener.notify(dispatches)

    async def _claim_waiting(self) -> None:
        free_slots = self._free_slots
        with self._reserve_slots(free_slots):
            async with self._database.work(SYSTEM) as work:
                lease_deadline = time.monotonic() + self._settings.lease
                claimed = await jobs.claim_waiting(work, self._queues, free_slots, self._id, self._name, self._settings.lease)
            for job in claimed:
                self._start_attempt(job, lease_deadline)

    async def _claim_dispatched(self, job_id: UUID) -> None:
        """Claim a job that a dispatch notice named: reserve the slot first, then try to claim the row."""
        if self._free_slots <= 0:
            return
        with self._reserve_slots(1):
            lease_deadline = time.monotonic() + self._settings.lease
            async with self._database.work(SYSTEM) as work:
                job = await jobs.claim(work, job_id, self._id, self._name, self._settings.lease)
            if job is not None:
                self._start_attempt(job, lease_deadline)

    @contextmanager
    def _reserve_slots(self, slots: int) -> Generator[None]:
        """Reserve slots during a claim. A transient error, such as a lock timeout, is logged and claims nothing."""
        self._reserved_slots += slots
        try:
            yield
        except DBAPIError as error:
            if not is_transient(error):
                raise
            log.warning("claim_aborted", error=str(error.orig))
        finally:
            self._reserved_slots -= slots

    def _start_attempt(self, job: Row[Any], lease_deadline: float) -> None:
        telemetry.job_claimed(job)
        if lease_deadline < time.monotonic() + self._settings.lease / 2:  # the claim was slow and used up much of the lease
            self._heartbeat_now.set()
        attempt = self._attempts[job.id] = Attempt(self._resources, job, lease_deadline, self._bodies_ended)
        attempt_task = asyncio.create_task(attempt.run(self._tasks.get(job.kind, _unsupported)), name=f"attempt of {job.id}")
        self._attempt_tasks.add(attempt_task)
        attempt_task.add_done_callback(lambda _: self._attempt_ended(job.id, attempt, attempt_task))

    def _bodies_ended(self, attempt: Attempt) -> None:
        self._storing[attempt] = None
        self._poll_now.set()
        self._dispatch_listener.wake()

    def _attempt_ended(self, job_id: UUID, attempt: Attempt, attempt_task: asyncio.Task[None]) -> None:
        self._attempt_tasks.discard(attempt_task)
        self._storing.pop(attempt, None)
        if self._attempts.get(job_id) is attempt:
            del self._attempts[job_id]
        self._poll_now.set()
        self._dispatch_listener.wake()

    # Keeping leases

    async def _heartbeat_loop(self) -> None:
        async with self._database.dedicated_pool(1) as heartbeat_database:
            await self._run_every(lambda: self._heartbeat(heartbeat_database), self._settings.heartbeat_interval, self._heartbeat_now)

    async def _heartbeat(self, heartbeat_database: Database) -> None:
        """Renew all leases. They count from before the statement is sent, so that none lasts longer here than in the database."""
        sent_at = time.monotonic()
        attempts = dict(self._attempts)
        try:
            held_jobs = await jobs.heartbeat(
                heartbeat_database, self._id, [attempt.claim for attempt in attempts.values()], self._settings.lease
            )
        except (Unavailable, DBAPIError):  # the leases may expire meanwhile
            for attempt in attempts.values():
                if time.monotonic() > attempt.lease_deadline:
                    attempt.stop(StopReason.LOST)
            raise
        for job_id, attempt in attempts.items():
            held_job = held_jobs.get(job_id)
            if held_job is None:
                attempt.stop(StopReason.LOST)
                continue
            if held_job.is_renewed:
                attempt.renew(sent_at + self._settings.lease)
            if held_job.status is JobStatus.CANCELLING:
                attempt.stop(StopReason.CANCEL)

    async def _reap_expired(self) -> None:
        async with self._database.work(SYSTEM) as work:
            expired_ids = await jobs.reap(work, self._settings.lease, self._settings.max_losses)
        if expired_ids:
            telemetry.LEASES_REAPED.inc(len(expired_ids))
            log.warning("leases_expired", jobs=[str(job_id) for job_id in expired_ids])
            self._poll_now.set()

    async def _outbox_loop(self) -> None:
        """Tell of events and send webhooks when a poll has found some, or at once when a job has ended."""
        async with self._database.dedicated_pool(OUTBOX_CONNECTIONS) as database:
            outbox = Outbox(database, state_settings())
            try:
                while True:
                    await self._outbox_now.wait()
                    self._outbox_now.clear()
                    await self._run_iteration(outbox.run_due)
            finally:
                await outbox.close()

    async def _maintenance_loop(self) -> None:
        """Run maintenance tasks when due; each is run by one worker at a time."""
        while True:
            await self._run_iteration(self._maintenance.run_due)
            await asyncio.sleep(self._maintenance.pause)


async def _unsupported(attempt: Attempt) -> Effects:
    kind = attempt.job.kind.name
    raise BodyFailed(Failure("NOT_SUPPORTED", f"This release of the worker does not support {kind} jobs.", retryable=False))


async def _cancel_all(loops: Sequence[asyncio.Task[None]]) -> None:
    """Cancel repeatedly until all have ended: a client that loses its connection at that moment may swallow the cancellation."""
    pending = set(loops)
    while pending:
        for loop in pending:
            loop.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.5)
