"""The storage quota of an account.

An account uses the bytes of its stored objects, and those of uploads that may be in the store beside them: announced, completed and not yet
ingested, or kept by a failed ingest. Ingested, mismatched and expired uploads have given their bytes back.

Nothing is reserved by a counter. Whatever makes an account use more inserts its rows, then locks the user's row just before the commit
(`Work.before_commit`) and sums: of concurrent units of work, each sees those that committed before it, so together they take what fits.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import BigInteger, Text, Uuid, bindparam, cast, func, literal_column, select

from db.core.work import Work
from db.errors import QuotaExceeded
from db.settings import state_settings
from db.tables import Upload, User
from db.tables.datasets import HOLDING_UPLOAD_STATES

RESOURCE = "storage bytes"

# The states are literals: with parameters, a generic plan cannot use the partial index.
_HOLDS = Upload.state.in_([literal_column(f"'{state.value}'", Text) for state in HOLDING_UPLOAD_STATES])
_UPLOADED = select(func.coalesce(func.sum(Upload.size_bytes), 0)).where(Upload.owner_id == User.id, _HOLDS).scalar_subquery()
_OWNER_ID = bindparam("p_owner_id", type_=Uuid())
USED = select(User.storage_bytes + cast(_UPLOADED, BigInteger)).where(User.id == _OWNER_ID)
"""Select the bytes that the account `p_owner_id` uses."""
_LOCK = select(User.id).where(User.id == _OWNER_ID).with_for_update(key_share=True)


def require_space(used: int) -> None:
    """Raise `QuotaExceeded` for an account at its quota, which could keep nothing of what a new job makes."""
    limit = state_settings().storage_quota_bytes
    if 0 < limit <= used:
        raise QuotaExceeded(RESOURCE, limit, used)


def check_before_commit(work: Work, owner_id: UUID, added: int = 0) -> None:
    """Raise `QuotaExceeded` before the commit if the account then uses more than its quota. Its `used` is without `added`, the bytes that the
    unit of work announces."""
    limit = state_settings().storage_quota_bytes
    if limit == 0:
        return

    async def check() -> None:
        await work.run(_LOCK, {"p_owner_id": owner_id})
        # Another statement, whose snapshot has what committed while this one waited for the lock.
        used = await work.scalar(USED, {"p_owner_id": owner_id})
        if used > limit:
            raise QuotaExceeded(RESOURCE, limit, used - added)

    work.before_commit(owner_id, check)
