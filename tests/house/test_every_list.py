"""Every list of the graph is a keyset connection: each of its orders pages forward and backward without repeats or gaps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager

import pytest
from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLInputType, get_named_type, is_non_null_type
from sqlalchemy import func, update

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import accounts
from db.tables import User
from tests import selection
from tests.client import Client
from tests.exhaustive import exhaustive, is_sampled
from tests.factories import arguments
from tests.house.conftest import PARENTS
from tests.served_schema import SERVED as CORE

ROOTS = list(selection.root_lists(CORE))


def orders(root: str) -> list[str]:
    """Return the literals that `orderBy` of this list accepts; null for a list with one order."""
    assert CORE.query_type is not None
    argument = CORE.query_type.fields[root].args.get("orderBy")
    return ["null"] if argument is None else list(_literals(argument.type, "orderBy"))


def _literals(kind: GraphQLInputType, place: str) -> Iterator[str]:
    named_type = get_named_type(kind)
    if isinstance(named_type, GraphQLEnumType):
        yield from named_type.values
    elif isinstance(named_type, GraphQLInputObjectType):
        literals = {name: list(_literals(field.type, f"{named_type.name}.{name}")) for name, field in named_type.fields.items()}
        if named_type.is_one_of:
            yield from (f"{{{name}: {literal}}}" for name, choices in literals.items() for literal in choices)
        else:
            optional = {name for name, field in named_type.fields.items() if not is_non_null_type(field.type)}
            combined = [""]
            for name in (name for name in literals if name not in optional):
                combined = [f"{before}{name}: {literal} " for before in combined for literal in literals[name]]
            # Each value of an optional member with one of the others, in turn.
            added = [
                f"{combined[i % len(combined)]}{name}: {literal}" for name in sorted(optional) for i, literal in enumerate(literals[name])
            ]
            yield from (f"{{{text.strip()}}}" for text in combined + added)
    else:
        assert place in arguments(), f"No value is known for {place}: give one in `arguments` of a factory in tests/factories."
        yield arguments()[place]


@pytest.fixture(scope="module")
async def viewers(filled_client: Client, database: Database) -> AsyncGenerator[Mapping[str, Client]]:
    """By root: Ada, who owns the rows of most lists, or an admin for the list of users, of which others see only themselves."""
    async with database.work(SYSTEM) as work:
        tokens = [await accounts.add_user(work, f"{n}@example.org", f"user-{n}", role=UserRole.ADMIN) for n in range(PARENTS)]
        await work.run(update(User).where(User.username.in_(["user-1", "user-2"])).values(last_login_at=func.now()))
    admin = Client(filled_client.url, tokens[0])
    yield {root: admin if root == "users" else filled_client for root in ROOTS}
    await admin.close()


@pytest.mark.parametrize(
    ("root", "order"),
    [(root, order) if is_sampled(f"{root} {order}", 6) else exhaustive(root, order) for root in ROOTS for order in orders(root)],
)
async def test_a_list_goes_both_ways_in_every_order(root: str, order: str, viewers: Mapping[str, Client]) -> None:
    async def page(arguments: str) -> tuple[list[str], dict[str, str]]:
        ordered = "" if order == "null" else f", orderBy: {order}"
        query = f"{{ {root}({arguments}{ordered}) {{ pageInfo {{ startCursor endCursor }} edges {{ node {{ id }} }} }} }}"
        answer = await viewers[root].one(query)
        return [edge["node"]["id"] for edge in answer["edges"]], answer["pageInfo"]

    all_ids, _ = await page("first: 100")
    assert len(set(all_ids)) == len(all_ids) >= PARENTS
    forward, at = await page("first: 4")
    while len(forward) < len(all_ids):
        more, at = await page(f'first: 4, after: "{at["endCursor"]}"')
        assert more
        forward += more
    backward, at = await page("last: 4")
    while len(backward) < len(all_ids):
        more, at = await page(f'last: 4, before: "{at["startCursor"]}"')
        assert more
        backward = more + backward
    assert forward == backward == all_ids


@pytest.mark.parametrize("root", ROOTS)
async def test_only_a_total_that_is_asked_for_is_counted(
    root: str, viewers: Mapping[str, Client], capture_statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    with capture_statements() as plain:
        await viewers[root].one(f"{{ {root}(first: 1) {{ edges {{ cursor }} }} }}")
    with capture_statements() as counted:
        answer = await viewers[root].one(f"{{ {root}(first: 1) {{ totalCount edges {{ cursor }} }} }}")
    assert len(counted) - len(plain) == 1
    assert answer["totalCount"] >= PARENTS
