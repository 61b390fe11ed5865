"""Every field needs a scope: an API key without it gets FORBIDDEN there, on every way to the field, and nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from graphql import GraphQLNonNull, is_leaf_type
from graphql import get_named_type as named
from sqlalchemy import update

from db.core.viewer import ALL_SCOPES, SYSTEM, ApiScope, UserRole
from db.core.work import Database
from db.queries.accounts import token_hash
from db.services import accounts
from db.tables import ApiKey
from graph.core.ids import NODE_REGISTRY
from graph.core.permissions import Scope, scopes
from graph.schema import schema
from tests import selection
from tests.client import Client
from tests.conftest import ClientFactory
from tests.exhaustive import exhaustive
from tests.factories import platform
from tests.house.test_isolation import AnyIds, Place, input_value
from tests.server.test_sockets import bearer, open_websocket, receive_message, send_subscribe

SCHEMA = schema._schema
SCOPES = scopes(schema)
NODE_TYPES = {type_.name: type_ for type_ in selection.node_types(SCHEMA)}
AT_ONCE = 16  # fields in one operation, each below a root field of its own, so that none makes another null
ALONE = [frozenset({scope}) for scope in ApiScope]
ALL_OTHERS = [ALL_SCOPES - {scope} for scope in ApiScope]

MakeKey = Callable[..., Awaitable[Client]]


@pytest.fixture
async def make_key(database: Database, make_client: ClientFactory) -> AsyncGenerator[MakeKey]:
    """Make a key with these scopes: `key = await make_key("READ", "RUN")`, Ada's unless another owner is named."""
    async with AsyncExitStack() as stack:

        async def make(*names: str, owner: str = "ada@example.org", url: str) -> Client:
            async with database.work(SYSTEM) as work:
                client = Client(url, await accounts.add_token(work, owner, "test", scopes=[ApiScope[name] for name in names]))
            stack.push_async_callback(client.close)
            return client

        yield make


