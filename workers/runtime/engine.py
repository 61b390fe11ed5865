"""A worker process: it hears the bell, takes jobs while it has slots, keeps their leases, and looks after what others left behind."""

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

from db.core.viewer import SYSTEM
from db.core.work import Database, is_transient
from db.errors import Unavailable
from db.services import jobs, maintenance, workers
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

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RETRY_PAUSE = 0.5  # seconds before Postgres is asked again after it did not answer
GIVE_BACK_TIME = 1.0  # seconds that jobs take to be given back, unless the store is slow to take their logs and checkpoints
DEREGISTER_TIMEOUT = 3.0  # seconds that telling Postgres of the end may take
CHEAP_POLL = 0.02  # seconds that a look may take for the next to follow at once
MAX_POLL_PAUSE = 0.2  # seconds at most between two looks that are dearer
DISPATCHED = "rung:"  # somebody invited to jobs of this queue


class Engine:
    """Runs until `stop`. Every loop outlives a Postgres or a Redis that is away for a while."""

    def __init__(self, resources: WorkerResources, redis_url: str, queues: Sequence[str], tasks: Mapping[JobKind, Task]) -> None:
        self._resources = resources
        self._database = resources.database
        self._settings = resources.settings
        self._redis_url = redis_url
        self._queues = list(queues)
        self._tasks = tasks
        self._slots = resources.settings.slot_count()
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._id: UUID
        self._attempts: dict[UUID, Attempt] = {}
        self._attempt_tasks: set[asyncio.Task[None]] = set()
        self._reserved_slots = 0
        self._stopping = asyncio.Event()
        self._skip_grace = asyncio.Event()
        self._poll_now = asyncio.Event()
        self._heartbeat_now = asyncio.Event()
        self._has_waiting_jobs = False  # whether there was work at the last look; perhaps it is only held back by a cap
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
    def _free_slots(self) -> int:
        return 0 if self._stopping.is_set() else self._slots - len(self._attempt_tasks) - self._reserved_slots

    def stop(self) -> None:
        """Take no more jobs; give those that run the grace time, then give them back. Told again, do not wait."""
        (self._skip_grace if self._stopping.is_set() else self._stopping).set()

    async def run(self) -> None:
        """Work until told to stop."""
        if not await self._register():
            return
        telemetry.SLOTS.set(self._slots)
        telemetry.SLOTS_USED.set_function(lambda: len(self._attempt_tasks))
        log.info("worker_ready", worker=self._name, queues=self._queues, slots=self._slots)
        loops = [
            asyncio.create_task(loop, name=name)
            for name, loop in {
                "heartbeat": self._heartbeat_loop(),
                "poll": self._poll_loop(),
                "maintenance": self._maintenance_loop(),
                "notices": self._notice_loop(),
                "dispatch_listener": self._dispatch_listener.run(),
            }.items()
        ]
        try:
            await self._stopping.wait()
            await self._drain()
        finally:
            await _cancel_all(loops)
        with suppress(Unavailable, TimeoutError):  # without a word it counts as stopped once it has been silent for a while
            async with asyncio.timeout(DEREGISTER_TIMEOUT), self._database.work(SYSTEM) as work:
                await workers.stop(work, self._id)
        log.info("worker_stopped", worker=self._name)

    async def _register(self) -> bool:
        while not self._stopping.is_set():
            try:
                await self._make_partitions()
                async with self._database.work(SYSTEM) as work:
                    self._id = await workers.register(work, self._name, self._queues, self._slots)
            except Unavailable as error:
                log.warning("waiting_for_postgres", error=str(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_PAUSE):
                        await self._stopping.wait()
            else:
                return True
        return False

    async def _make_partitions(self) -> None:
        """Before the first job: after a long rest even this month's may be missing."""
        try:
            async with self._database.work(SYSTEM) as work:
                await work.scalar(select(func.trellis_make_partitions(maintenance.PARTITIONS_AHEAD)))
        except DBAPIError as error:  # the chore tells an operator what to do; the jobs go on, in the default partitions
            log.warning("partitions_not_made", error=str(error.orig))

    async def _drain(self) -> None:
        """Short bodies get their time; the others go back, no try used. What giving back usually takes is kept of the grace time for it."""
        grace = self._settings.grace
        if self._attempt_tasks:
            skip_grace = asyncio.create_task(self._skip_grace.wait())
            done = asyncio.ensure_future(asyncio.gather(*self._attempt_tasks, return_exceptions=True))
            await asyncio.wait([skip_grace, done], timeout=grace - min(grace / 3, GIVE_BACK_TIME), return_when=asyncio.FIRST_COMPLETED)
            skip_grace.cancel()
        while self._attempt_tasks or self._reserved_slots:  # a claim that is under way may still become an attempt
            for attempt in self._attempts.values():
                attempt.stop(StopReason.GIVE_BACK)
            await asyncio.wait([*self._attempt_tasks, asyncio.create_task(asyncio.sleep(0.1))], return_when=asyncio.FIRST_COMPLETED)

    async def _poll_loop(self) -> None:
        """Each second, so that a nudge that was lost costs no more; and at once on a nudge, however many come."""
        polled_at = time.monotonic()
        while True:
            # However many nudges come, what they do not tell of (a lease that ran out) is looked for each second too.
            remaining = polled_at + self._settings.look - time.monotonic()
            notified = remaining > 0 and await self._wait(self._poll_now, remaining)
            if not notified:
                polled_at = time.monotonic()
            started_at = time.monotonic()
            await self._run_step(lambda notified=notified: self._poll(notified=notified))
            # Every job that ends nudges. Where the line is long each look sorts it, and the looks of many workers would leave Postgres
            # no time for anything else; a nudge that comes meanwhile is not lost, and the first after a rest waits for nothing.
            await asyncio.sleep(min(4 * max(time.monotonic() - started_at - CHEAP_POLL, 0.0), MAX_POLL_PAUSE))

    async def _run_every(self, step: Callable[[], Awaitable[None]], interval: float, event: asyncio.Event) -> None:
        while True:
            await self._run_step(step)
            await self._wait(event, interval)

    @staticmethod
    async def _run_step(step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Unavailable as error:
            log.warning("postgres_does_not_answer", error=error.detail)
            await asyncio.sleep(RETRY_PAUSE)
        except DBAPIError as error:
            log_error = log.warning if is_transient(error) else log.exception
            log_error("step_failed", error=str(error.orig))
            await asyncio.sleep(RETRY_PAUSE)
        except Exception:  # a loop of the worker outlives every failure of one of its rounds
            log.exception("step_failed")
            await asyncio.sleep(RETRY_PAUSE)

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> bool:
        """Whether it was the event that ended the waiting."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        event.clear()
        return True

    # Taking jobs

    async def _notice_loop(self) -> None:
        while True:
            await self._run_step(self._listen_for_notices)

    async def _listen_for_notices(self) -> None:
        async with aclosing(listen(self._redis_url, DISPATCH_CHANNEL)) as notices:
            async for notice in notices:
                if notice is None:
                    self._poll_now.set()
                else:
                    self._handle_notice(notice.decode(errors="replace"))  # anybody may publish anything

    def _handle_notice(self, notice: str) -> None:
        queue = notice.removeprefix(REQUEUED_PREFIX)
        if queue in self._queues:
            self._has_waiting_jobs = True
            self._poll_now.set()
        elif notice == str(self._id):
            self._heartbeat_now.set()
        elif notice.startswith(DISPATCHED):
            if (name := notice.removeprefix(DISPATCHED)) in self._queues:
                self._dispatch_listener.wake(name)
        elif notice == ENDED or notice.startswith((REQUEUED_PREFIX, CANCELLED_PREFIX)):
            if self._has_waiting_jobs:  # a cap may have room now, wherever the job ran that made it
                self._poll_now.set()
            name, _, job = notice.removeprefix(CANCELLED_PREFIX).partition(":")
            if notice.startswith(CANCELLED_PREFIX) and name in self._queues:
                self._dispatch_listener.job_cancelled(name, job)

    async def _poll(self, *, notified: bool) -> None:
        """One statement when there is nothing to do. What is waiting is rung for; without Redis it is taken at once."""
        has_waiting_jobs, has_expired_leases = notified, False
        if not notified:
            self._has_waiting_jobs, has_expired_leases = has_waiting_jobs, _ = await jobs.poll(
                self._database, self._queues, self._settings.ring_again if self._dispatch_listener.is_connected else 0.0
            )
        if has_expired_leases:
            await self._sweep()
        if has_waiting_jobs and self._free_slots > 0 and not await self._dispatch():
            await self._claim_waiting()

    async def _dispatch(self) -> bool:
        """False when Redis carries no invitations."""
        if not self._dispatch_listener.is_connected:
            return False
        async with self._database.work(SYSTEM) as work:
            dispatches = await jobs.dispatch(work, self._queues, self._settings.ring_again)
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
        """Somebody rang for this job: the slot first, then the row; no row, no work."""
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
        """So many slots are spoken for. A claim that was broken off (somebody holds a lock for too long) is no job now, and no fault."""
        self._reserved_slots += slots
        try:
            yield
        except DBAPIError as error:
            if not is_transient(error):
                raise
            log.warning("claim_broken_off", error=str(error.orig))
        finally:
            self._reserved_slots -= slots

    def _start_attempt(self, job: Row[Any], lease_deadline: float) -> None:
        telemetry.job_claimed(job)
        if lease_deadline < time.monotonic() + self._settings.lease / 2:  # the claim had to wait, and the lease has run meanwhile
            self._heartbeat_now.set()
        attempt = self._attempts[job.id] = Attempt(self._resources, job, lease_deadline)
        attempt_task = asyncio.create_task(attempt.run(self._tasks.get(job.kind, _unsupported)), name=f"attempt of {job.id}")
        self._attempt_tasks.add(attempt_task)
        attempt_task.add_done_callback(lambda _: self._attempt_ended(job.id, attempt, attempt_task))

    def _attempt_ended(self, job_id: UUID, attempt: Attempt, attempt_task: asyncio.Task[None]) -> None:
        self._attempt_tasks.discard(attempt_task)
        if self._attempts.get(job_id) is attempt:
            del self._attempts[job_id]
        self._poll_now.set()
        self._dispatch_listener.wake()

    # Keeping them

    async def _heartbeat_loop(self) -> None:
        async with self._database.dedicated_pool(1) as heartbeat_database:
            await self._run_every(lambda: self._heartbeat(heartbeat_database), self._settings.pulse, self._heartbeat_now)

    async def _heartbeat(self, heartbeat_database: Database) -> None:
        """The lease is counted from before the statement was sent, so that here it never outlives the one in the database."""
        sent_at = time.monotonic()
        attempts = dict(self._attempts)
        try:
            held_jobs = await jobs.heartbeat(
                heartbeat_database, self._id, [attempt.claim for attempt in attempts.values()], self._settings.lease
            )
        except (Unavailable, DBAPIError):  # however it failed, the leases run on
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

    async def _sweep(self) -> None:
        async with self._database.work(SYSTEM) as work:
            expired_ids = await jobs.reap(work, self._settings.lease, self._settings.max_losses)
        if expired_ids:
            telemetry.LEASES_SWEPT.inc(len(expired_ids))
            log.warning("leases_ran_out", jobs=[str(job_id) for job_id in expired_ids])
            self._poll_now.set()

    async def _maintenance_loop(self) -> None:
        """What recurs, whichever worker does it."""
        while True:
            await self._run_step(self._maintenance.run_due)
            await asyncio.sleep(self._maintenance.pause)


async def _unsupported(attempt: Attempt) -> Effects:
    kind = attempt.job.kind.name
    raise BodyFailed(Failure("NOT_SUPPORTED", f"This release has no way to run {kind} jobs.", retryable=False))


async def _cancel_all(loops: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: a client that loses its connection at that moment may swallow the cancel in its own clean-up."""
    pending = set(loops)
    while pending:
        for loop in pending:
            loop.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.5)
