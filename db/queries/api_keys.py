"""Queries of API keys. The columns that sign-ins read are in `db.queries.accounts`; no query selects the hash of a token."""

from __future__ import annotations

from sqlalchemy import select

from db.core.batch import rows_by_key
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import ApiKey, User


def api_keys(viewer: Viewer) -> Rows:
    """The keys that a viewer may see, revoked and expired ones included; `owner_role` limits what the scopes allow."""
    return (
        select(
            ApiKey.id,
            ApiKey.user_id,
            ApiKey.name,
            ApiKey.prefix.label("shown_prefix"),  # `Node` has a prefix of ids
            ApiKey.scopes.label("given_scopes"),
            User.role.label("owner_role"),
            ApiKey.points_per_minute,
            ApiKey.created_at,
            ApiKey.expires_at,
            ApiKey.last_used_at,
            ApiKey.revoked_at,
        )
        .join(User, User.id == ApiKey.user_id)
        .where(visible(ApiKey, viewer))
    )


by_id = rows_by_key(api_keys, ApiKey.id)
listing = Listing(api_keys, lambda _: Sort("createdAt", ApiKey.created_at, ApiKey.id))
