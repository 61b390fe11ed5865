"""What is not yours does not exist: every place that takes an ID, with every kind of id, as nobody, a stranger, the owner and the admin."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    get_named_type,
    is_leaf_type,
)
from sqlalchemy import text

from db.core.work import Database
from graph.core.ids import KINDS
from graph.schema import schema
from tests import selection
from tests.client import Client
from tests.factories import platform
from tests.walking import walk

SCHEMA = schema._schema
CSV = "x,label\n" + "".join(f"{i},{'a' if i % 3 else 'b'}\n" for i in range(30))
VALUES: Mapping[str, Any] = {
    "String": "x",
    "Int": 1,
    "Float": 1.0,
    "BigInt": 1,
    "Boolean": False,
    "JSON": {},
    "DateTime": "2026-01-01T00:00:00Z",
}

Value = GraphQLArgument | GraphQLInputField


@dataclass(frozen=True)
class Place:
    """Where an ID goes in: a root field, and the path from its arguments to the ID."""

    operation: str
    root: str
    path: tuple[str, ...]
    is_list: bool

    def __str__(self) -> str:
        return f"{self.operation} {self.root}({'.'.join(self.path)}:)"


def places() -> Iterator[Place]:
    for operation, type_ in (("query", SCHEMA.query_type), ("mutation", SCHEMA.mutation_type), ("subscription", SCHEMA.subscription_type)):
        assert type_ is not None
        for root, field in type_.fields.items():
            for name, argument in field.args.items():
                for path, is_list in _ids_in(argument, (name,)):
                    yield Place(operation, root, path, is_list)


def _ids_in(value: Value, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    named = get_named_type(value.type)
    bare = value.type.of_type if isinstance(value.type, GraphQLNonNull) else value.type
    if named.name == "ID":
        yield path, isinstance(bare, GraphQLList)
    elif isinstance(named, GraphQLInputObjectType) and path.count(path[-1]) == 1:
        for name, inner in named.fields.items():
            yield from _ids_in(inner, (*path, name))


PLACES = tuple(places())


@cache
def document(place: Place) -> str:
    """The root field with all its arguments as variables, and everything of the answer."""
    root = _root(place)
    declared = ", ".join(f"${name}: {argument.type}" for name, argument in root.args.items())
    given = ", ".join(f"{name}: ${name}" for name in root.args)
    declared, given = (f"({names})" if names else "" for names in (declared, given))
    named = get_named_type(root.type)
    if is_leaf_type(named):
        asked = ""
    elif isinstance(named, GraphQLObjectType):
        asked = f" {{ {selection.whole(SCHEMA, named.name, 2)} }}"
    else:
        possible = SCHEMA.get_possible_types(named)  # pyright: ignore[reportArgumentType] - what is no object here is abstract
        parts = " ".join(_as_one_of_many(number, type_) for number, type_ in enumerate(possible))
        asked = f" {{ __typename {parts} }}"
    return f"{place.operation}{declared} {{ {place.root}{given}{asked} }}"


def _as_one_of_many(number: int, type_: GraphQLObjectType) -> str:
    """Members of a union disagree on the types of fields of one name, so each has its own aliases."""
    own = ((name, one) for name, field in type_.fields.items() if (one := selection.field(SCHEMA, name, field, 1)) is not None)
    return f"... on {type_.name} {{ {' '.join(f'a{number}_{name}: {one}' for name, one in own)} }}"


def variables(place: Place, target: str, own: Mapping[str, str]) -> dict[str, Any]:
    """What must be given, with `target` at the place; other ids are the asker's own."""
    found: dict[str, Any] = {}
    for name, argument in _root(place).args.items():
        if place.path[0] == name or isinstance(argument.type, GraphQLNonNull):
            found[name] = _filled(argument, place, (name,), target, own)
    return found


