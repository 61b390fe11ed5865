"""Checkpoints, from which the next attempt resumes. Only the attempt that holds the job writes them; they are deleted when the job ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Text, any_, bindparam, delete, literal_column, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.work import Database, Work
from db.services.jobs.transitions import Claim, lock_if_held
from db.tables import JobCheckpoint


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`position` counts what is done and only grows. The object, if any, is stored before the row names it."""

    name: str
    position: int
    state: dict[str, Any]
    object_key: str | None = None
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class SaveResult:
    """`is_held`: the attempt still holds the job. `is_current`: this checkpoint was written. `replaced`: key of the object that it replaced."""

    is_held: bool
    is_current: bool
    replaced: str | None = None


_OF_JOB = select(*JobCheckpoint.__table__.c).where(JobCheckpoint.job_id == bindparam("p_job_id"))


def _save_statement() -> Any:
    columns = ("name", "attempt", "position", "state", "object_key", "size_bytes", "sha256")
    types: dict[str, Any] = {"position": BigInteger(), "state": JSONB(), "size_bytes": BigInteger()}
    values = {column: bindparam(f"new_{column}", type_=types.get(column)) for column in columns}
    statement = upsert(JobCheckpoint).values(job_id=bindparam("new_job"), **values)
    updates = {column: statement.excluded[column] for column in (*columns[1:], "created_at")}
    statement = statement.on_conflict_do_update(
        index_elements=["job_id", "name"], set_=updates, where=JobCheckpoint.position < statement.excluded.position
    )
    return statement.returning(literal_column("old.object_key", Text()).label("replaced"))


_SAVE_STATEMENT = _save_statement()


async def save(work: Work, claim: Claim, checkpoint: Checkpoint) -> SaveResult:
    """Write the checkpoint unless the claim is lost or the stored checkpoint of this name has the same or a later position."""
    if not await lock_if_held(work, claim):
        return SaveResult(is_held=False, is_current=False)
    row = await work.first(
        _SAVE_STATEMENT,
        {
            "new_job": claim.job_id,
            "new_name": checkpoint.name,
            "new_attempt": claim.attempt,
            "new_position": checkpoint.position,
            "new_state": checkpoint.state,
            "new_object_key": checkpoint.object_key,
            "new_size_bytes": checkpoint.size,
            "new_sha256": checkpoint.sha256,
        },
    )
    return SaveResult(is_held=True, is_current=row is not None, replaced=None if row is None else row.replaced)


async def load(database: Database, job_id: UUID) -> dict[str, Checkpoint]:
    """Return the job's checkpoints by name."""
    rows = await database.rows(_OF_JOB, {"p_job_id": job_id})
    return {row.name: Checkpoint(row.name, row.position, row.state, row.object_key, row.size_bytes, row.sha256) for row in rows}


async def drop(work: Work, claim: Claim, names: Sequence[str]) -> list[str] | None:
    """Delete checkpoints. Return the keys of their objects, to be deleted after the commit; None if the claim is lost."""
    if not await lock_if_held(work, claim):
        return None
    condition = (JobCheckpoint.job_id == claim.job_id) & (JobCheckpoint.name == any_(bindparam("p_names", type_=ARRAY(Text))))
    deleted = await work.all(delete(JobCheckpoint).where(condition).returning(JobCheckpoint.object_key), {"p_names": list(names)})
    return [row.object_key for row in deleted if row.object_key is not None]


async def delete_all(work: Work, job_id: UUID) -> None:
    """Delete the checkpoints of a job that has ended. Its worker deletes the objects; those it misses are collected as orphans."""
    await work.run(delete(JobCheckpoint).where(JobCheckpoint.job_id == job_id))
