"""The storage quota of an account.

An account uses the bytes of its stored objects, and those of uploads that may be in the store beside them: announced, completed and not yet
ingested, or kept by a failed ingest. Ingested, mismatched and expired uploads have given their bytes back.

Nothing is reserved by a counter. Whatever makes an account use more inserts its rows, then locks the user's row just before the commit
(`Work.before_commit`) and sums. A team without a quota of its own counts in its maker's, so it is the maker's row that is locked: of
concurrent units of work, each sees those that committed before it, so together they take what fits.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, Uuid, bindparam, func, select, update

from db.core.work import Work
from db.errors import QuotaExceeded
from db.queries.storage import QUOTA, USED_TOGETHER, payer
from db.services import events
from db.tables import User
from db.tables.notifications import EventType

RESOURCE = "storage bytes"
NEAR = 0.9  # of the quota, from which on its account is told

_OWNER_ID = bindparam("p_owner_id", type_=Uuid())
_IS_PAYER = User.id == payer(_OWNER_ID)
USE = select(
    User.id.label("payer_id"), User.username, User.quota_near_since, USED_TOGETHER.label("used_bytes"), QUOTA.label("quota_bytes")
).where(_IS_PAYER)
"""Select the account in whose limits the account `p_owner_id` counts, the bytes that count there, and the quota, null without one."""
_LOCK = select(User.id).where(_IS_PAYER, QUOTA.is_not(None)).with_for_update(key_share=True)


def require_space(used: int, quota: int | None) -> None:
    """Raise `QuotaExceeded` for an account at its quota, which could keep nothing of what a new job makes."""
    if quota is not None and quota <= used:
        raise QuotaExceeded(RESOURCE, quota, used)


def check_before_commit(work: Work, owner_id: UUID, added: int = 0) -> None:
    """Raise `QuotaExceeded` before the commit if the account then uses more than its quota. Its `used` is without `added`, the bytes that the
    unit of work announces."""

    async def check() -> None:
        if await work.scalar(_LOCK, {"p_owner_id": owner_id}) is None:
            return
        # Another statement, whose snapshot has what committed while this one waited for the lock.
        use = await work.one(USE, {"p_owner_id": owner_id})
        if use.quota_bytes is not None and use.used_bytes > use.quota_bytes:
            raise QuotaExceeded(RESOURCE, use.quota_bytes, use.used_bytes - added)
        await _note_nearness(work, use)

    work.before_commit(owner_id, check)


async def _note_nearness(work: Work, use: Row[Any]) -> None:
    """Add an event when an account comes near its quota; the next one once it was below that again. Its row is locked."""
    is_near = use.quota_bytes is not None and use.used_bytes >= NEAR * use.quota_bytes
    if is_near == (use.quota_near_since is not None):
        return
    await work.run(update(User).where(User.id == use.payer_id).values(quota_near_since=func.clock_timestamp() if is_near else None))
    if is_near:
        await events.add(work, EventType.QUOTA_NEAR, use.payer_id, subject_id=f"user_{use.payer_id.hex}", name=use.username)