def _filled(value: Value, place: Place, path: tuple[str, ...], target: str, own: Mapping[str, str]) -> Any:
    named = get_named_type(value.type)
    if path == place.path:
        return [target] if place.is_list else target
    bare = value.type.of_type if isinstance(value.type, GraphQLNonNull) else value.type
    if isinstance(named, GraphQLInputObjectType):
        inner = {
            name: _filled(field, place, (*path, name), target, own)
            for name, field in named.fields.items()
            if isinstance(field.type, GraphQLNonNull) or place.path[: len(path) + 1] == (*path, name)
        }
        return [inner] if isinstance(bare, GraphQLList) else inner
    if named.name == "ID":
        one: Any = own[path[-1]]
    elif isinstance(named, GraphQLEnumType):
        one = next(iter(named.values))
    else:
        one = VALUES[named.name]
    return [one] if isinstance(bare, GraphQLList) else one


def _root(place: Place) -> Any:
    root_type = {"query": SCHEMA.query_type, "mutation": SCHEMA.mutation_type, "subscription": SCHEMA.subscription_type}[place.operation]
    assert root_type is not None
    return root_type.fields[place.root]


async def answered(client: Client, place: Place, target: str, own: Mapping[str, str]) -> str:
    """The whole answer as text, without the target and what is new in every answer."""
    query, values = document(place), variables(place, target, own)
    if place.operation == "subscription":
        patience = 0.5 if place.root == "jobUpdates" else 15  # a filter that fits nothing is answered with silence
        answer = await _first(client, query, values, patience)
    else:
        answer = await client.post(query, **values)
    for error in answer.get("errors", ()):
        error["extensions"].pop("requestId", None)
    return json.dumps(answer, sort_keys=True).replace(target, "<id>")


async def _first(client: Client, query: str, values: dict[str, Any], patience: float) -> dict[str, Any]:
    """What a subscription says first, or that it says nothing."""
    async with client.socket() as (send, receive):
        await send({"id": "1", "type": "subscribe", "payload": {"query": query, "variables": values}})
        try:
            async with asyncio.timeout(patience):
                message = await receive()
        except TimeoutError:
            return {"silent": True}
        return {"errors": message["payload"]} if message["type"] == "error" else message


def never_made(like: str) -> str:
    prefix, _, digits = like.partition("_")
    return f"{prefix}_{UUID(digits).hex[:12]}7{uuid4().hex[13:]}"


async def _same(client: Client, place: Place, target: str, own: Mapping[str, str]) -> bool:
    """Whether the answer is that for an id that was never made."""
    return await answered(client, place, target, own) == await answered(client, place, never_made(target), own)


async def _rows_of(database: Database, owner: UUID) -> dict[str, str]:
    """A digest of all that belongs to somebody."""
    owned = [
        row.name
        for row in await database.rows(
            text(
                "SELECT table_name AS name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'owner_id'"
                " AND table_name NOT IN ('idempotency_keys') ORDER BY 1"
            )
        )
    ]
    statements = {name: f"SELECT t FROM {name} t WHERE owner_id = :owner" for name in owned}
    for name, parent, key in (
        ("dataset_versions", "datasets", "dataset_id"),
        ("model_alias_events", "models", "model_id"),
        ("job_events", "jobs", "job_id"),
        ("run_metrics", "runs", "run_id"),
    ):
        statements[name] = f"SELECT t FROM {name} t WHERE {key} IN (SELECT id FROM {parent} WHERE owner_id = :owner)"
    digests: dict[str, str] = {}
    for name, statement in statements.items():
        digest = text(f"SELECT md5(string_agg(x.t::text, '|' ORDER BY x.t::text)) AS digest FROM ({statement}) x(t)")
        digests[name] = (await database.rows(digest, {"owner": owner}))[0].digest
    return digests


async def _hers(ada: Client, database: Database) -> dict[str, str]:
    """One id of every kind that there is."""
    await platform.fill(database, "ada", 1)
    dataset = (await ada.one("{ datasets(first: 1) { edges { node { id } } } }"))["edges"][0]["node"]["id"]
    upload = (await ada.request_upload(dataset, "later.csv", b"x"))["upload"]["id"]
    first = (await ada.one("{ jobs(first: 1) { edges { node { id } } } }"))["edges"][0]["node"]["id"]
    seen = await walk(ada, [first, dataset])
    ids = {nodes[0]["id"].partition("_")[0]: nodes[0]["id"] for nodes in seen.values()}
    return {**ids, "upload": upload}


