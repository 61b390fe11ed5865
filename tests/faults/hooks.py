"""Patches to workers under test: traced bodies, and on request a shifted clock, no fence or no deadlines.

All else of `trellis worker` is unchanged: claims, heartbeats, settles and shutdown.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import sys
import time
from typing import Any

TRACES = "FAULTS_TRACES"
CLOCK_SHIFT = "FAULTS_CLOCK"
NO_FENCE = "FAULTS_NO_FENCE"
NO_DEADLINE = "FAULTS_NO_DEADLINE"


def install() -> None:
    """Patch the product before any of it runs; its modules may have been imported."""
    if shift := float(os.environ.get(CLOCK_SHIFT, "0")):
        _shift_clock(shift)
    signal.signal(signal.SIGUSR1, _print_task_stacks)
    if traces := os.environ.get(TRACES):
        _trace_bodies(traces)
    if os.environ.get(NO_FENCE):
        _remove_fence()
    if os.environ.get(NO_DEADLINE):
        _remove_deadlines()


def _print_task_stacks(_number: int, _frame: object) -> None:
    """Print what a hanging worker waits for; on SIGUSR1."""
    for task in asyncio.all_tasks(asyncio.get_event_loop()):
        task.print_stack(file=sys.stderr)


def _trace_bodies(folder: str) -> None:
    from workers.runtime.attempt import Attempt

    run_body = Attempt.run_body

    async def traced(self: Attempt, target: str, spec: Any, **rest: Any) -> dict[str, Any]:
        request = {"target": target, "spec": dict(spec), "folder": folder, "job": self.job.id.hex, "attempt": self.job.attempt}
        return await run_body(self, "tests.faults.bodies:run", request, **rest)

    Attempt.run_body = traced  # pyright: ignore[reportAttributeAccessIssue] - a compatible signature


def _shift_clock(seconds: float) -> None:
    """Shift all wall clocks of this process, as on a machine with a wrong date; monotonic clocks stay."""
    true_time, true_ns, true_datetime = time.time, time.time_ns, dt.datetime
    time.time = lambda: true_time() + seconds
    time.time_ns = lambda: true_ns() + int(seconds * 1e9)

    class ShiftedMeta(type(true_datetime)):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, true_datetime)

    class ShiftedDatetime(true_datetime, metaclass=ShiftedMeta):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # pyright: ignore[reportIncompatibleMethodOverride] - a plain datetime, as C makes them
            return true_datetime.now(tz) + dt.timedelta(seconds=seconds)

        @classmethod
        def utcnow(cls) -> dt.datetime:  # pyright: ignore[reportIncompatibleMethodOverride] - as above
            return true_datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(seconds=seconds)

    dt.datetime = ShiftedDatetime  # pyright: ignore[reportAttributeAccessIssue] - a deliberate patch
    shifted = {id(true_time): time.time, id(true_ns): time.time_ns, id(true_datetime): ShiftedDatetime}
    for module in [*sys.modules.values()]:  # modules that imported one by name
        for name, value in [*getattr(module, "__dict__", {}).items()]:
            if id(value) in shifted:
                setattr(module, name, shifted[id(value)])


def _remove_fence() -> None:
    """Let any worker settle a job as COMPLETED and renew every lease, as an engine without a fence would."""
    from db.services import jobs
    from db.services.jobs import settling
    from db.services.jobs.transitions import JOB_BY_ID, TransitionStatement
    from db.tables.jobs import JobEventType
    from db.tables.jobstates import JobStatus
    from workers.runtime.reports import Reports

    settling._COMPLETE = TransitionStatement(JobStatus.COMPLETED, "settle", JobEventType.COMPLETED, JOB_BY_ID, error=None)

    async def heartbeat(_database: Any, _worker: Any, claims: Any, _lease: float) -> dict[Any, jobs.HeldJob]:
        return {claim.job_id: jobs.HeldJob(JobStatus.RUNNING, is_renewed=True) for claim in claims}

    async def flush(self: Reports, *, everything: bool = False) -> None:
        """Write nothing: reports would meet the fence and end the attempt."""

    jobs.heartbeat = heartbeat
    Reports.flush = flush


def _remove_deadlines() -> None:
    """Extend the forkserver's deadlines by an hour, so that a body outlives the lease of its frozen worker."""
    from workers.runtime.process_pool import ChildHandle

    set_limits = ChildHandle.set_limits

    def set_late_limits(self: ChildHandle, deadline: float | None, memory_limit: int | None) -> None:
        set_limits(self, None if deadline is None else deadline + 3600.0, memory_limit)

    ChildHandle.set_limits = set_late_limits
