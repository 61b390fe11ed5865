"""The ledger as people read it: their own entries and their teams', what admins grant and give back, and what the database refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.services import jobs
from tests.audit.test_events import events
from tests.billing.conftest import BillingDriver
from tests.client import Client, GraphQLErrors

ENTRIES = """query($filter: CreditTransactionFilter, $after: String) { creditTransactions(first: 3, after: $after, filter: $filter) {
  totalCount pageInfo { hasNextPage endCursor } edges { node { id sequence type amount held balanceAfter heldAfter description job { id }
  actor { username } owner { username } } } } }"""
IDS = "{ creditTransactions { edges { node { id } } } }"
CREDITS = "{ viewer { credits { balance held available } } }"
GRANT = """mutation($input: GrantCreditsInput!) { grantCredits(input: $input) { __typename
  ... on GrantCreditsPayload { transaction { id sequence type amount balanceAfter description actor { username } } user { username credits { available } } }
  ... on Problem { code message } } }"""
REFUND = """mutation($input: RefundJobInput!) { refundJob(input: $input) { __typename
  ... on RefundJobPayload { transaction { type amount description owner { username } } job { id credits { held charged refunded } } }
  ... on Problem { code message } } }"""
SignIn = Callable[[str], Awaitable[Client]]


async def pages(client: Client, **criteria: Any) -> list[dict[str, Any]]:
    """All entries that a client lists, page by page."""
    entries: list[dict[str, Any]] = []
    after = None
    while True:
        page = await client.one(ENTRIES, filter=criteria, after=after)
        entries += [edge["node"] for edge in page["edges"]]
        if not page["pageInfo"]["hasNextPage"]:
            assert page["totalCount"] == len(entries)
            return entries
        after = page["pageInfo"]["endCursor"]


async def completed_job(billing: BillingDriver, owner_id: UUID) -> str:
    claim = await billing.claim(await billing.submit(owner_id))
    async with billing.database.work(SYSTEM) as work:
        await jobs.complete(work, claim)
    return f"job_{claim.job_id.hex}"


async def test_a_ledger_has_every_change_with_its_results_newest_first(
    billing: BillingDriver, prices: Mapping[str, int], ada: Client, bob: Client, admin: Client
) -> None:
    ada_id = await billing.user_id(ada)
    granted = await admin.one(GRANT, input={"userId": f"user_{ada_id.hex}", "amount": 9, "reason": "for the workshop"})
    assert (
        granted.pop("transaction").items() >= {"sequence": 1, "type": "ADJUSTMENT", "amount": 9, "description": "for the workshop"}.items()
    )
    assert granted == {"__typename": "GrantCreditsPayload", "user": {"username": "ada", "credits": {"available": 9}}}
    done = await completed_job(billing, ada_id)
    cancelled = await billing.submit(ada_id)
    async with billing.database.work(SYSTEM) as work:
        await jobs.cancel(work, cancelled)
    assert await ada.one(CREDITS) == {"credits": {"balance": 8, "held": 0, "available": 8}}
    waiting = f"job_{(await billing.submit(ada_id)).hex}"
    assert await ada.one(CREDITS) == {"credits": {"balance": 8, "held": 1, "available": 7}}
    entries = await pages(ada)
    kept = ("sequence", "type", "amount", "held", "balanceAfter", "heldAfter", "description")
    assert [tuple(entry[name] for name in kept) for entry in entries] == [
        (6, "HOLD", -1, 1, 7, 1, "Held for a job."),
        (5, "RELEASE", 1, -1, 8, 0, "Released by a job that did not complete."),
        (4, "HOLD", -1, 1, 7, 1, "Held for a job."),
        (3, "CONSUMPTION", 0, -1, 8, 0, "Charged for a job that completed."),
        (2, "HOLD", -1, 1, 8, 1, "Held for a job."),
        (1, "ADJUSTMENT", 9, 0, 9, 0, "for the workshop"),
    ]
    assert [entry["job"] and entry["job"]["id"] for entry in entries] == [waiting, *[f"job_{cancelled.hex}"] * 2, done, done, None]
    assert [entry["actor"] and entry["actor"]["username"] for entry in entries] == ["ada", None, "ada", None, "ada", "admin"]
    assert {entry["owner"]["username"] for entry in entries} == {"ada"}
    of_job = "query($id: ID!) { job(id: $id) { creditTransactions { edges { node { sequence } } } } }"
    assert [edge["node"]["sequence"] for edge in (await ada.one(of_job, id=done))["creditTransactions"]["edges"]] == [3, 2]
    for criteria, sequences in (
        ({"type": ["ADJUSTMENT", "RELEASE"]}, [5, 1]),
        ({"jobId": done}, [3, 2]),
        ({"jobId": done, "type": ["HOLD"]}, [2]),
        ({"createdAt": {"lt": "2020-01-01T00:00:00Z"}}, []),
    ):
        assert [entry["sequence"] for entry in await pages(ada, **criteria)] == sequences
    assert await pages(admin, ownerId=f"user_{ada_id.hex}") == entries
    assert await pages(bob) == []
    assert await bob.one("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=[entry["id"] for entry in entries]) == [None] * 6


async def test_of_a_team_its_members_read_the_ledger_and_nobody_else(
    billing: BillingDriver, ada: Client, bob: Client, admin: Client, sign_in: SignIn
) -> None:
    document = 'mutation { createTeam(input: {name: "Bearings", username: "bearings"}) { ... on CreateTeamPayload { team { id } } } }'
    team = (await (await sign_in("ada")).one(document))["team"]["id"]
    await admin.one(GRANT, input={"userId": team, "amount": 5, "reason": "its own", "type": "PURCHASE"})
    await admin.one(GRANT, input={"userId": (await ada.one("{ viewer { id } }"))["id"], "amount": 1, "reason": "hers"})
    assert [(entry["owner"]["username"], entry["type"], entry["amount"]) for entry in await pages(ada)] == [
        ("ada", "ADJUSTMENT", 1),
        ("bearings", "PURCHASE", 5),
    ]
    of_team = "query($id: ID!) { user(id: $id) { credits { available } creditTransactions { totalCount } } }"
    assert await ada.one(of_team, id=team) == {"credits": {"available": 5}, "creditTransactions": {"totalCount": 1}}
    assert await bob.one(of_team, id=team) is None
    assert await pages(bob) == []


async def test_an_api_key_reads_credits_with_the_scope_billing_alone(ada: Client, admin: Client, sign_in: SignIn) -> None:
    session = await sign_in("ada")
    create = "mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) { ... on CreateApiKeyPayload { secret } } }"
    for scopes, is_allowed in ((["READ", "WRITE", "RUN"], False), (["READ", "BILLING"], True)):
        key = Client(ada.url, (await session.one(create, input={"name": "a key", "scopes": scopes}))["secret"])
        for query in (IDS, CREDITS):
            if is_allowed:
                await key.one(query)
            else:
                with pytest.raises(GraphQLErrors) as refused:
                    await key.one(query)
                assert refused.value.codes == ["FORBIDDEN"]
        await key.close()


@pytest.mark.parametrize("mutation", [GRANT, REFUND], ids=["grantCredits", "refundJob"])
async def test_only_admins_grant_and_refund(
    billing: BillingDriver, prices: Mapping[str, int], ada: Client, reader: Client, mutation: str
) -> None:
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, 3)
    job = await completed_job(billing, ada_id)
    before = await billing.ledger(ada_id)
    request = {"userId": f"user_{ada_id.hex}", "amount": 1} if mutation == GRANT else {"jobId": job}
    for client in (ada, reader):
        with pytest.raises(GraphQLErrors) as refused:
            await client.one(mutation, input={**request, "reason": "because"})
        assert refused.value.codes == ["FORBIDDEN"]
    assert await billing.ledger(ada_id) == before


async def test_a_grant_sent_again_with_its_key_is_written_once_and_audited_once(billing: BillingDriver, ada: Client, admin: Client) -> None:
    ada_id = await billing.user_id(ada)
    request = {"userId": f"user_{ada_id.hex}", "amount": 7, "reason": "paid by invoice 12", "type": "PURCHASE", "idempotencyKey": "12"}
    answers = await asyncio.gather(*(admin.one(GRANT, input=request) for _ in range(5)))
    assert len({answer["transaction"]["id"] for answer in answers}) == 1
    assert await billing.entries(ada_id) == [("PURCHASE", 7, 0)]
    taken = await admin.one(GRANT, input={"userId": f"user_{ada_id.hex}", "amount": -8, "reason": "too many"})
    assert taken == {"__typename": "InsufficientCredits", "code": "INSUFFICIENT_CREDITS", "message": taken["message"]}
    await admin.one(GRANT, input={"userId": f"user_{ada_id.hex}", "amount": -7, "reason": "too many"})
    assert await billing.balances(ada_id) == (0, 0)
    amounts = [event["after"]["amount"] for event in await events(admin, "after", action=["grant_credits"])]
    assert amounts == [7, -7]


async def test_a_job_is_refunded_once_and_at_most_what_it_was_charged(
    billing: BillingDriver, prices: dict[str, int], ada: Client, admin: Client
) -> None:
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, 20)
    prices["EXPORT"] = 10
    job, other = await completed_job(billing, ada_id), await completed_job(billing, ada_id)
    before = await billing.ledger(ada_id)
    for amount in (0, -1, 11):
        refused = await admin.one(REFUND, input={"jobId": job, "reason": "slow", "amount": amount})
        assert (refused["__typename"], await billing.ledger(ada_id)) == ("InvalidInput", before)
    answers = await asyncio.gather(*(admin.one(REFUND, input={"jobId": job, "reason": "slow", "amount": 4}) for _ in range(5)))
    assert sorted(answer["__typename"] for answer in answers) == ["RefundJobPayload", *["WrongState"] * 4]
    (refund,) = [answer for answer in answers if answer["__typename"] == "RefundJobPayload"]
    assert refund["transaction"] == {"type": "REFUND", "amount": 4, "description": "slow", "owner": {"username": "ada"}}
    assert refund["job"] == {"id": job, "credits": {"held": 0, "charged": 10, "refunded": 4}}
    assert (await admin.one(REFUND, input={"jobId": other, "reason": "slow"}))["transaction"]["amount"] == 10, "all of it"
    assert await billing.balances(ada_id) == (14, 0)
    assert [entry[:2] for entry in await billing.entries(ada_id)][-2:] == [("REFUND", 4), ("REFUND", 10)]


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["UPDATE users SET credit_balance = credit_balance + 1 WHERE username = 'ada'"], "without an entry 2 of the ledger"),
        (["UPDATE users SET credits_held = 1, credit_sequence = 3 WHERE username = 'ada'"], "without an entry 2 of the ledger"),
        (["INSERT"], "entry 2 of the ledger of account .* has not changed its credits"),
        (["INSERT", "UPDATE users SET credit_balance = 6, credit_sequence = 2 WHERE username = 'ada'"], "without an entry 2 of the ledger"),
        (
            ["INSERT", "UPDATE users SET credit_balance = 7, credit_sequence = 1 WHERE username = 'ada'"],
            "entry 2 of the ledger of account .* has not changed",
        ),
        (["INSERT", "UPDATE users SET credit_balance = 7, credit_sequence = 2 WHERE username = 'ada'"], None),
    ],
)
async def test_an_entry_and_the_account_agree_at_each_commit(
    billing: BillingDriver, ada: Client, statements: list[str], message: str | None
) -> None:
    """Even for whoever writes SQL by hand: of five credits, an entry says that there are seven."""
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, 5)
    insert = """INSERT INTO credit_transactions (owner_id, sequence, kind, amount, balance_after, held_after)
        SELECT id, 2, 'adjustment', 2, 7, 0 FROM users WHERE username = 'ada'"""

    async def write() -> None:
        async with billing.database.engine.begin() as connection:
            for statement in statements:
                await connection.execute(text(insert if statement == "INSERT" else statement))

    if message is None:
        await write()
        assert (await billing.balances(ada_id), len(await billing.ledger(ada_id))) == ((7, 0), 2)
    else:
        with pytest.raises(Exception, match=message):
            await write()
        assert (await billing.balances(ada_id), len(await billing.ledger(ada_id))) == ((5, 0), 1)