async def _his(bob: Client) -> dict[str, str]:
    """What he fills other ID fields with, so that only the foreign id can be what is wrong."""
    version = await bob.ingest("his", CSV, targetColumn="label", problemType="CLASSIFICATION")
    found = await bob.one("query($id: ID!) { node(id: $id) { ... on DatasetVersion { dataset { id } producedBy { id } } } }", id=version)
    pipeline = (await bob.create_pipeline("his", ("data", "dataset", {}), ("train", "train_random_forest", {"target": "label"})))[
        "pipeline"
    ]
    me = (await bob.one("{ viewer { id } }"))["id"]
    return {
        "pipelineId": pipeline["id"],
        "datasetVersionId": version,
        "datasetId": found["dataset"]["id"],
        "id": found["producedBy"]["id"],
        "ownerId": me,
    } | dict.fromkeys(("experimentId", "modelVersionId", "modelId", "uploadId", "ids"), never_made(version))


async def test_a_foreign_id_answers_exactly_as_one_that_was_never_made(
    ada: Client, bob: Client, reader: Client, admin: Client, nobody: Client, database: Database, worker: object
) -> None:
    hers, own = await _hers(ada, database), await _his(bob)
    me = UUID((await ada.one("{ viewer { id } }"))["id"].partition("_")[2])
    assert set(hers) >= set(KINDS) - {"artifact"}, "there is a row of every kind to be looked for"
    before = await _rows_of(database, me)
    leaks: list[str] = []
    for place in PLACES:
        asked = [(bob, target) for target in hers.values()]
        if place.operation == "query":  # who may only read is refused every mutation before anything is looked up
            asked += [(reader, hers[kind]) for kind in ("job", "dataset", "model")]
        same = await asyncio.gather(*(_same(stranger, place, target, own) for stranger, target in asked))
        leaks += [f"{place} with {target}" for (_, target), is_same in zip(asked, same, strict=True) if not is_same]
    assert leaks == []
    assert [str(place) for place in PLACES if "UNAUTHENTICATED" not in await answered(nobody, place, hers["job"], own)] == []
    assert await _rows_of(database, me) == before, "nothing of hers has changed"

    # That the walk can find anything at all: for her and for an admin there is an id at every place that is told from one never made.
    for client in (ada, admin):
        for place in (place for place in PLACES if place.operation == "query"):
            for target in hers.values():
                if not await _same(client, place, target, own):
                    break
            else:
                raise AssertionError(f"{place} tells nobody anything")


async def test_a_foreign_id_makes_no_more_work_than_one_that_was_never_made(
    ada: Client, bob: Client, database: Database, worker: object, statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    """What a clock could tell is told by the statements: the same ones are sent for both, so that none of them can find anything."""
    hers, own = await _hers(ada, database), await _his(bob)

    async def sent(place: Place, target: str) -> list[str]:
        with statements() as found:
            await answered(bob, place, target, own)
        return found

    async def differ(place: Place, target: str) -> bool:
        return await sent(place, target) != await sent(place, never_made(target))

    asked = [(place, target) for place in PLACES if place.operation != "subscription" for target in hers.values()]
    for _ in range(3):  # what this process looks for each second may come between; it does not do so three times in a row
        asked = [(place, target) for place, target in asked if await differ(place, target)]
    assert [f"{place} with {target}" for place, target in asked] == []


async def test_nobody_is_answered_nothing(nobody: Client) -> None:
    """Every field of every root asks who is there, whatever else it is given."""
    for operation, type_ in (("query", SCHEMA.query_type), ("mutation", SCHEMA.mutation_type)):
        assert type_ is not None
        for name, field in type_.fields.items():
            place = Place(operation, name, (), is_list=False)
            required = {key: value for key, value in field.args.items() if isinstance(value.type, GraphQLNonNull)}
            values = {key: _filled(value, place, (key,), "", _Anything()) for key, value in required.items()}
            answer = await nobody.post(document(place), **values)
            assert answer["data"] is None or set(answer["data"].values()) == {None}, name
            assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"], name


class _Anything(dict[str, str]):
    def __missing__(self, _key: str) -> str:
        return f"job_{uuid4().hex}"
