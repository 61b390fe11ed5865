"""Caps on what runs at once, kept exactly: whoever claims holds the owner and the queue while it counts and claims.

The locks are advisory and last for the transaction. Row locks would have to be ordered with those of every settle, which takes the job
first and its owner's counters after; these meet nothing but each other, and are always taken in the order of their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import BigInteger, Select, Text, Uuid, any_, bindparam, case, cast, func, literal, select, union
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.work import Work
from db.queries import line
from db.settings import state_settings
from db.tables import Job, User


def _locking() -> Select[int]:
    # Whatever has become of the jobs meanwhile: who claims others of the same owners and queues after this relies on it too.
    mine = Job.id == any_(bindparam("the_jobs", type_=ARRAY(Uuid)))
    owner = func.hashtextextended(literal("running of owner ", Text) + cast(Job.owner_id, Text), 0)
    queue = func.hashtextextended(literal("running of queue ", Text) + Job.queue, 0)
    owners = select(cast(owner, BigInteger).label("number")).join(User, User.id == Job.owner_id).where(mine)
    queues = select(cast(queue, BigInteger)).where(mine, line.cap_of_queue(Job.queue).is_not(None))
    numbers = union(owners.where(line.cap_of_owner(User.tier).is_not(None)), queues).subquery("numbers")
    ordered = select(numbers.c.number).order_by(numbers.c.number).offset(0).subquery("ordered")  # the fence keeps the order of locking
    return select(case((func.pg_advisory_xact_lock(ordered.c.number).is_(None), 0), else_=1))


_LOCKING = _locking()


async def hold(work: Work, job_ids: Sequence[UUID]) -> None:
    """Wait until nobody else claims for the owners or in the queues of these jobs, as far as a cap is set for them.

    To be called before anything of them is locked. What is read after this has seen every claim that was made before.
    """
    if capped():
        await work.all(_LOCKING, {"the_jobs": list(job_ids)})


def capped() -> bool:
    """Whether there is any cap at all."""
    settings = state_settings()
    return any(settings.running_per_user.values()) or any(settings.running_per_queue.values())
