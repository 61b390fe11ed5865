"""Who is told of an event, what they see of it later, and how they mark it as read, choose and follow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from uuid import UUID

import pytest
from sqlalchemy import text

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import events, notifications
from db.services.maintenance import MaintenanceContext
from db.services.maintenance.rows import forget_notifications
from db.settings import StateSettings
from db.tables.notifications import EventType
from tests.accounts.test_teams import create_team, join, leave
from tests.client import Client, GraphQLErrors
from tests.endings import key_of
from tests.notifications.telling import LIST, PREFER, dispatched, told

SignIn = Callable[[str], Awaitable[Client]]
MARK = """mutation($input: MarkNotificationsReadInput!) { markNotificationsRead(input: $input) { __typename
  ... on MarkNotificationsReadPayload { marked unreadNotifications } ... on Problem { code message } } }"""
ADDED = "subscription($after: BigInt) { notificationAdded(afterSequence: $after) { sequence type title } }"
UNREAD = "{ unreadNotifications }"


async def tell(database: Database, account: UUID, name: str, event_type: EventType = EventType.QUOTA_NEAR) -> None:
    async with database.work(SYSTEM) as work:
        await events.add(work, event_type, account, name=name, subject_id=f"user_{account.hex}")


async def account_of(client: Client) -> UUID:
    return key_of((await client.one("{ viewer { id } }"))["id"])


@pytest.fixture
async def team(ada: Client, bob: Client, reader: Client, sign_in: SignIn, database: Database) -> UUID:
    """A team with Ada as ADMIN, Bob as MEMBER, and Reader as VIEWER."""
    team = (await create_team(await sign_in("ada")))["team"]["id"]
    await join(database, team, "bob", UserRole.MEMBER)
    await join(database, team, "reader", UserRole.VIEWER)
    return key_of(team)


async def test_of_a_team_who_made_it_is_told_and_its_admins_of_what_concerns_all(
    ada: Client, bob: Client, reader: Client, team: UUID, database: Database
) -> None:
    async with database.work(SYSTEM) as work:
        for event_type in ("job_failed", "alias_changed"):
            await work.run(
                text(
                    "INSERT INTO outbox_events (type, account_id, maker_id, name, subject_id, data)"
                    " SELECT :type, :team, id, 'd', 'user_' || replace(id::text, '-', ''), '{\"kind\": \"train\", \"alias\": \"best\", \"number\": 1}'"
                    " FROM users WHERE username = 'bob'"
                ),
                {"type": event_type, "team": team},
            )
    await tell(database, team, "the team")
    assert [row["type"] for row in await told(database, bob)] == ["JOB_FAILED", "ALIAS_CHANGED"]
    assert [row["type"] for row in await told(database, ada)] == ["ALIAS_CHANGED", "QUOTA_NEAR"]
    assert {row["account"]["username"] for row in await told(database, ada)} == {"bearings"}
    assert await told(database, reader) == []


async def test_who_left_a_team_sees_nothing_of_it_any_more(ada: Client, bob: Client, team: UUID, database: Database) -> None:
    bob_id = await account_of(bob)
    async with database.work(SYSTEM) as work:
        for account, name in ((team, "secret"), (bob_id, "own")):
            await events.add(work, EventType.QUOTA_NEAR, account, recipient_id=bob_id, name=name)
    titles = [row["title"] for row in await told(database, bob)]
    assert titles == ["The storage of secret is nearly full", "The storage of own is nearly full"]
    (of_team, _) = await told(database, bob)
    assert await bob.one(UNREAD) == 2
    await leave(database, f"team_{team.hex}", "bob")
    assert [row["title"] for row in await told(database, bob)] == ["The storage of own is nearly full"]
    assert await bob.one(UNREAD) == 1
    node = "query($id: ID!) { node(id: $id) { id ... on Notification { title } } }"
    assert await bob.one(node, id=of_team["id"]) is None
    assert (await bob.one(MARK, input={"ids": [of_team["id"]]}))["__typename"] == "NotFound"
    async with aclosing(bob.subscribe(ADDED, after=0)) as stream:
        async with asyncio.timeout(60):
            assert (await anext(stream))["notificationAdded"]["title"] == "The storage of own is nearly full"
    await join(database, f"team_{team.hex}", "bob", UserRole.VIEWER)
    assert len(await told(database, bob)) == 2


async def test_nobody_reads_the_notifications_of_others(ada: Client, bob: Client, admin: Client, database: Database) -> None:
    await tell(database, await account_of(ada), "ada")
    (row,) = await told(database, ada)
    assert await told(database, bob) == await told(database, admin) == []
    for other in (bob, admin):
        assert (await other.one(MARK, input={"ids": [row["id"]]}))["code"] == "NOT_FOUND"
        assert await other.one("query($id: ID!) { node(id: $id) { id } }", id=row["id"]) is None
    assert (await told(database, ada)) == [row]


async def test_notifications_are_marked_as_read_all_or_none(ada: Client, database: Database) -> None:
    account = await account_of(ada)
    for number in range(4):
        await tell(database, account, str(number))
    rows = await told(database, ada)
    assert [row["sequence"] for row in rows] == [1, 2, 3, 4]
    unknown = "notification_" + "0" * 32
    assert (await ada.one(MARK, input={"ids": [rows[0]["id"], unknown]}))["code"] == "NOT_FOUND"
    assert await ada.one(UNREAD) == 4
    marked = await ada.one(MARK, input={"ids": [rows[0]["id"]]})
    assert marked == {"__typename": "MarkNotificationsReadPayload", "marked": 1, "unreadNotifications": 3}
    (read,) = await told(database, ada, isRead=True)
    again = await ada.one(MARK, input={"ids": [rows[0]["id"]]})
    assert (again["marked"], await told(database, ada, isRead=True)) == (0, [read]), "the time stays"
    assert (await ada.one(MARK, input={"before": rows[2]["createdAt"]}))["marked"] == 1
    assert [row["sequence"] for row in await told(database, ada, isRead=False)] == [3, 4]
    for refused in ({}, {"ids": [rows[3]["id"]], "before": rows[3]["createdAt"]}):
        assert (await ada.one(MARK, input=refused))["__typename"] == "InvalidInput"
    pages = await ada.one(LIST, filter={"createdAt": {"gte": rows[1]["createdAt"]}}, first=2)
    assert (pages["totalCount"], pages["pageInfo"]["hasNextPage"]) == (3, True)


async def test_a_viewer_marks_and_chooses_too(reader: Client, database: Database) -> None:
    await tell(database, await account_of(reader), "reader")
    (row,) = await told(database, reader)
    assert (await reader.one(MARK, input={"ids": [row["id"]]}))["marked"] == 1
    assert (await reader.one(PREFER, event="QUOTA_NEAR", inApp=False))["preference"] == {
        "eventType": "QUOTA_NEAR",
        "inApp": False,
        "isDefault": False,
    }


async def test_a_preference_holds_from_then_on_and_for_its_owner_alone(ada: Client, bob: Client, database: Database) -> None:
    for client in (ada, bob):
        await tell(database, await account_of(client), "before")
    await dispatched(database)
    await ada.one(PREFER, event="QUOTA_NEAR", inApp=False)
    for client in (ada, bob):
        await tell(database, await account_of(client), "after")
    await dispatched(database)
    await ada.one(PREFER, event="QUOTA_NEAR", inApp=True)
    for client in (ada, bob):
        await tell(database, await account_of(client), "again")
    assert [row["title"].split()[3] for row in await told(database, ada)] == ["before", "again"]
    assert [row["title"].split()[3] for row in await told(database, bob)] == ["before", "after", "again"]


async def test_defaults_are_quiet_and_what_protects_the_account_stays_on(ada: Client) -> None:
    preferences = await ada.one("{ notificationPreferences { eventType inApp isDefault } }")
    assert [preference["eventType"] for preference in preferences] == [event_type.name for event_type in EventType]
    assert {preference["eventType"] for preference in preferences if not preference["inApp"]} == {
        "JOB_COMPLETED", "JOB_CANCELLED", "SCHEMA_PROPOSED", "VERSION_FAILED", "EXPORT_FAILED", "RUN_COMPLETED", "RUN_FAILED",
    }  # fmt: skip
    for event_type in ("LOGIN_NEW_DEVICE", "PASSWORD_CHANGED"):
        refused = await ada.one(PREFER, event=event_type, inApp=False)
        assert (refused["__typename"], refused["issues"][0]["path"]) == ("InvalidInput", ["inApp"])
        assert (await ada.one(PREFER, event=event_type, inApp=True))["preference"]["inApp"] is True


async def test_a_stream_sends_each_notification_once_and_goes_on_where_it_ended(ada: Client, bob: Client, database: Database) -> None:
    account = await account_of(ada)
    await tell(database, account, "0")
    await dispatched(database)

    async def add(numbers: range) -> None:
        for number in numbers:
            await tell(database, account, str(number))
            await tell(database, await account_of(bob), "not Ada's")
            await notifications.dispatch(database)

    seen: list[int] = []
    async with asyncio.timeout(90), aclosing(ada.subscribe(ADDED, after=None)) as stream:
        first = asyncio.ensure_future(anext(stream))
        # The stream has begun once it sends: until then, what is added may be from before it.
        number = 1
        while not first.done():
            await add(range(number, number + 1))
            number += 1
            await asyncio.wait([first], timeout=0.5)
        seen.append(first.result()["notificationAdded"]["sequence"])
        assert seen[0] > 1, "what was there before is not sent"
        await add(range(number, number + 3))
        while seen[-1] < number + 3:
            seen.append((await anext(stream))["notificationAdded"]["sequence"])
    assert seen == list(range(seen[0], number + 4))
    await add(range(number + 3, number + 5))
    async with asyncio.timeout(60), aclosing(ada.subscribe(ADDED, after=number + 3)) as stream:
        later = [(await anext(stream))["notificationAdded"]["sequence"] for _ in range(2)]
    assert later == [number + 4, number + 5]
    with pytest.raises(GraphQLErrors, match="your last notification has the number"):
        async for _ in ada.subscribe(ADDED, after=10_000):
            pass


async def test_two_dispatchers_tell_each_event_once_in_order(ada: Client, database: Database) -> None:
    account = await account_of(ada)
    async with database.work(SYSTEM) as work:
        await work.run(
            text("INSERT INTO outbox_events (type, account_id, name) SELECT 'quota_near', :account, i FROM generate_series(0, 1199) i"),
            {"account": account},
        )
    await asyncio.gather(*(notifications.dispatch(database) for _ in range(5)))
    await dispatched(database)
    rows = await database.rows(text("SELECT sequence, name FROM notifications ORDER BY sequence"))
    assert [(row.sequence, row.name) for row in rows] == [(number + 1, str(number)) for number in range(1_200)]
    assert await ada.one(UNREAD) == 1_000


async def test_notifications_past_their_retention_are_deleted(ada: Client, database: Database, settings: StateSettings) -> None:
    account = await account_of(ada)
    for name in ("old", "new"):
        await tell(database, account, name)
    await dispatched(database)
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE notifications SET created_at = now() - interval '91 days' WHERE name = 'old'"))
    context = MaintenanceContext(database, None, settings)  # pyright: ignore[reportArgumentType] - the task touches no object
    assert await forget_notifications(context) == 1
    (kept,) = await told(database, ada)
    assert (kept["sequence"], kept["title"]) == (2, "The storage of new is nearly full")
