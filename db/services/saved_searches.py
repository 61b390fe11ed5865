"""Save, change, use and delete searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy import update as update_rows

from db.core.audit import differences
from db.core.checks import Checks
from db.core.policy import visible
from db.core.unique import translate_unique_violation
from db.core.work import Work
from db.errors import Issue, NameTaken, NotFound, QuotaExceeded
from db.queries.saved_searches import MAX_SEARCHES
from db.tables import SavedSearch
from db.tables.search import SearchType

DOCUMENT_BYTES = 16_384
_UNIQUE = "uq_saved_searches_owner_id_name"

FindIssues = Callable[[SearchType, Any, Any], Sequence[Issue]]
"""What the list of a type does not take of a filter and an order."""


@dataclass(frozen=True, slots=True)
class NewSavedSearch:
    """A search to be saved; names are unique per owner, ignoring case."""

    name: str
    target: SearchType
    filter: Any = None
    order_by: Any = None
    is_pinned: bool = False
    owner_id: UUID | None = None
    """A team, or the viewer if None."""


async def save(work: Work, new: NewSavedSearch, find_issues: FindIssues) -> UUID:
    """Raises `InvalidInput`, `NameTaken` or `QuotaExceeded`."""
    work.viewer.require_write()
    owner_id = work.viewer.owner_of_new(new.owner_id)
    checks = Checks()
    values = {"name": checks.name(new.name, "name"), "target": new.target, "is_pinned": new.is_pinned}
    values |= _checked(checks, new.target, {"filter": new.filter, "order_by": new.order_by}, find_issues)
    checks.raise_if_invalid()
    await work.run(select(func.pg_advisory_xact_lock(func.hashtextextended(f"saved searches {owner_id}", 0))))  # nobody adds one meanwhile
    count: int = await work.scalar(select(func.count()).where(SavedSearch.owner_id == owner_id))
    if count >= MAX_SEARCHES:
        raise QuotaExceeded("saved searches", MAX_SEARCHES, count)
    with translate_unique_violation(_UNIQUE, NameTaken("saved search", str(values["name"]))):
        search_id: UUID = await work.scalar(
            insert(SavedSearch).values(owner_id=owner_id, created_by_id=work.viewer.maker_id, **values).returning(SavedSearch.id)
        )
    work.record("save_search", "savedsearch", search_id, owner_id, after=values)
    return search_id


async def update(work: Work, search_id: UUID, changes: dict[str, Any], find_issues: FindIssues) -> UUID:
    """`changes` holds the fields to set. Raises `NotFound`, `InvalidInput` or `NameTaken`."""
    work.viewer.require_write()
    search = await _lock(work, search_id)
    checks = Checks()
    values = dict(changes)
    checks.new_name(values, "A saved search")
    if "is_pinned" in values and values["is_pinned"] is None:
        checks.add("isPinned", message="This cannot be cleared; leave the field out to keep it as it is.")
    documents = {name: values[name] for name in ("filter", "order_by") if name in values}
    values |= _checked(checks, search.target, documents, find_issues)
    checks.raise_if_invalid()
    if values:
        with translate_unique_violation(_UNIQUE, NameTaken("saved search", str(values.get("name")))):
            await work.run(update_rows(SavedSearch).where(SavedSearch.id == search_id).values(values))
        work.record("update_saved_search", "savedsearch", search_id, search.owner_id, *differences(search, values))
    return search_id


async def use(work: Work, search_id: UUID) -> UUID:
    """Count a use. Raises `NotFound`."""
    work.viewer.require_write()
    search = await _lock(work, search_id)
    values = {"usage_count": search.usage_count + 1, "last_used_at": func.clock_timestamp()}
    await work.run(update_rows(SavedSearch).where(SavedSearch.id == search_id).values(values))
    work.record("use_saved_search", "savedsearch", search_id, search.owner_id, *differences(search, values))
    return search_id


async def remove(work: Work, search_id: UUID, action: str = "delete_saved_search") -> None:
    """Raises `NotFound`."""
    work.viewer.require_write()
    search = await _lock(work, search_id)
    await work.run(delete(SavedSearch).where(SavedSearch.id == search_id))
    before = {"name": search.name, "target": search.target, "filter": search.filter, "order_by": search.order_by}
    work.record(action, "savedsearch", search_id, search.owner_id, before=before)


def _checked(checks: Checks, target: SearchType, documents: dict[str, Any], find_issues: FindIssues) -> dict[str, Any]:
    """Return the columns of the documents; none for what the list of the type does not take."""
    values: dict[str, Any] = {}
    known = len(checks.issues)
    for column, path in (("filter", "filter"), ("order_by", "orderBy")):
        if column in documents:
            document = checks.document(documents[column], path, size=DOCUMENT_BYTES)
            values[column] = document or ({} if column == "filter" else None)
    if len(checks.issues) == known:
        checks.issues.extend(find_issues(target, values.get("filter"), values.get("order_by")))
    return values


async def _lock(work: Work, search_id: UUID) -> Row[Any]:
    statement = select(*SavedSearch.__table__.c).where(SavedSearch.id == search_id, visible(SavedSearch, work.viewer))
    row = await work.first(statement.with_for_update())
    if row is None:
        raise NotFound(str(search_id))
    return row
