"""Queries of passkeys. No query selects a key, or the id that the device gave it."""

from __future__ import annotations

from sqlalchemy import select

from db.core.batch import rows_by_key, rows_by_parent
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables.passkeys import Passkey


def passkeys(viewer: Viewer) -> Rows:
    """The passkeys that a viewer may see."""
    columns = (Passkey.id, Passkey.user_id, Passkey.name, Passkey.is_backed_up, Passkey.created_at, Passkey.last_used_at)
    return select(*columns).where(visible(Passkey, viewer))


by_id = rows_by_key(passkeys, Passkey.id)
of_user = rows_by_parent(passkeys, Passkey.user_id, Passkey.created_at.desc(), Passkey.id.desc())
