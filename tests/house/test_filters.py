"""Each member of each filter restricts its list, and `totalCount`, to exactly the matching rows."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from graphql import build_schema

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import accounts
from graph.schema import schema
from tests.client import Client
from tests.conftest import LiveServer, clean_tables
from tests.exhaustive import exhaustive, is_sampled
from tests.factories import Example, Row, examples, platform
from tests.graph_walk import paths
from tests.house.filter_cases import Case, FilteredList, Member, complaints, filtered_lists, members

CORE = schema._schema
PAGE = 16  # more than there are rows of a kind, which the counts prove
ROOT_FIELDS = 20  # the limit of one operation
LISTS = filtered_lists(CORE)
FIRST = {filtered.filter.name: filtered for filtered in reversed(LISTS)}
"""The first list with each filter, a root list where there is one."""
MEMBERS = [
    pytest.param(
        filtered,
        member,
        id=f"{filtered}.{member.name}",
        marks=[] if filtered is FIRST[filtered.filter.name] and is_sampled(member.name, 8) else pytest.mark.exhaustive,
    )
    for filtered in LISTS
    for member in members(filtered, examples())
]
"""`make test` tries each member of a filter in one list together with each other one, and some of them by themselves."""


UNFILLED = {
    *(f"{parent}.creditTransactions.jobId" for parent in ("Query", "User", "Job")),
    *(f"Job.creditTransactions.{member}" for member in ("type", "createdAt", "ownerId")),
    *(f"{version}.exports.target" for version in ("DatasetVersion", "ModelVersion")),
}
"""Members that fit no row: the factories have no entries of jobs, which could not be purged then, and the exports of a version have no list."""


class Viewers(NamedTuple):
    """Ada, who has rows in every state, and Bob, who has none."""

    ada: Client
    bob: Client


@pytest.fixture(scope="module")
async def viewers(database: Database, live_server: LiveServer) -> AsyncGenerator[Viewers]:
    await clean_tables(database)
    async with database.work(SYSTEM) as work:
        tokens = [await accounts.add_user(work, f"{name}@example.org", name) for name in ("ada", "bob")]
    await platform.fill(database, "ada", 3)
    await platform.add_states(database, "ada")
    both = Viewers(*(Client(live_server.url, token) for token in tokens))
    yield both
    for client in both:
        await client.close()


async def rows_of(client: Client, filtered: FilteredList, chosen: str, criteria: Sequence[dict[str, Any] | None]) -> list[list[Row]]:
    """Return the matching rows for each of the criteria, in one operation; for a list of nodes, the rows of all parents."""
    if len(criteria) > ROOT_FIELDS:
        return [
            *await rows_of(client, filtered, chosen, criteria[:ROOT_FIELDS]),
            *await rows_of(client, filtered, chosen, criteria[ROOT_FIELDS:]),
        ]
    declared = ", ".join(f"$f{number}: {filtered.filter.name}" for number in range(len(criteria)))
    inner = " ".join(
        f"a{number}: {filtered.field}(filter: $f{number}, first: {PAGE}) {{ totalCount edges {{ node {{ id {chosen} }} }} }}"
        for number in range(len(criteria))
    )
    variables = {f"f{number}": given for number, given in enumerate(criteria)}
    if filtered.parent is CORE.query_type:
        parents = [await client.execute(f"query({declared}) {{ {inner} }}", **variables)]
    else:
        path = next(paths(CORE, filtered.parent.name))
        parents = path.targets(await client.one(f"query({declared}) {path.query(inner, PAGE)}", **variables))
    rows: list[list[Row]] = []
    for number in range(len(criteria)):
        pages = [parent[f"a{number}"] for parent in parents]
        assert [page["totalCount"] for page in pages] == [len(page["edges"]) for page in pages], criteria[number]
        rows.append(list({edge["node"]["id"]: edge["node"] for page in pages for edge in page["edges"]}.values()))
    return rows


async def compare(viewers: Viewers, filtered: FilteredList, cases: Sequence[Mapping[str, Case]], rows: Sequence[Row]) -> list[int]:
    """Assert that each case returns exactly the rows that match all its conditions; return how many match each case."""
    criteria = [{name: condition.value for name, condition in case.items()} for case in cases]
    expected = [{row["id"] for row in rows if all(condition.fits(row) for condition in case.values())} for case in cases]
    left = [{row["id"] for row in result} for result in await rows_of(viewers.ada, filtered, "", criteria)]
    assert [values for values, expected_ids, ids in zip(criteria, expected, left, strict=True) if expected_ids != ids] == []
    if filtered.parent is CORE.query_type:
        widened = await rows_of(viewers.bob, filtered, "", criteria)
        strangers = {row["id"] for result in widened for row in result}
        assert strangers.isdisjoint(row["id"] for row in rows), "a filter never widens what a stranger sees"
    return [len(fitting) for fitting in expected]


def test_every_member_of_every_filter_has_values_to_be_tried_with() -> None:
    assert complaints(CORE, examples()) == []


@pytest.mark.parametrize(("filtered", "member"), MEMBERS)
async def test_a_filter_keeps_what_fits(viewers: Viewers, filtered: FilteredList, member: Member) -> None:
    (rows,) = await rows_of(viewers.ada, filtered, member.selection, [None])
    fitting = await compare(viewers, filtered, [{member.name: case} for case in member.cases(rows)], rows)
    if f"{filtered}.{member.name}" in UNFILLED:
        assert max(fitting) == 0, f"{filtered}.{member.name} has rows now: take it from UNFILLED"
        return
    assert max(fitting) > 0, f"no value of {filtered.filter.name}.{member.name} that is tried fits a row of the factories"
    assert min(fitting) < len(rows), f"every value of {filtered.filter.name}.{member.name} that is tried fits all rows of the factories"


@pytest.mark.parametrize(
    "filtered", [filtered if filtered is FIRST[filtered.filter.name] else exhaustive(filtered) for filtered in LISTS], ids=str
)
async def test_all_conditions_hold_at_once(viewers: Viewers, filtered: FilteredList) -> None:
    """Combine each pair of members, and all of them, with the values that match the most rows."""
    known = members(filtered, examples())
    (rows,) = await rows_of(viewers.ada, filtered, " ".join(member.selection for member in known), [None])
    best = {member.name: max(member.cases(rows), key=lambda case: sum(case.fits(row) for row in rows)) for member in known}
    pairs = [dict(pair) for pair in itertools.combinations(best.items(), 2)]
    await compare(viewers, filtered, [*pairs, best], rows)


SDL = """
type Query { reports(first: Int, filter: ReportFilter): ReportConnection! }
type ReportConnection { edges: [ReportEdge!]! pageInfo: PageInfo! }
type ReportEdge { node: Report! }
type PageInfo { hasNextPage: Boolean! }
interface Node { id: ID! }
type Report implements Node { id: ID! name: String! kind: Kind! sent: Boolean! owner: Report! }
enum Kind { ONE TWO }
input StringFilter { eq: String contains: String startsWith: String in: [String!] }
input Bound { key: String! gte: Float lte: Float }
input ReportFilter { name: StringFilter kind: [Kind!] sent: Boolean ownerId: ID }
"""


def test_a_member_without_values_is_reported() -> None:
    assert complaints(build_schema(SDL), {}) == []
    added = build_schema(SDL.replace("ownerId: ID", "ownerId: ID pages: Int authorId: ID bounds: [Bound!]"))
    reported = complaints(added, {})
    assert [text.split(" is known")[0] for text in reported] == [
        f"No value of ReportFilter.{name}" for name in ("pages", "authorId", "bounds")
    ]
    assert "give `examples` of it in the factory of Report in tests/factories" in reported[0]


def test_an_example_that_leaves_something_out_is_reported() -> None:
    added = build_schema(SDL.replace("ownerId: ID", "ownerId: ID bounds: [Bound!]"))
    given = {"ReportFilter.bounds": (Example([{"key": "a", "gte": 1}], "name", lambda _: True),)}
    assert [text.split(" is known")[0] for text in complaints(added, given)] == ["No value of ReportFilter.bounds.lte"]
    assert complaints(build_schema(SDL), given) == ["ReportFilter.bounds has examples and is no member of a filter."]


def test_an_operator_that_is_not_known_is_reported() -> None:
    added = build_schema(SDL.replace("startsWith: String", "startsWith: String endsWith: String"))
    assert [text.split(" is known")[0] for text in complaints(added, {})] == ["No value of ReportFilter.name"]
