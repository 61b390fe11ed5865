"""Rows of other users are indistinguishable from missing ones.

Every argument that takes an ID is tested with ids of other types too, as an anonymous client, a stranger, the owner and the admin: with an
id of every type in the exhaustive tests, else with those of the types that it speaks of and with a share of the others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID, uuid4

import pytest
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
from sqlalchemy import Text, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from db.core.viewer import UserRole
from db.core.work import Database
from db.tables import Table
from graph.core.ids import NODE_REGISTRY
from graph.core.permissions import Scope
from graph.schema import schema
from tests import selection
from tests.accounts.test_teams import join, leave
from tests.client import Client
from tests.exhaustive import exhaustive
from tests.factories import platform
from tests.house.registration import OTHER_SCOPES
from tests.ownership import owner_condition

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
    "MetricValue": 1.0,
    "until": "2026-01-02T00:00:00Z",  # by the name of the argument: an end that comes after every start
    "query": "dataset",  # in the names of the factories
}

Value = GraphQLArgument | GraphQLInputField


@dataclass(frozen=True)
class Place:
    """An argument that takes an ID: a root field, and the path from its arguments to the ID."""

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
    named_type = get_named_type(value.type)
    nullable_type = value.type.of_type if isinstance(value.type, GraphQLNonNull) else value.type
    if named_type.name == "ID":
        yield path, isinstance(nullable_type, GraphQLList)
    elif isinstance(named_type, GraphQLInputObjectType) and path.count(path[-1]) == 1:
        for name, inner in named_type.fields.items():
            yield from _ids_in(inner, (*path, name))


PLACES = tuple(places())


@cache
def document(place: Place) -> str:
    """Return the root field with all its arguments as variables and all fields of its result."""
    root = _root(place)
    declared = ", ".join(f"${name}: {argument.type}" for name, argument in root.args.items())
    arguments = ", ".join(f"{name}: ${name}" for name in root.args)
    declared, arguments = (f"({names})" if names else "" for names in (declared, arguments))
    named_type = get_named_type(root.type)
    if is_leaf_type(named_type):
        selection_set = ""
    elif isinstance(named_type, GraphQLObjectType):
        selection_set = f" {{ {selection.all_fields(SCHEMA, named_type.name, 2)} }}"
    else:
        possible = SCHEMA.get_possible_types(named_type)  # pyright: ignore[reportArgumentType] - a type that is no object here is abstract
        parts = " ".join(_as_one_of_many(number, type_) for number, type_ in enumerate(possible))
        selection_set = f" {{ __typename {parts} }}"
    return f"{place.operation}{declared} {{ {place.root}{arguments}{selection_set} }}"


def _as_one_of_many(number: int, type_: GraphQLObjectType) -> str:
    """Alias the fields for each type: members of a union may disagree on the type of fields with one name."""
    own = ((name, field_text) for name in type_.fields if (field_text := _own_field(type_, name)) is not None)
    return f"... on {type_.name} {{ {' '.join(f'a{number}_{name}: {field_text}' for name, field_text in own)} }}"


def _own_field(type_: GraphQLObjectType, name: str) -> str | None:
    """A field with the fields of a part; of another type with ids, its id alone: its fields are among those of the types, and a document has a limit."""
    if get_named_type(type_.fields[name].type) in selection.node_types(SCHEMA):
        return f"{name}{selection.arguments_text(type_, name)} {{ id }}"
    return selection.field_selection(SCHEMA, type_, name, 1)


def variables(place: Place, target: str, own: Mapping[str, str]) -> dict[str, Any]:
    """Return the required variables, with `target` at the place; other ids are the viewer's own. What compares two things compares one with itself."""
    if place.root in {"compareVersions", "compareSnapshots"}:
        return dict.fromkeys(_root(place).args, target)
    values: dict[str, Any] = {}
    for name, argument in _root(place).args.items():
        if place.path[0] == name or isinstance(argument.type, GraphQLNonNull):
            values[name] = input_value(argument, place, (name,), target, own)
    return values


def input_value(value: Value, place: Place, path: tuple[str, ...], target: str, own: Mapping[str, str]) -> Any:
    named_type = get_named_type(value.type)
    if path == place.path:
        return [target] if place.is_list else target
    nullable_type = value.type.of_type if isinstance(value.type, GraphQLNonNull) else value.type
    if isinstance(named_type, GraphQLInputObjectType):
        inner = {
            name: input_value(field, place, (*path, name), target, own)
            for name, field in named_type.fields.items()
            if isinstance(field.type, GraphQLNonNull) or place.path[: len(path) + 1] == (*path, name)
        }
        return [inner] if isinstance(nullable_type, GraphQLList) else inner
    if named_type.name == "ID":
        entry: Any = own.get(f"{place.root}.{path[-1]}") or own[path[-1]]
    elif isinstance(named_type, GraphQLEnumType):
        entry = next(iter(named_type.values))
    else:
        entry = VALUES[path[-1] if path[-1] in VALUES else named_type.name]
    return [entry] if isinstance(nullable_type, GraphQLList) else entry


