"""Aliases: names that point to one version of a model and remember where they pointed before."""

from __future__ import annotations

import re
from uuid import UUID

from sqlalchemy import func, insert, select, update

from db.core.checks import Checks
from db.core.work import Work
from db.errors import NotFound
from db.queries.models import visible
from db.tables import Model, ModelAliasEvent, ModelVersion

_ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,63}")


async def set_alias(work: Work, version_id: UUID, name: str, reason: str | None = None) -> UUID:
    """Point the alias at this version and close the period of the one before. Setting it where it points already changes nothing.

    Raises `NotFound` or `InvalidInput`.
    """
    work.viewer.require_write()
    checks = Checks()
    alias = name.strip().lower()
    if not _ALIAS.fullmatch(alias):
        checks.add(
            "name", message="An alias is 1 to 64 lower-case letters, digits, dots, dashes and underscores, and begins with a letter."
        )
    elif re.fullmatch(r"v?\d+|latest", alias):
        checks.add("name", message=f"{alias!r} reads like a version number or the newest version; choose a word such as 'production'.")
    checks.text(reason, "reason", length=2_000)
    checks.raise_if_invalid()
    # The model's row is the lock: two settings of one alias follow each other.
    statement = (
        select(Model.id)
        .join(ModelVersion, ModelVersion.model_id == Model.id)
        .where(ModelVersion.id == version_id, Model.deleted_at.is_(None), visible(work.viewer))
        .with_for_update(of=Model, key_share=True)
    )
    model_id = await work.scalar(statement)
    if model_id is None:
        raise NotFound(str(version_id))
    is_current = (ModelAliasEvent.model_id == model_id) & (ModelAliasEvent.name == alias) & ModelAliasEvent.superseded_at.is_(None)
    if await work.scalar(select(ModelAliasEvent.model_version_id).where(is_current)) == version_id:
        return version_id
    moment = await work.scalar(select(func.clock_timestamp()))
    await work.run(update(ModelAliasEvent).where(is_current).values(superseded_at=moment))
    await work.run(
        insert(ModelAliasEvent).values(
            model_id=model_id, model_version_id=version_id, name=alias, set_by_id=work.viewer.id, reason=reason, set_at=moment
        )
    )
    return version_id
