"""Register worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, insert, update

from db.core.work import Work
from db.services.jobs import uptime
from db.tables import Worker


async def register(work: Work, name: str, queues: Sequence[str], slots: int, extras: Sequence[str] | None = None) -> UUID:
    """Register a process that serves `queues`, routes included, and has these `extras`, if it says; `name` must be unique among all registered workers."""
    await work.run(uptime.record_start())
    values = {"name": name, "queues": list(queues), "slots": slots, "extras": None if extras is None else list(extras)}
    return await work.scalar(insert(Worker).values(values).returning(Worker.id))


async def heartbeat(work: Work, worker_id: UUID) -> None:
    """Record a heartbeat of the process; `jobs.heartbeat` does so together with its leases."""
    await work.run(update(Worker).where(Worker.id == worker_id).values(heartbeat_at=func.clock_timestamp(), stopped_at=None))


async def stop(work: Work, worker_id: UUID) -> None:
    """Mark the process as stopped."""
    await work.run(update(Worker).where(Worker.id == worker_id, Worker.stopped_at.is_(None)).values(stopped_at=func.clock_timestamp()))
