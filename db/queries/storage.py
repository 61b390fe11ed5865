"""What accounts store, and how much they may store. The settings are read when a statement runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, ScalarSelect, Text, and_, bindparam, case, cast, exists, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased

from db.core.batch import rows_by_key
from db.core.policy import visible_or_shipped
from db.core.sql import Rows
from db.core.viewer import UserTier, Viewer
from db.settings import state_settings
from db.tables import ArtifactUpload, Membership, Upload, User
from db.tables.datasets import HOLDING_UPLOAD_STATES

# The states are literals: with parameters, a generic plan cannot use the partial index.
_HOLDS = Upload.state.in_([literal_column(f"'{state.value}'", Text) for state in HOLDING_UPLOAD_STATES])


def _pending(account: Any) -> ColumnElement[int]:
    uploaded = select(func.coalesce(func.sum(Upload.size_bytes), 0)).where(Upload.owner_id == account.id, _HOLDS)
    files = select(func.coalesce(func.sum(ArtifactUpload.size_bytes), 0)).where(
        ArtifactUpload.owner_id == account.id, ArtifactUpload.state == literal_column("'open'", Text)
    )
    return cast(uploaded.scalar_subquery() + files.scalar_subquery(), BigInteger)


PENDING = _pending(User)
"""The announced bytes of a user's uploads that are not ingested or completed, and may be in the store."""


def _counts_in_maker(account: Any) -> ColumnElement[bool]:
    """Whether an account is a team without a quota of its own whose maker is still in it: who has left pays for nothing more.

    The kind is a literal, as the states are.
    """
    has_maker = exists().where(Membership.team_id == account.id, Membership.user_id == account.created_by_id)
    return and_(account.kind == literal_column("'team'", Text), account.storage_quota_bytes == 0, has_maker)


def payer(owner_id: ColumnElement[UUID]) -> ScalarSelect[UUID]:
    """The account in whose limits the owner counts: itself, or the maker of a team without a quota of its own, while they are in it."""
    account = aliased(User, name="account")
    return (
        select(case((_counts_in_maker(account), account.created_by_id), else_=account.id)).where(account.id == owner_id).scalar_subquery()
    )


def _used_together() -> ColumnElement[int]:
    """The bytes that count in the quota of the account in `users`: its own, and those of the teams that it made and that have none."""
    account = aliased(User, name="account")
    is_counted = or_(account.id == User.id, and_(account.created_by_id == User.id, _counts_in_maker(account)))
    return cast(select(func.sum(account.storage_bytes + _pending(account))).where(is_counted).scalar_subquery(), BigInteger)


USED_TOGETHER = _used_together()


def _quota_by_tier() -> Mapping[str, int]:
    settings = state_settings()
    return {tier.value: settings.storage_quotas.get(tier.value, settings.storage_quota_bytes) for tier in UserTier}


_QUOTA_BY_TIER = bindparam("storage_quota_by_tier", callable_=_quota_by_tier, type_=JSONB)
_OF_TIER = func.nullif(cast(_QUOTA_BY_TIER.op("->>")(cast(User.tier, Text)), BigInteger), 0)

QUOTA: ColumnElement[int | None] = func.coalesce(User.storage_quota_bytes, _OF_TIER)
"""The bytes that a user may store: their own quota, or that of their tier; null if there is no limit."""


def _uses(viewer: Viewer) -> Rows:
    columns = (User.id, User.storage_bytes.label("used_bytes"), PENDING.label("pending_bytes"), QUOTA.label("quota_bytes"))
    return select(*columns).where(visible_or_shipped(User, viewer))


use_by_user = rows_by_key(_uses, User.id)
"""By user: `used_bytes` and `pending_bytes`, which both count in `quota_bytes`."""
