"""Every mutation ends in each of the ways that its result union names, and in no other, whatever its input."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLUnionType,
    get_named_type,
)

from db.core.work import Database
from db.settings import StateSettings, state_settings
from tests.audit_trail import audited
from tests.billing.stripe_stand_in import use
from tests.client import Client
from tests.endings import UNKNOWN, World, cases
from tests.exhaustive import sampled
from tests.served_schema import SERVED

assert isinstance(SERVED.mutation_type, GraphQLObjectType)
MUTATIONS = SERVED.mutation_type.fields
LONG = "x" * 20_001
AT_ONCE = 20  # the most root fields of an operation
ASKS_ONLY = {"beginPasskeyRegistration", "beginPasskeyLogin", "logMetrics"}  # they change nothing that is kept, or add data
HOSTILE: dict[str, list[Any]] = {
    "String": ["", " ", "\x00", "a\x00b", "a\nb", "\u202e", LONG],
    "ID": ["", "x", "\x00", f"dataset_{UNKNOWN}", f"job_{UNKNOWN}"],
    "Int": [-(2**31), 0, 2**31 - 1],
    "BigInt": [-(2**63), -1, 0, 2**63 - 1],
    "Float": [-1.0, 0.0, 1e308],
    "Boolean": [True, False],
    "JSON": ["text", 1, [], {}, {"a": {"b": [None]}}, {"\x00": "\x00"}, {LONG: LONG}, {"a": 2**64 - 1}, {"scale": {"a": "\x00"}}],
}


@pytest.fixture
def world(
    ada: Client,
    bob: Client,
    sign_in: Callable[[str], Awaitable[Client]],
    database: Database,
    worker: object,
    settings: StateSettings,
    set_registration: Callable[[str], None],
    admin: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    default_quota = state_settings().storage_quota_bytes

    def set_quota(quota: int | None) -> None:
        monkeypatch.setattr(state_settings(), "storage_quota_bytes", default_quota if quota is None else quota)

    def set_prices(prices: Mapping[str, int]) -> None:
        monkeypatch.setattr(state_settings(), "credit_prices", dict(prices))

    return World(ada, bob, database, set_quota, set_prices, ada, sign_in, set_registration, admin, partial(use, monkeypatch=monkeypatch))


ACTIONS = {"cancelJobs": "cancel_job"}
"""The actions in the audit that are not the mutation's name: each job that is cancelled has an event, by itself or among many."""


def documented_endings(mutation: str) -> set[str]:
    result = get_named_type(MUTATIONS[mutation].type)
    assert isinstance(result, GraphQLUnionType), f"{mutation} does not answer a union"
    return {member.name for member in result.types}


async def send(client: Client, mutation: str, *inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Send the mutation with each of the inputs, one after the other in one operation; the fields of the answer are `a0`, `a1`, …"""
    if not MUTATIONS[mutation].args:
        return await client.post(f"mutation {{ a0: {mutation} {{ __typename }} }}")
    (argument,) = MUTATIONS[mutation].args.values()
    numbers = range(len(inputs))
    declared = " ".join(f"$i{number}: {argument.type}" for number in numbers)
    fields = (f"a{number}: {mutation}(input: $i{number}) {{ __typename ... on Problem {{ code message }} }}" for number in numbers)
    return await client.post(f"mutation({declared}) {{ {' '.join(fields)} }}", **{f"i{number}": inputs[number] for number in numbers})


@pytest.mark.parametrize("mutation", sampled(sorted(MUTATIONS), 6))
async def test_a_mutation_ends_in_each_of_the_documented_ways(mutation: str, world: World) -> None:
    assert mutation in cases(), "Declare its endings in tests/endings/<domain>.py."
    reached, audited_count = set[str](), 0
    async for expected, given in cases()[mutation](world):
        async with audited(world.database) as trail:
            answer = await send(world.sender, mutation, given)
        assert answer.get("errors") is None, (given, answer)
        assert answer["data"]["a0"]["__typename"] == expected, (given, answer)
        action = ACTIONS.get(mutation, snake_case(mutation))
        assert trail.actions == ([action] if trail.written else []), (
            f"{mutation} wrote to {sorted(trail.written)}; its events in the audit are {trail.actions}. What changes something calls"
            f" `work.record({action!r}, …)` once, in its transaction, and nothing else does."
        )
        audited_count += len(trail.events)
        assert not [secret for secret in secrets_of(given) if secret in str(trail.events)], "a secret of the input is in the audit"
        reached.add(expected)
    assert audited_count or mutation in ASKS_ONLY, f"{mutation} never changed anything here, so nothing is proven of its events"
    assert reached == documented_endings(mutation)


@pytest.mark.parametrize("mutation", sampled(sorted(name for name, field in MUTATIONS.items() if field.args), 16))
async def test_a_mutation_ends_in_no_other_way_whatever_its_input(mutation: str, world: World) -> None:
    """Each value of an input that succeeds is replaced in turn. What GraphQL itself refuses, such as an integer out of range, is not executed."""
    documented, endings, executed = documented_endings(mutation), cases()[mutation](world), 0
    _, succeeding = await anext(endings)
    (argument,) = MUTATIONS[mutation].args.values()
    inputs = list(variants(argument.type, succeeding))
    for start in range(0, len(inputs), AT_ONCE):
        several = inputs[start : start + AT_ONCE]
        together = await send(world.sender, mutation, *several)
        for number, given in enumerate(several):
            # Where GraphQL refuses one of them, or one has an error, each is sent alone.
            answer, field = (together, f"a{number}") if together.get("data") else (await send(world.sender, mutation, given), "a0")
            if "data" not in answer:
                assert {error["extensions"]["code"] for error in answer["errors"]} == {"BAD_USER_INPUT"}, (given, answer)
                continue
            executed += 1
            assert answer.get("errors") is None, (shortened(given), answer)
            assert answer["data"][field]["__typename"] in documented, (shortened(given), answer)
    assert executed >= len(HOSTILE["ID"])
    await endings.aclose()


def snake_case(name: str) -> str:
    return re.sub("([A-Z])", r"_\1", name.replace("OAuth", "Oauth")).lower()


def secrets_of(given: Mapping[str, Any]) -> list[str]:
    return [value for name, value in given.items() if re.search("password|token|secret|code", name, re.IGNORECASE) and value]


def variants(type_: GraphQLInputType, value: Any) -> Iterator[Any]:
    """Yield the value with each of its parts replaced in turn."""
    if not isinstance(type_, GraphQLNonNull):
        yield None
    bare = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
    if isinstance(bare, GraphQLList):
        yield []
        yield value * 150
        for position, item in enumerate(value):
            yield from ([*value[:position], variant, *value[position + 1 :]] for variant in variants(bare.of_type, item))
    elif isinstance(bare, GraphQLInputObjectType):
        for name, field in bare.fields.items():
            present = value.get(name)
            for variant in hostile_values(field.type) if present is None else variants(field.type, present):
                if variant is not None or not isinstance(field.type, GraphQLNonNull):
                    yield {**value, name: variant}
    else:
        yield from hostile_values(bare)


def hostile_values(type_: GraphQLInputType) -> list[Any]:
    """Values for a scalar or an enum. Of a list of one, GraphQL makes the list."""
    named: GraphQLNamedType = get_named_type(type_)
    return list(named.values) if isinstance(named, GraphQLEnumType) else HOSTILE.get(named.name, [])


def shortened(given: Any) -> str:
    return str(given).replace(LONG, "<long>")[:1_000]
