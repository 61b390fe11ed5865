"""Search: what a viewer may see, ranked by how well it fits the words of a query.

The entries that match are those of the policy, in the same statement. Of more than `MAX_RANKED`, the newest are ranked. An entry's rank depends on nothing but the
entry and the query, so that a cursor is a rank and an id. Lists of what matches by words only in part, or of what is newest, are other lists: a cursor names its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import product
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Double,
    Row,
    Text,
    Uuid,
    any_,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from db.core.page import Slice, Sort, decode_cursor, encode_cursor
from db.core.policy import OneAccount, visible
from db.core.prepared_rows import PreparedRows
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import InvalidCursor
from db.queries.search_words import SearchWords, parse
from db.tables import SearchEntry
from db.tables.search import SearchType

MAX_RANKED = 1_000
FEW = 5  # with fewer matches, similar words match too
SMALL = 2_000  # of that many entries, all are read, which takes a few milliseconds
SHOWN = 4_000  # characters of a body in which a snippet is looked for
_WEIGHTS: ColumnElement[Any] = literal_column("'{0.1, 0.2, 0.5, 1}'::real[]")  # of D, C, B and A, see `trellis_search_vector`


_SIZE: ColumnElement[Any] = bindparam("size", type_=BigInteger)
_RANKED: ColumnElement[Any] = literal_column(str(MAX_RANKED + 1), BigInteger)


class Matching(StrEnum):
    """What matches: entries with all words, those with similar words in their title too, or all."""

    WORDS = "words"
    SIMILAR = "similar"
    NEWEST = "newest"


@dataclass(frozen=True)
class Search:
    """A query, and whose things of which types are searched; None is no condition."""

    text: str
    types: tuple[SearchType, ...] | None = None
    owner_id: UUID | None = None

    @cached_property
    def words(self) -> SearchWords:
        return parse(self.text)

    @cached_property
    def digest(self) -> str:
        """The query in cursors: one of another query is refused."""
        types = "" if self.types is None else ",".join(sorted(self.types)) or "none"
        form = self.words.typed
        text = "\x1f".join((form.query, form.prefix, types, "" if self.owner_id is None else self.owner_id.hex))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def order(self, matching: Matching) -> Sort:
        """The order of the list, as cursors name it."""
        name = f"{matching}.{self.digest}"
        return Sort(name, literal_column("rank", Double), SearchEntry.id, kind="float", named_list="search_entries")


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Entries by rank, and their cursors. `total` is how many match, at most one more than are ranked."""

    rows: Sequence[Row[Any]] = ()
    cursors: Sequence[str] = ()
    has_next: bool = False
    total: int = 0

    @property
    def is_partial(self) -> bool:
        """Whether more match than are ranked."""
        return self.total > MAX_RANKED


def _read_words(viewer: Viewer) -> Rows:
    """The query and the words of a text, whether it has none but words that only join others, and whether the viewer sees few entries."""
    forms = [
        func.trellis_search_query(*(bindparam(f"{form}_{part}", type_=Text) for part in ("query", "head", "prefix")), type_=TSQUERY)
        for form in ("typed", "split")
    ]
    query = forms[0].op("||")(forms[1])
    contents = func.numnode(func.websearch_to_tsquery(literal_column("'trellis_content'"), bindparam("typed_query", type_=Text)))
    words = func.trellis_search_words(bindparam("words", type_=Text))
    few: ColumnElement[bool] = false()
    if not viewer.sees_all:
        small = bindparam("small", type_=BigInteger)
        seen = select(SearchEntry.id).where(visible(SearchEntry, viewer)).limit(small + 1).subquery("seen")
        few = select(func.count()).select_from(seen).scalar_subquery() <= small
    return select(cast(query, Text).label("query"), words.label("words"), (contents == 0).label("only_joins"), few.label("are_few"))