def _root(place: Place) -> Any:
    root_type = {"query": SCHEMA.query_type, "mutation": SCHEMA.mutation_type, "subscription": SCHEMA.subscription_type}[place.operation]
    assert root_type is not None
    return root_type.fields[place.root]


async def answer_text(client: Client, place: Place, target: str, own: Mapping[str, str]) -> str:
    """Return the whole response as text, without the target and values that differ in every response."""
    query, values = document(place), variables(place, target, own)
    if place.operation == "subscription":
        timeout_seconds = 0.5 if place.path[0] == "filter" else 15  # a filter that matches nothing sends no event
        answer = await _first(client, query, values, timeout_seconds)
    else:
        answer = await client.post(query, **values)
    for error in answer.get("errors", ()):
        error["extensions"].pop("requestId", None)
    return json.dumps(answer, sort_keys=True).replace(target, "<id>")


async def _first(client: Client, query: str, values: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
    """Return the first event of a subscription, or that there is none within the timeout."""
    async with client.socket() as (send, receive):
        await send({"id": "1", "type": "subscribe", "payload": {"query": query, "variables": values}})
        try:
            async with asyncio.timeout(timeout_seconds):
                message = await receive()
        except TimeoutError:
            return {"silent": True}
        return {"errors": message["payload"]} if message["type"] == "error" else message


def unused_id(like: str) -> str:
    prefix, _, digits = like.partition("_")
    return f"{prefix}_{UUID(digits).hex[:12]}7{uuid4().hex[13:]}"


async def _is_indistinguishable(client: Client, place: Place, target: str, own: Mapping[str, str]) -> bool:
    """Return whether the response equals the one for an unused id."""
    return await answer_text(client, place, target, own) == await answer_text(client, place, unused_id(target), own)


def _probed(number: int, place: Place, ids: Mapping[str, str], part: int) -> list[str]:
    """Return the ids of the types that the place speaks of, first, and of the others one in `part`, another one at each place; all where
    it may be of any type."""
    text = f"{place.root} {'.'.join(place.path)}".lower().replace("owner", "user").replace("teamid", "user")
    named = [
        prefix for prefix, registration in NODE_REGISTRY.items() if registration.type.__name__.lower() in text and "subject" not in text
    ]
    others = [position for position, prefix in enumerate(ids) if prefix not in named and (not named or (number + position) % part == 0)]
    return [*(ids[prefix] for prefix in named), *(list(ids.values())[position] for position in others)]


async def _rows_of(database: Database, owner: UUID) -> dict[str, str]:
    """Return a digest of all rows of an owner, by table; without the last use of a token, which the owner's own requests set, and without
    counters, also of tags, which a worker corrects where a factory inserted rows past their triggers."""
    digests: dict[str, str] = {}
    for table in Table.metadata.sorted_tables:
        condition = owner_condition(table, owner)
        if condition is not None and table.name != "user_counters":
            row = func.to_jsonb(literal_column(table.name)).op("-")(literal_column("ARRAY['last_used_at', 'usage_count']"))
            rows = select(cast(row, Text).label("row")).select_from(table).where(condition).subquery()
            digest = select(func.md5(func.string_agg(rows.c.row, aggregate_order_by(literal_column("'|'"), rows.c.row))).label("digest"))
            digests[table.name] = (await database.rows(digest))[0].digest
    return digests


async def _ids_of_every_kind(database: Database) -> dict[str, str]:
    """Return one id of Ada's of every type."""
    await platform.fill(database, "ada", 1)
    await platform.add_states(database, "ada")
    return {prefix: ids[0] for prefix, ids in (await platform.ids_by_prefix(database, "ada")).items()}


class OwnIds(dict[str, str]):
    """Ids by the names of input fields: `runId` is the id of a run, `ownerId` that of the viewer; an unknown name gets an unused id.

    One of a single field has its name in front, as in `copyPipeline.id`.
    """

    def __init__(self, ids: Mapping[str, str]) -> None:
        named = {registration.type.__name__: ids[prefix] for prefix, registration in NODE_REGISTRY.items()}
        super().__init__({f"{name[0].lower()}{name[1:]}Id": own_id for name, own_id in named.items()})
        self["ownerId"] = ids["user"]

    def __missing__(self, name: str) -> str:
        return unused_id(self["ownerId"])


async def _own_ids(bob: Client, database: Database) -> OwnIds:
    """Return Bob's own ids for the other ID fields, so that only the foreign id can cause an error."""
    await platform.fill(database, "bob", 1)
    own = OwnIds({prefix: ids[0] for prefix, ids in (await platform.ids_by_prefix(database, "bob")).items() if ids})
    training = ("train", "train_random_forest", {"target": "label"})
    own["datasetVersionId"] = await bob.ingest("his", CSV, targetColumn="label", problemType="CLASSIFICATION")
    own["copyPipeline.id"] = own["pipelineId"] = (await bob.create_pipeline("his", ("data", "dataset", {}), training))["pipeline"]["id"]
    own["compareRows.from"] = own["compareRows.to"] = own["datasetVersionId"]
    own["moveRuns.ids"] = own["runId"]
    own["packageId"] = own["creditPackageId"]
    return own


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", [192, exhaustive(1)])
async def test_a_foreign_id_answers_exactly_as_one_that_was_never_made(
    ada: Client, bob: Client, reader: Client, admin: Client, anonymous: Client, database: Database, worker: object, part: int
) -> None:
    ada_ids, bob_ids = await _ids_of_every_kind(database), await _own_ids(bob, database)
    ada_id = UUID((await ada.one("{ viewer { id } }"))["id"].partition("_")[2])
    assert set(ada_ids) >= set(NODE_REGISTRY), "there is a row of every type"
    # Bob has left what Ada stands for, and is in another team: what he sees is that of several accounts.
    await join(database, ada_ids["user"], "bob", UserRole.ADMIN)
    assert await bob.one("query($id: ID!) { job(id: $id) { id } }", id=ada_ids["job"]) == {"id": ada_ids["job"]}
    await leave(database, ada_ids["user"], "bob")
    await join(database, (await reader.one("{ viewer { id } }"))["id"], "bob", UserRole.ADMIN)
    before = await _rows_of(database, ada_id)
    leaks: list[str] = []
    for number, place in enumerate(PLACES):
        probes = [(bob, target) for target in _probed(number, place, ada_ids, part)]
        if place.operation == "query":  # a VIEWER is refused every mutation before any id is resolved
            probes += [(reader, ada_ids[kind]) for kind in ("job", "dataset", "model")]
        results = await asyncio.gather(*(_is_indistinguishable(stranger, place, target, bob_ids) for stranger, target in probes))
        leaks += [f"{place} with {target}" for (_, target), is_same in zip(probes, results, strict=True) if not is_same]
    assert leaks == []
    assert [str(place) for place in PLACES if "UNAUTHENTICATED" not in await answer_text(anonymous, place, ada_ids["job"], bob_ids)] == []
    assert await _rows_of(database, ada_id) == before, "Ada's rows have not changed"

    # Check that the comparison can detect a difference: at every place, the owner and the admin get another response for some id than for
    # an unused one.
    for client in (ada, admin):
        # Of an estimate other ids than the tried one are Bob's, and together they are refused first; the factories' entries are of no job.
        # Nobody but their reader sees notifications.
        untold = {"estimateCost", "creditTransactions", *(["notifications"] if client is admin else [])}
        for place in (place for place in PLACES if place.operation == "query" and place.root not in untold):
            for target in _probed(0, place, ada_ids, 1):
                if not await _is_indistinguishable(client, place, target, bob_ids):
                    break
            else:
                raise AssertionError(f"{place} has the same response for every id")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", [144, exhaustive(1)])
async def test_a_foreign_id_makes_no_more_work_than_one_that_was_never_made(
    ada: Client,
    bob: Client,
    database: Database,
    worker: object,
    capture_statements: Callable[[], AbstractContextManager[list[str]]],
    part: int,
) -> None:
    """Timing cannot reveal that an id exists: the same statements are sent for both ids, and none of them finds a row.

    Of all places and types of id, one in `part`; each place and each type is among them.
    """
    ada_ids, bob_ids = await _ids_of_every_kind(database), await _own_ids(bob, database)

    async def sent(place: Place, target: str) -> list[str]:
        with capture_statements() as sent_statements:
            await answer_text(bob, place, target, bob_ids)
        return sent_statements

    async def differ(place: Place, target: str) -> bool:
        return await sent(place, target) != await sent(place, unused_id(target))

    places = [place for place in PLACES if place.operation != "subscription"]
    probes = [
        (place, target) for row, place in enumerate(places) for column, target in enumerate(ada_ids.values()) if (row + column) % part == 0
    ]
    for _ in range(3):  # periodic statements of this process may interfere, but not three times in a row
        probes = [(place, target) for place, target in probes if await differ(place, target)]
    assert [f"{place} with {target}" for place, target in probes] == []


async def test_an_anonymous_client_is_refused_everything(anonymous: Client) -> None:
    """Every root field requires authentication, whatever its arguments, but for those that are declared public."""
    public = {name.partition(".")[2] for name, scope in OTHER_SCOPES.items() if scope is Scope.PUBLIC}
    for operation, type_ in (("query", SCHEMA.query_type), ("mutation", SCHEMA.mutation_type)):
        assert type_ is not None
        for name, field in type_.fields.items():
            if name in public:
                continue
            place = Place(operation, name, (), is_list=False)
            required = {key: value for key, value in field.args.items() if isinstance(value.type, GraphQLNonNull)}
            values = {key: input_value(value, place, (key,), "", AnyIds()) for key, value in required.items()}
            answer = await anonymous.post(document(place), **values)
            assert answer["data"] is None or set(answer["data"].values()) == {None}, name
            assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"], name


class AnyIds(dict[str, str]):
    def __missing__(self, _key: str) -> str:
        return f"job_{uuid4().hex}"
