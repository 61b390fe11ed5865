"""What accounts store, and how much they may store. The settings are read when a statement runs."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import BigInteger, ColumnElement, Text, bindparam, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import JSONB

from db.core.batch import rows_by_key
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import UserTier, Viewer
from db.settings import state_settings
from db.tables import Upload, User
from db.tables.datasets import HOLDING_UPLOAD_STATES

# The states are literals: with parameters, a generic plan cannot use the partial index.
_HOLDS = Upload.state.in_([literal_column(f"'{state.value}'", Text) for state in HOLDING_UPLOAD_STATES])
_UPLOADED = select(func.coalesce(func.sum(Upload.size_bytes), 0)).where(Upload.owner_id == User.id, _HOLDS)

PENDING: ColumnElement[int] = cast(_UPLOADED.scalar_subquery(), BigInteger)
"""The announced bytes of a user's uploads that are not ingested, and may be in the store."""


def _quota_by_tier() -> Mapping[str, int]:
    settings = state_settings()
    return {tier.value: settings.storage_quotas.get(tier.value, settings.storage_quota_bytes) for tier in UserTier}


_QUOTA_BY_TIER = bindparam("storage_quota_by_tier", callable_=_quota_by_tier, type_=JSONB)
_OF_TIER = func.nullif(cast(_QUOTA_BY_TIER.op("->>")(cast(User.tier, Text)), BigInteger), 0)

QUOTA: ColumnElement[int | None] = func.coalesce(User.storage_quota_bytes, _OF_TIER)
"""The bytes that a user may store: their own quota, or that of their tier; null if there is no limit."""


def _uses(viewer: Viewer) -> Rows:
    columns = (User.id, User.storage_bytes.label("used_bytes"), PENDING.label("pending_bytes"), QUOTA.label("quota_bytes"))
    return select(*columns).where(visible(User, viewer))


use_by_user = rows_by_key(_uses, User.id)
"""By user: `used_bytes` and `pending_bytes`, which both count in `quota_bytes`."""