_WORDS = PreparedRows(
    _read_words, "small", "typed_query", "typed_head", "typed_prefix", "split_query", "split_head", "split_prefix", "words"
)


def _conditions(viewer: Viewer) -> list[ColumnElement[bool]]:
    """What the viewer sees of the wanted types and account."""
    by_type, by_owner = bindparam("types", type_=ARRAY(Text)), bindparam("owner_id", type_=Uuid)
    return [
        visible(SearchEntry, viewer),
        or_(by_type.is_(None), cast(SearchEntry.type, Text) == any_(by_type)),
        or_(by_owner.is_(None), SearchEntry.owner_id == by_owner),
    ]


def _matches(entries: Any, matching: Matching) -> ColumnElement[bool]:
    has_words = entries.vector.bool_op("@@")(_query())
    is_similar = entries.words.bool_op("%>")(bindparam("words", type_=Text))
    return or_(has_words, is_similar) if matching is Matching.SIMILAR else has_words


def _newest(viewer: Viewer, *, after: bool) -> Rows:
    """The newest entries of one account, or of all."""
    conditions = _conditions(viewer)
    if after:
        conditions.append(SearchEntry.id < bindparam("after_id", type_=Uuid))
    return select(SearchEntry.id).where(*conditions).order_by(SearchEntry.id.desc()).limit(_SIZE)


def _matched(viewer: Viewer, matching: Matching) -> Rows:
    """The newest entries of one account, or of all, that match."""
    entry = SearchEntry
    rows = select(entry.id, entry.vector, entry.words).where(*_conditions(viewer), _matches(entry, matching))
    return rows.order_by(entry.id.desc()).limit(_RANKED)


def _matched_of_few(viewer: Viewer, matching: Matching) -> Rows:
    """The same of a viewer who sees few entries: all of them are read. In the index of all accounts, the beginning of a frequent word has as many
    entries as there are, whosever they are."""
    entry = SearchEntry
    columns = (entry.id, entry.vector, entry.words)
    entries = select(*columns).where(*_conditions(viewer)).offset(literal_column("0", BigInteger)).subquery("entries").c
    return select(*entries).where(_matches(entries, matching)).order_by(entries.id.desc()).limit(_RANKED)


def _query() -> ColumnElement[Any]:
    return cast(bindparam("query", type_=Text), TSQUERY)


def _of_accounts(viewer: Viewer, rows_of: Callable[[Viewer], Rows], limit: ColumnElement[Any]) -> Rows:
    """The first rows of several accounts: an index has the entries of one account with a word, but not those of several."""
    if viewer.sees_all or not viewer.teams:
        return rows_of(viewer)
    accounts = bindparam(None, viewer.accounts, type_=ARRAY(Uuid), unique=True)
    account_rows = func.unnest(accounts).table_valued(literal_column("account", Uuid), name="accounts").render_derived()
    of_one = rows_of(OneAccount.of(viewer, account_rows.c.account)).lateral("of_one")
    return select(*of_one.c).select_from(account_rows.join(of_one, true())).order_by(of_one.c.id.desc()).limit(limit)


def _rank(matches: Any, matching: Matching) -> ColumnElement[Any]:
    """By where the words are and how often, and by how much of the title they are; where they only resemble the title, by how much, below 1."""
    if matching is Matching.NEWEST:
        return literal_column("0::float8", Double)
    words = bindparam("words", type_=Text)
    fits = 1 + cast(func.ts_rank(_WEIGHTS, matches.c.vector, _query()), Double) + cast(func.similarity(words, matches.c.words), Double)
    if matching is Matching.WORDS:
        return fits
    resembles = cast(func.word_similarity(words, matches.c.words), Double)
    return case((matches.c.vector.bool_op("@@")(_query()), fits), else_=resembles)