def missing(answer: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """The codes of the errors, and the scopes that they name."""
    return [(error["extensions"]["code"], error["extensions"].get("scope")) for error in answer.get("errors", ())]


def node_fields() -> Iterator[tuple[str, str, str]]:
    """Each field of a type with an id: its type, its name and its selection."""
    for type_ in NODE_TYPES.values():
        for name, field in type_.fields.items():
            below = "" if is_leaf_type(named(field.type)) else " { __typename }"
            yield type_.name, name, f"{name}{selection.arguments_text(type_, name)}{below}"


@pytest.mark.parametrize("keys", [exhaustive([ALONE[0], *ALL_OTHERS]), exhaustive(ALONE[1:])], ids=["all but one", "one"])
async def test_each_field_is_open_to_exactly_the_keys_that_have_its_scope(
    ada: Client, make_key: MakeKey, database: Database, keys: Sequence[Collection[ApiScope]]
) -> None:
    await platform.fill(database, "ada", 1)
    await platform.add_states(database, "ada")
    ids = {prefix: found[0] for prefix, found in (await platform.ids_by_prefix(database, "ada")).items()}
    id_of = {registration.type.__name__: ids[prefix] for prefix, registration in NODE_REGISTRY.items()}
    fields = list(node_fields())
    assert {type_ for type_, _, _ in fields} == set(NODE_TYPES)
    assert len(fields) > 180

    async def check(key: Client, granted: Collection[ApiScope], chunk: list[tuple[str, str, str]]) -> None:
        roots = [
            f'f{number}: node(id: "{id_of[type_]}") {{ ... on {type_} {{ {text} }} }}' for number, (type_, _, text) in enumerate(chunk)
        ]
        answer = await key.post(f"{{ {' '.join(roots)} }}")
        errors = {error["path"][0]: error for error in answer.get("errors", ())}
        for number, (type_, name, _) in enumerate(chunk):
            needed = {ApiScope.READ, *(SCOPES[place].api_scope for place in (f"{type_}.id", f"{type_}.{name}"))}  # pyright: ignore[reportOptionalMemberAccess] - each has one
            error = errors.get(f"f{number}")
            place = f"{type_}.{name} with {sorted(granted)}"
            if needed <= set(granted):
                assert error is None, (place, error)
                assert answer["data"][f"f{number}"] is not None, place
            else:
                assert error is not None, place
                assert error["extensions"]["code"] == "FORBIDDEN", (place, error)
                lacking = error["extensions"]["scope"]
                assert ApiScope[lacking] in needed - set(granted), (place, error)
                assert f"lacks the scope {lacking}," in error["message"]
                below = answer["data"] and answer["data"][f"f{number}"]
                assert not below or set(below.values()) == {None}, (place, below)

    for granted in keys:
        key = await make_key(*(scope.name for scope in granted), url=ada.url)
        chunks = [fields[start : start + AT_ONCE] for start in range(0, len(fields), AT_ONCE)]
        for start in range(0, len(chunks), 4):
            await asyncio.gather(*(check(key, granted, chunk) for chunk in chunks[start : start + 4]))


@pytest.mark.parametrize("keys", ["two", exhaustive("all")])
async def test_each_root_field_is_open_to_exactly_the_keys_that_have_its_scope(
    make_client: ClientFactory, make_key: MakeKey, keys: str
) -> None:
    """Tried with a key that has its scope alone and one that has all others; in the exhaustive tests, with each key."""
    boss = await make_client("boss", UserRole.ADMIN)  # whose role allows all of them
    for granted in (*ALONE, *ALL_OTHERS):
        key = await make_key(*(scope.name for scope in granted), owner="boss@example.org", url=boss.url)
        for operation, type_ in (("query", SCHEMA.query_type), ("mutation", SCHEMA.mutation_type)):
            assert type_ is not None
            for name, field in type_.fields.items():
                scope = SCOPES[f"{type_.name}.{name}"]
                assert scope is not None
                of_scope = scope.api_scope or ApiScope.READ
                if scope is Scope.PUBLIC or not (keys == "all" or granted in ({of_scope}, ALL_SCOPES - {of_scope})):
                    continue
                document, values = _minimal(operation, name, field)
                codes = missing(await key.post(document, **values))
                if scope is Scope.SESSION:
                    assert codes == [("FORBIDDEN", None)], name
                elif name == "exportTable" and ApiScope.RUN in granted and ApiScope.READ not in granted:  # what it writes is read
                    assert codes == [("FORBIDDEN", ApiScope.READ.name)]
                elif scope.api_scope not in granted:
                    assert codes == [("FORBIDDEN", scope.name)], (name, granted)
                else:
                    assert not {code for code, _ in codes} & {"FORBIDDEN", "UNAUTHENTICATED", "INTERNAL_SERVER_ERROR"}, (
                        name,
                        granted,
                        codes,
                    )


def _minimal(operation: str, name: str, field: Any) -> tuple[str, dict[str, Any]]:
    """An operation with this root field and values for its required arguments, which name nothing that exists."""
    required = {key: value for key, value in field.args.items() if isinstance(value.type, GraphQLNonNull)}
    place = Place(operation, name, (), is_list=False)
    values = {key: input_value(value, place, (key,), "", AnyIds()) for key, value in required.items()}
    declared = ", ".join(f"${key}: {value.type}" for key, value in required.items())
    arguments = ", ".join(f"{key}: ${key}" for key in required)
    head, called = (f"({text})" if text else "" for text in (declared, arguments))
    below = "" if is_leaf_type(named(field.type)) else " { __typename }"
    return f"{operation}{head} {{ {name}{called}{below} }}", values


async def test_a_subscription_is_refused_before_it_begins(ada: Client, make_key: MakeKey) -> None:
    root = SCHEMA.subscription_type
    assert root is not None
    key, full = await make_key("RUN", "ACCOUNT", url=ada.url), await make_key(*(scope.name for scope in ApiScope), url=ada.url)
    for name, field in root.fields.items():
        document, values = _minimal("subscription", name, field)
        async with open_websocket(ada.url, bearer(key)) as websocket:
            await send_subscribe(websocket, "1", document, variables=values)
            message = await receive_message(websocket)
            assert (message["type"], [error["extensions"].get("scope") for error in message["payload"]]) == ("error", ["READ"]), name
    reading = await make_key("READ", url=ada.url)
    for client, expected in ((reading, "ACCOUNT"), (full, None)):
        async with open_websocket(ada.url, bearer(client)) as websocket:
            await send_subscribe(websocket, "1", "subscription { jobUpdates { id owner { email } } }")
            await send_subscribe(websocket, "2", "{ viewer { id } }")
            first = await receive_message(websocket)
            assert (first["type"], first["id"]) == (("error", "1") if expected else ("next", "2"))
            assert expected is None or [error["extensions"]["scope"] for error in first["payload"]] == [expected]


async def test_a_refused_field_is_null_and_the_rest_is_answered(ada: Client, make_key: MakeKey) -> None:
    key = await make_key("READ", url=ada.url)
    await ada.create_dataset("wine")
    answer = await key.post("{ viewer { username lastLoginAt } datasets { edges { node { name owner { username } } } } }")
    assert answer["data"] == {
        "viewer": {"username": "ada", "lastLoginAt": None},
        "datasets": {"edges": [{"node": {"name": "wine", "owner": {"username": "ada"}}}]},
    }
    (error,) = answer["errors"]
    assert (error["path"], error["extensions"]["code"], error["extensions"]["scope"]) == (["viewer", "lastLoginAt"], "FORBIDDEN", "ACCOUNT")
    assert error["message"] == (
        "This API key lacks the scope ACCOUNT, which User.lastLoginAt needs. Use a key that has it: its owner makes one with `createApiKey`."
    )
    nested = await key.post("{ datasets { edges { node { name owner { ...F } } } } } fragment F on User { email }")
    assert (nested["data"], [error["path"] for error in nested["errors"]]) == (None, [["datasets", "edges", 0, "node", "owner", "email"]])


@pytest.mark.parametrize(
    "document",
    [
        "{ viewer { ... on Node { ... on User { email } } } }",
        "query Q($with: Boolean = true) { viewer { ...F @include(if: $with) } } fragment F on Node { ... on User { mail: email } }",
        "{ viewer { sessions { id } } }",
        "{ viewer { loginEvents { totalCount } } }",
        "{ viewer { username } __schema { queryType { name } } again: viewer { email } }",
    ],
)
async def test_a_field_is_refused_on_every_way_to_it(document: str, ada: Client, make_key: MakeKey) -> None:
    key = await make_key("READ", url=ada.url)
    answer = await key.post(document)
    assert missing(answer) == [("FORBIDDEN", "ACCOUNT")]
    assert "ada@example.org" not in str(answer)
    assert "errors" not in await ada.post(document)


async def test_what_is_left_out_needs_no_scope(ada: Client, make_key: MakeKey) -> None:
    key = await make_key("READ", url=ada.url)
    document = "query($with: Boolean!) { viewer { username email @include(if: $with) ... @skip(if: true) { creditBalance } } }"
    assert await key.one(document, **{"with": False}) == {"username": "ada"}
    assert missing(await key.post(document, **{"with": True})) == [("FORBIDDEN", "ACCOUNT")]
    of_another_type = "query($id: ID!) { node(id: $id) { id ... on Session { ipAddress } ... on Dataset { name } } }"
    dataset = await ada.create_dataset("wine")
    assert await key.one(of_another_type, id=dataset) == {"id": dataset, "name": "wine"}


async def test_an_id_of_a_type_with_another_scope_is_refused_whether_it_exists_or_not(
    ada: Client, make_key: MakeKey, sign_in: Callable[[str], Awaitable[Client]]
) -> None:
    key, session = await make_key("READ", url=ada.url), await sign_in("ada")
    (existing,) = await session.one("{ sessions { id } }")
    unused = f"session_{uuid4().hex}"
    answers = [await key.post("query($id: ID!) { node(id: $id) { __typename } }", id=each) for each in (existing["id"], unused)]
    assert [missing(answer) for answer in answers] == [[("FORBIDDEN", "ACCOUNT")]] * 2
    assert [answer["errors"][0]["message"] for answer in answers[:1]] == [answers[1]["errors"][0]["message"]]
    several = await key.post("query($ids: [ID!]!) { nodes(ids: $ids) { __typename } }", ids=[existing["id"]])
    assert (several["data"], missing(several)) == (None, [("FORBIDDEN", "ACCOUNT")])


async def test_a_mutation_is_refused_before_it_changes_anything(ada: Client, make_key: MakeKey) -> None:
    key = await make_key("READ", "WRITE", url=ada.url)
    document = (
        'mutation($with: Boolean!) { createDataset(input: {name: "wine"}) { __typename ... on CreateDatasetPayload'
        " { dataset { name owner { email @include(if: $with) } } } } }"
    )
    refused = await key.post(document, **{"with": True})
    assert (refused["data"], missing(refused)) == (None, [("FORBIDDEN", "ACCOUNT")])
    assert await ada.one("{ datasets { totalCount } }") == {"totalCount": 0}
    assert (await key.one(document, **{"with": False}))["dataset"] == {"name": "wine", "owner": {}}
    writing = await make_key("WRITE", url=ada.url)
    assert missing(await writing.post(document.replace("wine", "beer"), **{"with": False})) == [("FORBIDDEN", "READ")]
    assert await ada.one("{ datasets { totalCount } }") == {"totalCount": 1}


async def test_who_signs_in_with_a_poor_key_goes_on_as_the_session(
    ada: Client, make_key: MakeKey, sign_in: Callable[[str], Awaitable[Client]]
) -> None:
    await sign_in("ada")
    key = await make_key("READ", "WRITE", url=ada.url)
    document = (
        'mutation($input: LoginInput!) { a: createDataset(input: {name: "before"}) { ... on CreateDatasetPayload { dataset { owner { FIELD } } } }'
        " login(input: $input) { ... on LoginPayload { viewer { email } session { isCurrent } } }"
        ' b: createDataset(input: {name: "after"}) { ... on CreateDatasetPayload { dataset { owner { email } } } } }'
    )
    right = {"login": "ada", "password": "correct horse battery"}
    data = await key.execute(document.replace("FIELD", "username"), input=right)
    assert data["login"] == {"viewer": {"email": "ada@example.org"}, "session": {"isCurrent": True}}
    assert data["b"]["dataset"] == {"owner": {"email": "ada@example.org"}}
    for first, login in (("email", right), ("username", {**right, "password": "wrong password"})):
        answer = await key.post(document.replace("FIELD", first).replace("before", first).replace("after", f"{first} 2"), input=login)
        assert (answer["data"], missing(answer)) == (None, [("FORBIDDEN", "ACCOUNT")])


async def test_an_admins_key_sees_everybodys_rows_only_with_the_scope_for_it(
    ada: Client, make_client: ClientFactory, make_key: MakeKey
) -> None:
    boss = await make_client("boss", UserRole.ADMIN)
    await ada.create_dataset("ada's")
    await boss.create_dataset("boss's")
    narrow = await make_key("READ", "ACCOUNT", owner="boss@example.org", url=ada.url)
    wide = await make_key("READ", "ACCOUNT", "ADMIN", owner="boss@example.org", url=ada.url)
    ada_id = (await ada.one("{ viewer { id } }"))["id"]
    for _ in range(2):  # the statements are prepared by the first, and shared by viewers with the same rights
        for client, names in ((narrow, {"boss's"}), (wide, {"ada's", "boss's"}), (boss, {"ada's", "boss's"}), (ada, {"ada's"})):
            page = await client.one("{ datasets { totalCount edges { node { name } } } }")
            assert ({edge["node"]["name"] for edge in page["edges"]}, page["totalCount"]) == (names, len(names))
    node = "query($id: ID!) { node(id: $id) { id } }"
    assert [await client.one(node, id=ada_id) for client in (narrow, wide)] == [None, {"id": ada_id}]
    owners = {
        edge["node"]["owner"]["username"] for edge in (await narrow.one("{ apiKeys { edges { node { owner { username } } } } }"))["edges"]
    }
    assert owners == {"boss"}


async def test_a_scope_that_is_taken_away_ends_what_an_open_stream_shows(ada: Client, make_key: MakeKey, database: Database) -> None:
    """Scopes of a key do not change through the API, but no result that is shared may depend on that."""
    poor, rich = [await make_key("READ", "WRITE", "RUN", "ACCOUNT", url=ada.url) for _ in range(2)]
    document = "subscription { jobUpdates { id owner { email } } }"

    @asynccontextmanager
    async def watching(client: Client) -> AsyncGenerator[Any]:
        async with open_websocket(ada.url, bearer(client)) as websocket:
            await send_subscribe(websocket, "1", document)
            yield websocket

    async with watching(poor) as first, watching(rich) as second:
        async with database.work(SYSTEM) as work:
            owner = await work.scalar(
                update(ApiKey).where(ApiKey.token_sha256 == token_hash(poor.token or "")).values(scopes=["read"]).returning(ApiKey.user_id)
            )
            work.revalidate_sessions(owner)
        dataset = await ada.create_dataset("streamed")
        await ada.upload(dataset, "streamed.csv", b"x\n1\n")
        shown, refused = (await receive_message(second))["payload"], (await receive_message(first))["payload"]
        assert shown["data"]["jobUpdates"]["owner"] == {"email": "ada@example.org"}
        assert (refused["data"], missing(refused)) == (None, [("FORBIDDEN", "ACCOUNT")])
