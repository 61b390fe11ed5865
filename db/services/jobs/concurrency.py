"""Exact concurrency limits: a claim locks its owner and queue while it counts running jobs.

The locks are advisory and last for the transaction. Row locks would have to be ordered with those of every settle, which locks the job
first and its owner's counters after. These locks conflict only with each other, and are always taken in ascending order of their keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import BigInteger, Select, Text, Uuid, any_, bindparam, case, cast, func, literal, select, true, union
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.work import Work
from db.queries import scheduling
from db.settings import state_settings
from db.tables import Job, User

MAX_LOCK_TIMEOUT = 2.0  # seconds for which a claim waits for a lock at most


def _lock_statement() -> Select[int]:
    # No condition on the jobs' status: `claim_waiting` may then claim other jobs of the same owners and queues.
    is_candidate = Job.id == any_(bindparam("p_job_ids", type_=ARRAY(Uuid)))
    owner = func.hashtextextended(literal("running of owner ", Text) + cast(scheduling.payer(), Text), 0)
    queue = func.hashtextextended(literal("running of queue ", Text) + Job.queue, 0)
    owners = select(cast(owner, BigInteger).label("lock_key")).join(User, User.id == scheduling.payer()).where(is_candidate)
    queues = select(cast(queue, BigInteger)).where(is_candidate, scheduling.queue_limit(Job.queue).is_not(None))
    lock_keys = union(owners.where(scheduling.owner_limit(User.tier).is_not(None)), queues).subquery("lock_keys")
    ordered = (
        select(lock_keys.c.lock_key).order_by(lock_keys.c.lock_key).offset(0).subquery("ordered")
    )  # OFFSET 0 keeps the planner from dropping the order
    # CASE evaluates in order, and there is one row even without locks: lock_timeout is set before anything waits.
    set_lock_timeout = func.set_config("lock_timeout", bindparam("p_lock_timeout", type_=Text()), true())
    one_row = select(literal(1)).subquery("one_row")
    locked = case((set_lock_timeout.is_(None), 0), (func.pg_advisory_xact_lock(ordered.c.lock_key).is_(None), 0), else_=1)
    return select(locked).select_from(one_row).outerjoin(ordered, true())


_LOCK_STATEMENT = _lock_statement()


async def lock_limits(work: Work, job_ids: Sequence[UUID], lease: float) -> None:
    """Lock the owners and queues of these jobs, where they have a concurrency limit, against other claims until the transaction ends.

    To be called before any row of the jobs is locked; later statements see every claim that was made before. Also sets `lock_timeout`
    for the transaction to 2 s, or a fifth of the lease where that is less: a process that holds a lock for longer is frozen, and the
    slot is of more use to another job. PostgreSQL aborts the transaction then (SQLSTATE 55P03), see `db.core.database_errors.is_transient`.
    """
    lock_timeout = min(MAX_LOCK_TIMEOUT, lease / 5)
    await work.all(_LOCK_STATEMENT, {"p_job_ids": list(job_ids), "p_lock_timeout": f"{max(1, round(lock_timeout * 1000))}ms"})


def has_limits() -> bool:
    """Whether any concurrency limit is set."""
    settings = state_settings()
    return any(settings.user_concurrency_limits.values()) or any(settings.queue_concurrency_limits.values())
