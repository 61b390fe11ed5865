"""Tags: create, change and delete them, put them on things and take them off."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, FromClause, Row, Text, Uuid, bindparam, delete, exists, func, insert, literal_column, or_, select, true
from sqlalchemy import update as update_rows
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import InstrumentedAttribute

from db.core.audit import differences
from db.core.checks import Checks
from db.core.policy import is_shipped, visible
from db.core.sql import equals_any
from db.core.unique import translate_unique_violation
from db.core.work import Work
from db.errors import NameTaken, NotFound, invalid
from db.queries.tags import MAX_TAGS
from db.tables import Dataset, Experiment, Model, Pipeline, Run, Study, Tag, Tagging

NAME_LENGTH = 100
MAX_THINGS = 100  # in one mutation
COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
_UNIQUE = "uq_tags_owner_id_name"
_COLOR = re.compile(r"#[0-9a-f]{6}", re.ASCII)
_ID = re.compile(r"tag_[0-9a-f]{32}", re.ASCII)

KINDS: dict[str, tuple[Any, InstrumentedAttribute[UUID | None]]] = {
    "study": (Study, Tagging.study_id),
    "dataset": (Dataset, Tagging.dataset_id),
    "experiment": (Experiment, Tagging.experiment_id),
    "model": (Model, Tagging.model_id),
    "pipeline": (Pipeline, Tagging.pipeline_id),
    "run": (Run, Tagging.run_id),
}
"""What can have tags, by the prefix of its ids: its table, and the column of `taggings` that refers to it. In the order in which rows are locked: a study
before its experiment, as by whoever adds trials."""


@dataclass(frozen=True, slots=True)
class NewTag:
    """A tag to be created; names are unique per owner, ignoring case."""

    name: str
    color: str | None = None
    owner_id: UUID | None = None
    """A team, or the viewer if None."""


@dataclass(frozen=True, slots=True)
class Thing:
    """What has tags; `kind` is the prefix of its ids."""

    kind: str
    id: UUID


async def create(work: Work, new: NewTag) -> UUID:
    """Raises `InvalidInput` or `NameTaken`."""
    work.viewer.require_write()
    owner_id = work.viewer.owner_of_new(new.owner_id)
    checks = Checks()
    name = _checked_name(checks, new.name, "name")
    color = default_color(name) if new.color is None else _checked_color(checks, new.color)
    checks.raise_if_invalid()
    await _lock_names(work, owner_id)
    with translate_unique_violation(_UNIQUE, NameTaken("tag", name)):
        tag_id = await _insert(work, owner_id, name, color)
    work.record("create_tag", "tag", tag_id, owner_id, after={"name": name, "color": color})
    return tag_id


async def update(work: Work, tag_id: UUID, changes: dict[str, Any]) -> UUID:
    """`changes` holds the fields to set. Raises `NotFound`, `InvalidInput` or `NameTaken`."""
    work.viewer.require_write()
    if "name" in changes:
        owner_id = await work.scalar(select(Tag.owner_id).where(Tag.id == tag_id, visible(Tag, work.viewer)))
        if owner_id is None:
            raise NotFound(str(tag_id))
        await _lock_names(work, owner_id)  # before the row, as who creates tags does
    tag = await _lock(work, tag_id)
    checks = Checks()
    values = dict(changes)
    for field in ("name", "color"):
        if field in values and values[field] is None:
            checks.add(field, message=f"A tag must have a {field}; leave the field out to keep the present one.")
    if values.get("name") is not None:
        values["name"] = _checked_name(checks, values["name"], "name")
        if slug_of(values["name"]) != slug_of(tag.name):
            values["slug"] = await _free_slug(work, tag.owner_id, values["name"])
    if values.get("color") is not None:
        values["color"] = _checked_color(checks, values["color"])
    checks.raise_if_invalid()
    if values:
        with translate_unique_violation(_UNIQUE, NameTaken("tag", str(values.get("name")))):
            await work.run(update_rows(Tag).where(Tag.id == tag_id).values(values))
        work.record("update_tag", "tag", tag_id, tag.owner_id, *differences(tag, values))
    return tag_id


async def remove(work: Work, tag_id: UUID, action: str = "delete_tag") -> None:
    """Delete a tag, which takes it off everything. Raises `NotFound`."""
    work.viewer.require_write()
    tag = await _lock(work, tag_id)
    await work.run(delete(Tag).where(Tag.id == tag_id))
    work.record(action, "tag", tag_id, tag.owner_id, before={"name": tag.name, "color": tag.color, "usage_count": tag.usage_count})


async def put_on(work: Work, things: Sequence[Thing], tags: Sequence[str | UUID]) -> list[UUID]:
    """Put tags, named by name or id, on all of the things, or on none; return the tags. A name that is no tag's makes one.

    Raises `NotFound`, or `InvalidInput`: for things of several accounts, for names, or for more than `MAX_TAGS` on one thing.
    """
    work.viewer.require_write()
    owner_id = await _lock_things(work, things)
    names = _by_id(await _tags(work, owner_id, tags, creates=True))
    for kind, ids in _ids_by_kind(things):
        _, column = KINDS[kind]
        subjects, added = _unnested(ids, "subjects"), _unnested(list(names), "added")
        pairs = select(subjects.c.id, added.c.id, bindparam("p_added_by_id", work.viewer.maker_id, type_=Uuid()))
        insertion = upsert(Tagging).from_select([column.key, "tag_id", "added_by_id"], pairs.select_from(subjects.join(added, true())))
        rows = await work.all(insertion.on_conflict_do_nothing().returning(column.label("subject_id"), Tagging.tag_id))
        await _require_few_tags(work, kind, column, ids)
        _record(work, "tag", kind, owner_id, rows, names)
    return list(names)


async def put_on_new(work: Work, thing: Thing, owner_id: UUID, tags: Sequence[str | UUID]) -> None:
    """Put tags on a thing that this unit of work made, as a part of its making. Raises as `put_on`."""
    _, column = KINDS[thing.kind]
    added = [
        {column.key: thing.id, "tag_id": tag.id, "added_by_id": work.viewer.maker_id}
        for tag in await _tags(work, owner_id, tags, creates=True)
    ]
    await work.run(insert(Tagging).values(added))


async def take_off(work: Work, things: Sequence[Thing], tags: Sequence[str | UUID]) -> None:
    """Take tags, named by name or id, off the things; those that a thing does not have are passed over. Raises `NotFound` or `InvalidInput`."""
    work.viewer.require_write()
    owner_id = await _lock_things(work, things)
    names = _by_id(await _tags(work, owner_id, tags, creates=False))
    for kind, ids in _ids_by_kind(things):
        _, column = KINDS[kind]
        deletion = delete(Tagging).where(equals_any(column, ids), equals_any(Tagging.tag_id, names))
        _record(work, "untag", kind, owner_id, await work.all(deletion.returning(column.label("subject_id"), Tagging.tag_id)), names)


def _record(work: Work, action: str, kind: str, owner_id: UUID, rows: Iterable[Row[Any]], names: dict[UUID, str]) -> None:
    """Record an event for each thing whose tags changed."""
    changed: dict[UUID, list[str]] = {}
    for row in rows:
        changed.setdefault(row.subject_id, []).append(names[row.tag_id])
    for subject_id, tags in changed.items():
        given = {"tags": sorted(tags)}
        before, after = (None, given) if action == "tag" else (given, None)
        work.record(action, kind, subject_id, owner_id, before, after)


def _ids_by_kind(things: Sequence[Thing]) -> list[tuple[str, list[UUID]]]:
    by_kind = {kind: list(dict.fromkeys(thing.id for thing in things if thing.kind == kind)) for kind in KINDS}
    return [(kind, ids) for kind, ids in by_kind.items() if ids]


def _unnested(ids: list[UUID], name: str) -> FromClause:
    array = bindparam(None, ids, type_=ARRAY(Uuid()), unique=True)
    return func.unnest(array).table_valued(literal_column("id", Uuid()), name=name).render_derived()


def _by_id(tags: Iterable[Row[Any]]) -> dict[UUID, str]:
    return {tag.id: tag.name for tag in tags}


async def _lock_things(work: Work, things: Sequence[Thing]) -> UUID:
    """Lock the things, which no other transaction tags or deletes meanwhile; return the account that owns them."""
    if not things:
        raise invalid("ids", message="Name at least one thing.")
    by_kind = dict(_ids_by_kind(things))
    if sum(map(len, by_kind.values())) > MAX_THINGS:
        raise invalid("ids", message=f"At most {MAX_THINGS} things are accepted at once.")
    owners: dict[UUID, UUID] = {}
    for kind, (table, _) in KINDS.items():
        ids = by_kind.get(kind, [])
        if kind == "experiment" and "run" in by_kind:
            parents = select(Run.experiment_id).where(equals_any(Run.id, by_kind["run"]), visible(Run, work.viewer))
            ids = [*ids, *(row.experiment_id for row in await work.all(parents))]
        if ids:
            owners |= await _lock_rows(work, table, ids)
    owned = [owners.get(thing.id) for thing in things]
    for thing, owner_id in zip(things, owned, strict=True):
        if owner_id is None:
            raise NotFound(str(thing.id))
    account_ids = {owner_id for owner_id in owned if owner_id is not None}
    if len(account_ids) > 1:
        raise invalid("ids", message="These belong to several accounts. Name things of one account at a time.")
    (owner_id,) = account_ids
    work.viewer.require_write_in(owner_id)
    return owner_id


async def _lock_rows(work: Work, table: Any, ids: Iterable[UUID]) -> dict[UUID, UUID]:
    """Lock those of these rows that are live and visible; return their owners. The experiments of runs are locked before the runs."""
    statement = select(table.id, table.owner_id).where(equals_any(table.id, ids), visible(table, work.viewer))
    if table is Run:
        statement = statement.join(Experiment, Experiment.id == Run.experiment_id).where(
            Experiment.deleted_at.is_(None), Run.deleted_at.is_(None)
        )
    else:
        statement = statement.where(table.deleted_at.is_(None), ~is_shipped(Pipeline) if table is Pipeline else true())
    rows = await work.all(statement.order_by(table.id).with_for_update(of=table, key_share=True))
    return {row.id: row.owner_id for row in rows}


async def _require_few_tags(work: Work, kind: str, column: Any, ids: list[UUID]) -> None:
    """Raise `InvalidInput` if a thing has too many tags; no other transaction adds one meanwhile."""
    counts = select(column.label("id"), func.count().label("number")).where(equals_any(column, ids)).group_by(column)
    row = await work.first(counts.having(func.count() > MAX_TAGS))
    if row is not None:
        raise invalid(
            "tags", message=f"{kind}_{row.id.hex} would have {row.number} tags; a thing has at most {MAX_TAGS}. Take some off with `untag`."
        )


async def _tags(work: Work, owner_id: UUID, wanted: Sequence[str | UUID], *, creates: bool) -> list[Row[Any]]:
    """Return the owner's tags with these names or ids, locked in the order of their ids, as the triggers that count lock them."""
    checks = Checks()
    if not wanted:
        checks.add("tags", message="Name at least one tag.")
    elif len(set(wanted)) > MAX_TAGS:
        checks.add("tags", message=f"At most {MAX_TAGS} tags are accepted at once.")
    names = {_checked_name(checks, tag, "tags", str(at)): None for at, tag in enumerate(wanted) if isinstance(tag, str)}
    checks.raise_if_invalid()
    ids = {tag for tag in wanted if isinstance(tag, UUID)}
    if creates and (missing := await _missing(work, owner_id, names)):
        await _lock_names(work, owner_id)  # before the rows, as who renames a tag does
        for name in missing:
            if await _missing(work, owner_id, [name]):  # nobody has made it meanwhile, nor is it an earlier one in other letters
                await _insert(work, owner_id, name, default_color(name))
    given = func.unnest(bindparam(None, list(names), type_=ARRAY(Text), unique=True)).table_valued(
        literal_column("name", Text), name="given"
    )
    by_name = func.lower(Tag.name).in_(select(func.lower(given.render_derived().c.name)))
    statement = select(Tag.id, Tag.name).where(Tag.owner_id == owner_id, or_(equals_any(Tag.id, ids), by_name))
    rows = await work.all(statement.order_by(Tag.id).with_for_update(of=Tag, key_share=True))
    for tag_id in ids - {row.id for row in rows}:
        raise NotFound(str(tag_id))
    return list(rows)


