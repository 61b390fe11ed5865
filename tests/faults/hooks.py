"""What the harness changes in a worker of the product: its bodies leave traces, and where asked its clock is off, or its fence or
its deadlines are gone.

Nothing else of `trellis worker` is touched: it claims, pulses, settles and dies as it is.
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
CLOCK = "FAULTS_CLOCK"
NO_FENCE = "FAULTS_NO_FENCE"
NO_DEADLINE = "FAULTS_NO_DEADLINE"


def install() -> None:
    """Called before anything of the product runs; it may have been imported."""
    if shift := float(os.environ.get(CLOCK, "0")):
        _shift_clock(shift)
    signal.signal(signal.SIGUSR1, _say_where)
    if traces := os.environ.get(TRACES):
        _trace_bodies(traces)
    if os.environ.get(NO_FENCE):
        _remove_fence()
    if os.environ.get(NO_DEADLINE):
        _remove_deadlines()


def _say_where(_number: int, _frame: object) -> None:
    """For the harness to ask a worker that does not end what it waits for."""
    for task in asyncio.all_tasks(asyncio.get_event_loop()):
        task.print_stack(file=sys.stderr)


def _trace_bodies(folder: str) -> None:
    from workers.runtime.attempt import Attempt

    body = Attempt.body

    async def traced(self: Attempt, target: str, spec: Any, **rest: Any) -> dict[str, Any]:
        told = {"target": target, "spec": dict(spec), "folder": folder, "job": self.job.id.hex, "attempt": self.job.attempt}
        return await body(self, "tests.faults.bodies:run", told, **rest)

    Attempt.body = traced  # pyright: ignore[reportAttributeAccessIssue] - the same signature, loosely


def _shift_clock(seconds: float) -> None:
    """All wall clocks of this process; what counts intervals is left alone, as on a machine whose date is wrong."""
    true_time, true_ns, true_datetime = time.time, time.time_ns, dt.datetime
    time.time = lambda: true_time() + seconds
    time.time_ns = lambda: true_ns() + int(seconds * 1e9)

    class Kind(type(true_datetime)):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, true_datetime)

    class Shifted(true_datetime, metaclass=Kind):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # pyright: ignore[reportIncompatibleMethodOverride] - a plain datetime, as C makes them
            return true_datetime.now(tz) + dt.timedelta(seconds=seconds)

        @classmethod
        def utcnow(cls) -> dt.datetime:  # pyright: ignore[reportIncompatibleMethodOverride] - as above
            return true_datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(seconds=seconds)

    dt.datetime = Shifted  # pyright: ignore[reportAttributeAccessIssue] - that is the point
    shifted = {id(true_time): time.time, id(true_ns): time.time_ns, id(true_datetime): Shifted}
    for module in [*sys.modules.values()]:  # those that took one by its name
        for name, value in [*getattr(module, "__dict__", {}).items()]:
            if id(value) in shifted:
                setattr(module, name, shifted[id(value)])


def _remove_fence() -> None:
    """COMPLETED by whoever names the job, and a pulse that says yes to everyone: what an engine without a fence does."""
    from db.services import jobs
    from db.services.jobs import settling
    from db.services.jobs.transitions import THE_JOB, Step
    from db.tables.jobs import JobEventType
    from db.tables.jobstates import JobStatus
    from workers.runtime.reports import Reports

    settling._COMPLETE = Step(JobStatus.COMPLETED, "settle", JobEventType.COMPLETED, THE_JOB, error=None)

    async def pulse(_database: Any, _worker: Any, claims: Any, _lease: float) -> dict[Any, jobs.Held]:
        return {claim.job_id: jobs.Held(JobStatus.RUNNING, is_renewed=True) for claim in claims}

    async def flush(self: Reports, *, everything: bool = False) -> None:
        """Reports would meet the fence, and end the attempt."""

    jobs.pulse = pulse
    Reports.flush = flush


def _remove_deadlines() -> None:
    """The supervisor is told of a lease that never ends: a body outlives its frozen worker's claim."""
    from workers.runtime.child import Child

    arm = Child.arm

    def armed(self: Child, until: float, memory: int) -> None:
        arm(self, until + 3600.0, memory)

    Child.arm = armed
