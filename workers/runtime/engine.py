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
from db.core.work import Database, was_broken_off
from db.errors import Unavailable
from db.services import chores, jobs, workers
from db.services.jobs import Failure
from db.services.jobs.transitions import BACK, CANCELLED, ENDED
from db.settings import state_settings
from db.stores.events import BELLS, listen
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus
from workers.runtime import telemetry
from workers.runtime.attempt import Attempt, Effects, Stop, Task, Tools
from workers.runtime.bells import Bells
from workers.runtime.bodies import BodyFailed
from workers.runtime.chores import Chores

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PAUSE = 0.5  # seconds before Postgres is asked again after it did not answer
GIVING_BACK = 1.0  # seconds that jobs take to be given back, unless the store is slow to take their logs and checkpoints
FAREWELL = 3.0  # seconds that telling Postgres of the end may take
CHEAP = 0.02  # seconds that a look may take for the next to follow at once
RESPITE = 0.2  # seconds at most between two looks that are dearer
RUNG = "rung:"  # somebody invited to jobs of this queue


class Engine:
    """Runs until `stop`. Every loop outlives a Postgres or a Redis that is away for a while."""

    def __init__(self, tools: Tools, redis_url: str, queues: Sequence[str], tasks: Mapping[JobKind, Task]) -> None:
        self._tools = tools
        self._database = tools.database
        self._settings = tools.settings
        self._redis_url = redis_url
        self._queues = list(queues)
        self._tasks = tasks
        self._slots = tools.settings.slot_count()
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._id: UUID
        self._attempts: dict[UUID, Attempt] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._claiming = 0
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._nudged = asyncio.Event()
        self._beat = asyncio.Event()
        self._waits = False  # whether there was work at the last look; perhaps it is only held back by a cap
        self._bells = Bells(
            redis_url, self._queues, self._slots, lambda: self._free, self._answer, lambda ids: jobs.invited(self._database, ids)
        )
        self._chores = Chores(chores.Ground(tools.database, tools.objects, state_settings()), self._name)

    @property
    def _free(self) -> int:
        return 0 if self._stopping.is_set() else self._slots - len(self._running) - self._claiming

    def stop(self) -> None:
        """Take no more jobs; give those that run the grace time, then give them back. Told again, do not wait."""
        (self._hurry if self._stopping.is_set() else self._stopping).set()

    async def run(self) -> None:
        """Work until told to stop."""
        if not await self._register():
            return
        telemetry.SLOTS.set(self._slots)
        telemetry.USED.set_function(lambda: len(self._running))
        log.info("worker_ready", worker=self._name, queues=self._queues, slots=self._slots)
        loops = [
            asyncio.create_task(loop, name=name)
            for name, loop in {
                "pulse": self._keep_pulsing(),
                "look": self._keep_looking(),
                "chores": self._keep_house(),
                "nudges": self._keep_hearing(),
                "bells": self._bells.run(),
            }.items()
        ]
        try:
            await self._stopping.wait()
            await self._finish()
        finally:
            await _end(loops)
        with suppress(Unavailable, TimeoutError):  # without a word it counts as stopped once it has been silent for a while
            async with asyncio.timeout(FAREWELL), self._database.work(SYSTEM) as work:
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
                    async with asyncio.timeout(PAUSE):
                        await self._stopping.wait()
            else:
                return True
        return False

    async def _make_partitions(self) -> None:
        """Before the first job: after a long rest even this month's may be missing."""
        try:
            async with self._database.work(SYSTEM) as work:
                await work.scalar(select(func.trellis_make_partitions(chores.PARTITIONS_AHEAD)))
        except DBAPIError as error:  # the chore tells an operator what to do; the jobs go on, in the default partitions
            log.warning("partitions_not_made", error=str(error.orig))

    async def _finish(self) -> None:
        """Short bodies get their time; the others go back, no try used. What giving back usually takes is kept of the grace time for it."""
        grace = self._settings.grace
        if self._running:
            hurry = asyncio.create_task(self._hurry.wait())
            done = asyncio.ensure_future(asyncio.gather(*self._running, return_exceptions=True))
            await asyncio.wait([hurry, done], timeout=grace - min(grace / 3, GIVING_BACK), return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
        while self._running or self._claiming:  # a claim that is under way may still become an attempt
            for attempt in self._attempts.values():
                attempt.stop(Stop.GIVE_BACK)
            await asyncio.wait([*self._running, asyncio.create_task(asyncio.sleep(0.1))], return_when=asyncio.FIRST_COMPLETED)

    async def _keep_looking(self) -> None:
        """Each second, so that a nudge that was lost costs no more; and at once on a nudge, however many come."""
        looked = time.monotonic()
        while True:
            # However many nudges come, what they do not tell of (a lease that ran out) is looked for each second too.
            left = looked + self._settings.look - time.monotonic()
            nudged = left > 0 and await self._wait(self._nudged, left)
            if not nudged:
                looked = time.monotonic()
            began = time.monotonic()
            await self._attempted(lambda nudged=nudged: self._look(nudged=nudged))
            # Every job that ends nudges. Where the line is long each look sorts it, and the looks of many workers would leave Postgres
            # no time for anything else; a nudge that comes meanwhile is not lost, and the first after a rest waits for nothing.
            await asyncio.sleep(min(4 * max(time.monotonic() - began - CHEAP, 0.0), RESPITE))

    async def _forever(self, step: Callable[[], Awaitable[None]], every: float, wake: asyncio.Event) -> None:
        while True:
            await self._attempted(step)
            await self._wait(wake, every)

    @staticmethod
    async def _attempted(step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Unavailable as error:
            log.warning("postgres_does_not_answer", error=error.detail)
            await asyncio.sleep(PAUSE)
        except DBAPIError as error:
            told = log.warning if was_broken_off(error) else log.exception
            told("step_failed", error=str(error.orig))
            await asyncio.sleep(PAUSE)
        except Exception:  # a loop of the worker outlives every failure of one of its rounds
            log.exception("step_failed")
            await asyncio.sleep(PAUSE)

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

    async def _keep_hearing(self) -> None:
        while True:
            await self._attempted(self._hear_nudges)

    async def _hear_nudges(self) -> None:
        async with aclosing(listen(self._redis_url, BELLS)) as bells:
            async for bell in bells:
                if bell is None:
                    self._nudged.set()
                else:
                    self._hear(bell.decode(errors="replace"))  # anybody may publish anything

    def _hear(self, bell: str) -> None:
        queue = bell.removeprefix(BACK)
        if queue in self._queues:
            self._waits = True
            self._nudged.set()
        elif bell == str(self._id):
            self._beat.set()
        elif bell.startswith(RUNG):
            if (name := bell.removeprefix(RUNG)) in self._queues:
                self._bells.wake(name)
        elif bell == ENDED or bell.startswith((BACK, CANCELLED)):
            if self._waits:  # a cap may have room now, wherever the job ran that made it
                self._nudged.set()
            name, _, job = bell.removeprefix(CANCELLED).partition(":")
            if bell.startswith(CANCELLED) and name in self._queues:
                self._bells.cancelled(name, job)

    async def _look(self, *, nudged: bool) -> None:
        """One statement when there is nothing to do. What is waiting is rung for; without Redis it is taken at once."""
        waits, expired = nudged, False
        if not nudged:
            self._waits, expired = waits, _ = await jobs.look(
                self._database, self._queues, self._settings.ring_again if self._bells.sound else 0.0
            )
        if expired:
            await self._sweep()
        if waits and self._free > 0 and not await self._dispatch():
            await self._take()

    async def _dispatch(self) -> bool:
        """False when Redis carries no invitations."""
        if not self._bells.sound:
            return False
        async with self._database.work(SYSTEM) as work:
            rings = await jobs.dispatch(work, self._queues, self._settings.ring_again)
        return not rings or await self._bells.ring(rings)

    async def _take(self) -> None:
        free = self._free
        with self._claims(free):
            async with self._database.work(SYSTEM) as work:
                until = time.monotonic() + self._settings.lease
                taken = await jobs.claim_waiting(work, self._queues, free, self._id, self._name, self._settings.lease)
            for job in taken:
                self._begin(job, until)

    async def _answer(self, job_id: UUID) -> None:
        """Somebody rang for this job: the slot first, then the row; no row, no work."""
        if self._free <= 0:
            return
        with self._claims(1):
            until = time.monotonic() + self._settings.lease
            async with self._database.work(SYSTEM) as work:
                job = await jobs.claim(work, job_id, self._id, self._name, self._settings.lease)
            if job is not None:
                self._begin(job, until)

    @contextmanager
    def _claims(self, slots: int) -> Generator[None]:
        """So many slots are spoken for. A claim that was broken off (somebody holds a lock for too long) is no job now, and no fault."""
        self._claiming += slots
        try:
            yield
        except DBAPIError as error:
            if not was_broken_off(error):
                raise
            log.warning("claim_broken_off", error=str(error.orig))
        finally:
            self._claiming -= slots

    def _begin(self, job: Row[Any], until: float) -> None:
        telemetry.taken(job)
        if until < time.monotonic() + self._settings.lease / 2:  # the claim had to wait, and the lease has run meanwhile
            self._beat.set()
        attempt = self._attempts[job.id] = Attempt(self._tools, job, until)
        running = asyncio.create_task(attempt.run(self._tasks.get(job.kind, _unknown)), name=f"attempt of {job.id}")
        self._running.add(running)
        running.add_done_callback(lambda _: self._ended(job.id, attempt, running))

    def _ended(self, job_id: UUID, attempt: Attempt, running: asyncio.Task[None]) -> None:
        self._running.discard(running)
        if self._attempts.get(job_id) is attempt:
            del self._attempts[job_id]
        self._nudged.set()
        self._bells.wake()

    # Keeping them

    async def _keep_pulsing(self) -> None:
        async with self._database.apart(1) as lifeline:
            await self._forever(lambda: self._pulse(lifeline), self._settings.pulse, self._beat)

    async def _pulse(self, lifeline: Database) -> None:
        """The lease is counted from before the statement was sent, so that here it never outlives the one in the database."""
        sent = time.monotonic()
        mine = dict(self._attempts)
        try:
            held = await jobs.pulse(lifeline, self._id, [attempt.claim for attempt in mine.values()], self._settings.lease)
        except (Unavailable, DBAPIError):  # however it failed, the leases run on
            for attempt in mine.values():
                if time.monotonic() > attempt.until:
                    attempt.stop(Stop.LOST)
            raise
        for job_id, attempt in mine.items():
            found = held.get(job_id)
            if found is None:
                attempt.stop(Stop.LOST)
                continue
            if found.is_renewed:
                attempt.renew(sent + self._settings.lease)
            if found.status is JobStatus.CANCELLING:
                attempt.stop(Stop.CANCEL)

    async def _sweep(self) -> None:
        async with self._database.work(SYSTEM) as work:
            gone = await jobs.sweep(work, self._settings.lease, self._settings.max_losses)
        if gone:
            telemetry.SWEPT.inc(len(gone))
            log.warning("leases_ran_out", jobs=[str(job_id) for job_id in gone])
            self._nudged.set()

    async def _keep_house(self) -> None:
        """What recurs, whichever worker does it."""
        while True:
            await self._attempted(self._chores.round)
            await asyncio.sleep(self._chores.pause)


async def _unknown(attempt: Attempt) -> Effects:
    kind = attempt.job.kind.name
    raise BodyFailed(Failure("NOT_SUPPORTED", f"This release has no way to run {kind} jobs.", retryable=False))


async def _end(loops: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: a client that loses its connection at that moment may swallow the cancel in its own clean-up."""
    waiting = set(loops)
    while waiting:
        for loop in waiting:
            loop.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=0.5)
