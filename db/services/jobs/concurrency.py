"""Caps on what runs at once, kept exactly: whoever claims holds the owner and the queue while it counts and claims.

The locks are advisory and last for the transaction. Row locks would have to be ordered with those of every settle, which takes the job
first and its owner's counters after; these meet nothing but each other, and are always taken in the order of their numbers.
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

MAX_LOCK_TIMEOUT = 2.0  # seconds at most that a claim waits for another of the same owner or queue, or for a row


def _lock_statement() -> Select[int]:
    # Whatever has become of the jobs meanwhile: who claims others of the same owners and queues after this relies on it too.
    is_candidate = Job.id == any_(bindparam("the_jobs", type_=ARRAY(Uuid)))
    owner = func.hashtextextended(literal("running of owner ", Text) + cast(Job.owner_id, Text), 0)
    queue = func.hashtextextended(literal("running of queue ", Text) + Job.queue, 0)
    owners = select(cast(owner, BigInteger).label("number")).join(User, User.id == Job.owner_id).where(is_candidate)
    queues = select(cast(queue, BigInteger)).where(is_candidate, scheduling.queue_limit(Job.queue).is_not(None))
    lock_keys = union(owners.where(scheduling.owner_limit(User.tier).is_not(None)), queues).subquery("numbers")
    ordered = select(lock_keys.c.number).order_by(lock_keys.c.number).offset(0).subquery("ordered")  # the fence keeps the order of locking
    # A row even where there is nothing to lock, and CASE, which asks in this order: the limit holds before anything is waited for.
    set_lock_timeout = func.set_config("lock_timeout", bindparam("the_patience", type_=Text()), true())
    one_row = select(literal(1)).subquery("once")
    locked = case((set_lock_timeout.is_(None), 0), (func.pg_advisory_xact_lock(ordered.c.number).is_(None), 0), else_=1)
    return select(locked).select_from(one_row).outerjoin(ordered, true())


_LOCK_STATEMENT = _lock_statement()


async def lock_limits(work: Work, job_ids: Sequence[UUID], lease: float) -> None:
    """Wait until nobody else claims for the owners or in the queues of these jobs, as far as a cap is set for them.

    To be called before anything of them is locked. What is read after this has seen every claim that was made before. For no lock does
    this work wait longer than 2 s, or a fifth of the lease where that is less: whoever holds one for so long is frozen, and the slot is
    of more use to another job. Postgres breaks it off then, see `was_broken_off`.
    """
    lock_timeout = min(MAX_LOCK_TIMEOUT, lease / 5)
    await work.all(_LOCK_STATEMENT, {"the_jobs": list(job_ids), "the_patience": f"{max(1, round(lock_timeout * 1000))}ms"})


def has_limits() -> bool:
    """Whether there is any cap at all."""
    settings = state_settings()
    return any(settings.user_concurrency_limits.values()) or any(settings.queue_concurrency_limits.values())