async def _missing(work: Work, owner_id: UUID, names: Iterable[str]) -> list[str]:
    """Return the names that no tag of the owner has."""
    given = func.unnest(bindparam(None, list(names), type_=ARRAY(Text), unique=True)).table_valued(
        literal_column("name", Text), name="given"
    )
    name = given.render_derived().c.name
    has_tag = exists().where(Tag.owner_id == owner_id, func.lower(Tag.name) == func.lower(name))
    return [row.name for row in await work.all(select(name.label("name")).where(~has_tag))]


async def _lock_names(work: Work, owner_id: UUID) -> None:
    """Let no other transaction make or rename a tag of this owner until this one ends: the number behind a slug depends on all of them."""
    await work.run(select(func.pg_advisory_xact_lock(func.hashtextextended(f"tags {owner_id}", 0))))


async def _insert(work: Work, owner_id: UUID, name: str, color: str) -> UUID:
    """Insert a tag; `_lock_names` holds."""
    slug = await _free_slug(work, owner_id, name)
    values = {"owner_id": owner_id, "created_by_id": work.viewer.maker_id, "name": name, "slug": slug, "color": color}
    return await work.scalar(insert(Tag).values(values).returning(Tag.id))


async def _free_slug(work: Work, owner_id: UUID, name: str) -> str:
    """The slug of a name, with a number behind it if another tag of the owner has it."""
    slug = slug_of(name)
    similar = select(Tag.slug).where(Tag.owner_id == owner_id, or_(Tag.slug == slug, Tag.slug.startswith(f"{slug}-", autoescape=True)))
    taken = {row.slug for row in await work.all(similar)}
    number = 2
    candidate = slug
    while candidate in taken:
        candidate, number = f"{slug}-{number}", number + 1
    return candidate