def _page_of(matching: Matching, *, after: bool, are_few: bool) -> PreparedRows:
    def matches_of(viewer: Viewer) -> Rows:
        if matching is Matching.NEWEST:
            return _of_accounts(viewer, lambda viewer: _newest(viewer, after=after), _SIZE)
        if are_few:
            return _matched_of_few(viewer, matching)
        return _of_accounts(viewer, lambda viewer: _matched(viewer, matching), _RANKED)

    def build(viewer: Viewer) -> Rows:
        matches = matches_of(viewer).subquery("matches")
        ranked = select(matches.c.id, _rank(matches, matching).label("rank"), func.count().over().label("total")).subquery("ranked")
        page = select(ranked)
        if after and matching is not Matching.NEWEST:
            position = tuple_(bindparam("after_rank", type_=Double), bindparam("after_id", type_=Uuid))
            page = page.where(tuple_(ranked.c.rank, ranked.c.id) < position)
        page = page.order_by(ranked.c.rank.desc(), ranked.c.id.desc()).limit(_SIZE).subquery("page")
        entry = SearchEntry
        columns = (entry.type, entry.id, entry.title, func.left(entry.body, SHOWN).label("body"), page.c.rank, page.c.total)
        rows = select(*columns).select_from(page.join(entry, entry.id == page.c.id))
        return rows.order_by(page.c.rank.desc(), page.c.id.desc())

    arguments = ["types", "owner_id", "size", *(["after_id"] if after else [])]
    if matching is not Matching.NEWEST:
        arguments += ["query", "words", *(["after_rank"] if after else [])]
    return PreparedRows(build, *arguments, for_values=True)


_PAGES = {
    (matching, after, are_few): _page_of(matching, after=after, are_few=are_few)
    for matching, after, are_few in product(Matching, (False, True), (False, True))
}


async def page(database: Database, viewer: Viewer, search: Search, page_slice: Slice) -> SearchPage:
    """A page of what the viewer may see. Raises `InvalidCursor`."""
    after = None if page_slice.after is None else _position(search, page_slice.after)
    forms = {
        f"{name}_{part}": getattr(form, part)
        for name, form in (("typed", search.words.typed), ("split", search.words.split))
        for part in ("query", "head", "prefix")
    }
    (read,) = await _WORDS(database, viewer, **forms, words=" ".join(search.words.words), small=SMALL)

    async def matches(matching: Matching) -> SearchPage:
        arguments: dict[str, Any] = {
            "types": None if search.types is None else [type_.value for type_ in search.types],
            "owner_id": search.owner_id,
            "size": page_slice.size + 1,
        }
        if matching is not Matching.NEWEST:
            arguments |= {"query": read.query, "words": read.words}
        if after is not None:
            arguments |= {"after_id": after[2]} if matching is Matching.NEWEST else {"after_rank": after[1], "after_id": after[2]}
        rows = await _PAGES[matching, after is not None, read.are_few](database, viewer, **arguments)
        order, shown = search.order(matching), rows[: page_slice.size]
        total = 0 if matching is Matching.NEWEST or not rows else rows[0].total
        return SearchPage(shown, [encode_cursor(order, row.rank, row.id) for row in shown], len(rows) > len(shown), total)

    if after is not None:
        return await matches(after[0])
    found = await matches(Matching.WORDS) if read.query else SearchPage()
    if read.only_joins:
        return found if found.total else await matches(Matching.NEWEST)
    if found.total >= FEW or search.words.has_operators or not read.words:
        return found
    similar = await matches(Matching.SIMILAR)
    return similar if similar.total > found.total else found


def _position(search: Search, cursor: str) -> tuple[Matching, float, UUID]:
    """The list, the rank and the id of a cursor of this query. Raises `InvalidCursor` for anything else."""
    for matching in (Matching.NEWEST, Matching.SIMILAR):
        with suppress(InvalidCursor):
            return matching, *decode_cursor(search.order(matching), cursor)
    return Matching.WORDS, *decode_cursor(search.order(Matching.WORDS), cursor)