def slug_of(name: str) -> str:
    """The name in lower case without accents, each run of what is neither a letter nor a digit as one dash; `tag` if nothing is left."""
    plain = "".join(character for character in unicodedata.normalize("NFKD", name) if not unicodedata.combining(character))
    dashed = "".join(character if character.isalnum() else "-" for character in unicodedata.normalize("NFC", plain).lower())
    return re.sub("-+", "-", dashed).strip("-") or "tag"


def default_color(name: str) -> str:
    """A color that follows from the name, so that a tag deleted and made again looks the same."""
    return COLORS[sha256(name.lower().encode()).digest()[0] % len(COLORS)]


def _checked_name(checks: Checks, value: str, *path: str) -> str:
    name = checks.name(value, *path, length=NAME_LENGTH)
    if _ID.fullmatch(name):
        checks.add(*path, message="This reads like the id of a tag; choose another name.")
    return name


def _checked_color(checks: Checks, value: str) -> str:
    color = value.strip().lower()
    if not _COLOR.fullmatch(color):
        checks.add("color", message="A color is `#` and six hexadecimal digits, such as `#1f77b4`.")
    return color


async def _lock(work: Work, tag_id: UUID) -> Row[Any]:
    statement = select(*Tag.__table__.c).where(Tag.id == tag_id, visible(Tag, work.viewer))
    row = await work.first(statement.with_for_update())
    if row is None:
        raise NotFound(str(tag_id))
    return row
