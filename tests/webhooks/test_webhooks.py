"""Events are sent to webhooks: signed, in order, at least once, and to nobody who is not to get them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, text, update
from standardwebhooks import Webhook, WebhookVerificationError

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import events, notifications, webhooks
from db.services.webhooks import sending
from db.settings import StateSettings
from db.tables import User, WebhookDelivery, WebhookEndpoint
from db.tables.notifications import EventType
from tests.accounts.test_teams import create_team, join
from tests.client import Client
from tests.endings import key_of
from tests.notifications.telling import dispatched, told
from tests.webhooks.receiving import CREATE, DELIVERIES, UPDATE, Receiver, claim_all, created, deliveries, receiving, sent

SignIn = Callable[[str], Awaitable[Client]]
ROTATE = "mutation($id: ID!) { rotateWebhookSecret(input: {id: $id}) { ... on RotateWebhookSecretPayload { secret } } }"
TEST = """mutation($id: ID!, $event: EventType) { sendTestWebhook(input: {id: $id, eventType: $event}) { __typename ... on Problem { code }
  ... on SendTestWebhookPayload { delivery { id isTest status } } } }"""
REDELIVER = """mutation($id: ID!) { redeliverWebhook(input: {id: $id}) { __typename ... on Problem { code }
  ... on RedeliverWebhookPayload { delivery { status attempts } } } }"""
DELETE = "mutation($id: ID!) { deleteWebhookEndpoint(input: {id: $id}) { __typename } }"


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def account_of(client: Client) -> UUID:
    return key_of((await client.one("{ viewer { id } }"))["id"])


async def tell(database: Database, account: UUID, subject: str | None, name: str = "d") -> None:
    async with database.work(SYSTEM) as work:
        await events.add(work, EventType.QUOTA_NEAR, account, subject_id=subject, name=name)


async def let_all_be_due(database: Database) -> None:
    """Let the next tries be due now."""
    async with database.work(SYSTEM) as work:
        await work.run(update(WebhookDelivery).values(run_after=func.now()))
        await work.run(update(WebhookEndpoint).values(due_at=func.now()))


async def test_what_is_sent_is_signed_as_standard_webhooks_verify(
    ada: Client, bob: Client, receiver: Receiver, database: Database, settings: StateSettings
) -> None:
    endpoint, secret = await created(ada, receiver.url())
    account = await account_of(ada)
    await tell(database, account, "user_1", "data & <b>")
    await tell(database, await account_of(bob), "user_2")
    await sent(database, settings)
    (request,) = receiver.received
    assert Webhook(secret).verify(request.content, dict(request.headers)) == request.body
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(request.content + b" ", dict(request.headers))
    assert request.body["type"] == "QUOTA_NEAR"
    assert request.body["data"] == {
        "id": "user_1", "name": "data & <b>", "accountId": f"user_{account.hex}", "title": "The storage of data & <b> is nearly full", "isTest": False,
    }  # fmt: skip
    (delivery,) = await deliveries(ada, endpoint)
    assert delivery["requestBody"] == request.body
    assert (delivery["status"], delivery["attempts"], delivery["httpStatus"], delivery["responseBody"]) == ("DELIVERED", 1, 200, "ok")
    assert (delivery["messageId"], delivery["error"], delivery["nextAttemptAt"]) == (request.headers["webhook-id"], None, None)
    await sent(database, settings)
    assert len(receiver.received) == 1
    rotated = (await ada.one(ROTATE, id=endpoint))["secret"]
    assert rotated != secret
    await tell(database, account, "user_1")
    await sent(database, settings)
    for each in (secret, rotated):
        Webhook(each).verify(receiver.received[1].content, dict(receiver.received[1].headers))
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE webhook_endpoints SET previous_secret_until = now() - interval '1 second'"))
    await tell(database, account, "user_1")
    await sent(database, settings)
    Webhook(rotated).verify(receiver.received[2].content, dict(receiver.received[2].headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(receiver.received[2].content, dict(receiver.received[2].headers))


async def test_secrets_are_shown_once_and_never_stored_in_clear(ada: Client, receiver: Receiver, database: Database) -> None:
    _, secret = await created(ada, receiver.url())
    (row,) = await database.rows(text("SELECT w::text AS whole FROM webhook_endpoints w"))
    assert secret.removeprefix("whsec_") not in row.whole
    events_ = await database.rows(text("SELECT coalesce(before::text, '') || coalesce(after::text, '') AS told FROM audit_events"))
    assert not any(secret in event.told or receiver.url() in event.told for event in events_)


async def test_formats_of_chats_name_and_mention_nobody(
    ada: Client, receiver: Receiver, database: Database, settings: StateSettings
) -> None:
    name = "@everyone <!channel> [x](https://evil) *b* <at>a</at>"
    for provider in ("SLACK", "DISCORD", "TEAMS"):
        await created(ada, receiver.url(f"/{provider}"), provider=provider)
    await tell(database, await account_of(ada), None, name)
    await sent(database, settings)
    bodies = [request.body for request in receiver.received]
    (slack,) = [body["text"] for body in bodies if "text" in body]
    assert "&lt;!channel&gt;" in slack
    assert "<" not in slack
    (discord,) = [body for body in bodies if "content" in body]
    assert discord["allowed_mentions"] == {"parse": []}
    (teams,) = [body["attachments"][0]["content"]["body"] for body in bodies if "attachments" in body]
    for shown in (discord["content"], teams[0]["text"]):
        assert "[x](" not in shown
        assert "\\[x\\]\\(https\\://evil\\)" in shown
        assert "<at>" not in shown.replace("\\<", "")


async def test_a_failure_is_tried_again_by_the_schedule_and_later_events_of_the_subject_wait(
    ada: Client, receiver: Receiver, database: Database, settings: StateSettings
) -> None:
    endpoint, _ = await created(ada, receiver.url())
    account = await account_of(ada)
    receiver.answer = lambda request: (503, b"x" * 10_000) if request.body["data"]["id"] == "user_1" else (200, b"")
    for subject, name in (("user_1", "first"), ("user_2", "other"), ("user_1", "second")):
        await tell(database, account, subject, name)
    await sent(database, settings)
    assert sorted(request.body["data"]["name"] for request in receiver.received) == ["first", "other"]
    first, _, second = await deliveries(ada, endpoint)
    assert (first["status"], first["attempts"], first["httpStatus"], len(first["responseBody"])) == ("FAILED", 1, 503, 4_096)
    assert (second["status"], second["attempts"]) == ("PENDING", 0)
    delays: list[float] = []
    for tries in range(1, len(sending.DELAYS) + 1):
        (row,) = await database.rows(
            text(
                "SELECT attempts, extract(epoch FROM run_after - clock_timestamp())::float8 AS delay FROM webhook_deliveries WHERE name = 'first'"
            )
        )
        assert row.attempts == tries
        delays.append(row.delay)
        await let_all_be_due(database)
        await sent(database, settings)
    assert [round(expected - delay) < 60 for delay, expected in zip(delays, sending.DELAYS, strict=True)] == [True] * 7
    assert all(delay <= expected for delay, expected in zip(delays, sending.DELAYS, strict=True))
    first, _, second = await deliveries(ada, endpoint)
    assert (first["status"], first["attempts"], first["nextAttemptAt"]) == ("ABANDONED", 8, None)
    names = [request.body["data"]["name"] for request in receiver.received]
    assert names.index("second") > max(place for place, name in enumerate(names) if name == "first"), (
        "once the first is given up, the second is sent"
    )
    messages = {request.headers["webhook-id"] for request in receiver.received if request.body["data"]["name"] == "first"}
    assert messages == {first["messageId"]}, "each try has the same id"
    receiver.answer = lambda _: (204, b"")
    again = await ada.one(REDELIVER, id=first["id"])
    assert again["delivery"] == {"status": "PENDING", "attempts": 0}
    assert (await ada.one(REDELIVER, id=first["id"]))["code"] == "WRONG_STATE"
    await let_all_be_due(database)
    await sent(database, settings)
    assert {row["status"] for row in await deliveries(ada, endpoint)} == {"DELIVERED"}
    assert receiver.received[-1].headers["webhook-id"] in {first["messageId"], second["messageId"]}
    told_ = await ada.one(DELIVERIES, id=endpoint, filter={"status": ["FAILED"]})
    assert (told_["consecutiveFailures"], told_["lastError"], told_["deliveries"]["edges"]) == (0, None, [])


@pytest.mark.exhaustive
async def test_an_endpoint_that_fails_for_five_days_is_switched_off_and_its_owner_told(
    ada: Client, receiver: Receiver, database: Database, settings: StateSettings
) -> None:
    endpoint, _ = await created(ada, receiver.url())
    account = await account_of(ada)
    receiver.answer = lambda _: (500, b"broken")
    await tell(database, account, "user_1")
    await sent(database, settings)
    state = await ada.one(DELIVERIES, id=endpoint, filter=None)
    assert (state["isActive"], state["consecutiveFailures"]) == (True, 1)
    assert "500" in state["lastError"]
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE webhook_endpoints SET failing_since = now() - interval '5 days 1 second'"))
    await let_all_be_due(database)
    await sent(database, settings)
    state = await ada.one(DELIVERIES, id=endpoint, filter=None)
    assert (state["isActive"], state["disabledAt"] is not None) == (False, True)
    assert [edge["node"]["status"] for edge in state["deliveries"]["edges"]] == ["ABANDONED"]
    notices = await told(database, ada, type=["WEBHOOK_DISABLED"])
    assert [(row["title"], row["subject"]) for row in notices] == [("The webhook receiver was switched off", {"id": endpoint})]
    count = len(receiver.received)
    await tell(database, account, "user_1")
    await sent(database, settings)
    assert len(receiver.received) == count
    assert (await ada.one(TEST, id=endpoint))["code"] == "WRONG_STATE"
    receiver.answer = lambda _: (200, b"")
    assert (await ada.one(UPDATE, input={"id": endpoint, "isActive": True}))["endpoint"]["isActive"] is True
    tested = await ada.one(TEST, id=endpoint)
    assert tested["delivery"] == {"id": tested["delivery"]["id"], "isTest": True, "status": "PENDING"}
    await sent(database, settings)
    assert receiver.received[-1].body["data"]["isTest"] is True


async def test_a_slow_receiver_delays_no_other(
    ada: Client, bob: Client, receiver: Receiver, database: Database, settings: StateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TIMEOUT", 3.0)
    async with receiving() as slow:
        slow.delay = 30.0  # longer than anything waits for
        await created(bob, slow.url())
        await created(ada, receiver.url())
        claimed = await claim_all(database)
        for number in range(4):
            await tell(database, await account_of(bob), f"user_{number}")
        await tell(database, await account_of(ada), "user_1")
        await dispatched(database)
        serving = [asyncio.create_task(webhooks.serve(database, settings, endpoint_id)) for endpoint_id in claimed]
        done, waiting = await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
        assert (len(done), len(waiting), len(receiver.received)) == (1, 1, 1), "the other one still waits for its receiver"
        await asyncio.gather(*serving)
    (row,) = await database.rows(
        text("SELECT count(*) FILTER (WHERE error LIKE '%did not answer within 3 seconds%') AS slow FROM webhook_deliveries")
    )
    assert row.slow == 4


async def test_what_a_killed_worker_was_sending_is_sent_again_under_the_same_id(
    ada: Client, receiver: Receiver, database: Database, settings: StateSettings
) -> None:
    await created(ada, receiver.url())
    (endpoint_id,) = await claim_all(database)
    await tell(database, await account_of(ada), "user_1")
    await dispatched(database)
    receiver.delay = 0.2
    serving = asyncio.create_task(webhooks.serve(database, settings, endpoint_id))
    while not receiver.open_requests:
        await asyncio.sleep(0.01)
    serving.cancel()
    await asyncio.wait([serving])
    assert await webhooks.claim(database, 10) == [], "for a while, it is thought to be served"
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE webhook_endpoints SET claimed_until = now() - interval '1 second'"))
    await sent(database, settings)
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    (row,) = await database.rows(text("SELECT status, attempts FROM webhook_deliveries"))
    assert (row.status, row.attempts) == ("delivered", 1)


@pytest.mark.exhaustive
async def test_a_worker_sends_what_a_team_is_told(
    ada: Client, bob: Client, reader: Client, sign_in: SignIn, receiver: Receiver, worker: object, database: Database
) -> None:
    team = (await create_team(await sign_in("ada")))["team"]["id"]
    await join(database, team, "bob", UserRole.MEMBER)
    await join(database, team, "reader", UserRole.VIEWER)
    endpoint, secret = await created(bob, receiver.url("/services/T0/B0/secret"), "VERSION_READY", ownerId=team)
    shown = "query($id: ID!) { node(id: $id) { ... on WebhookEndpoint { url owner { username } } } }"
    assert await ada.one(shown, id=endpoint) == {"url": receiver.url("/services/T0/B0/secret"), "owner": {"username": "bearings"}}
    assert (await reader.one(shown, id=endpoint))["url"] == "http://127.0.0.4/…"
    for document in (ROTATE, TEST, DELETE):
        with pytest.raises(Exception, match="FORBIDDEN"):
            await reader.one(document, id=endpoint)
    await bob.ingest("wine", "a,b\n1,2\n3,4\n", ownerId=team)
    async with asyncio.timeout(90):
        while not receiver.received:
            await asyncio.sleep(0.05)
    body = receiver.received[0].body
    assert (body["type"], body["data"]["title"], body["data"]["accountId"]) == ("VERSION_READY", "Version 1 of wine is ready", team)
    Webhook(secret).verify(receiver.received[0].content, dict(receiver.received[0].headers))


async def test_an_account_has_an_address_once(ada: Client, bob: Client, receiver: Receiver) -> None:
    async def create(client: Client, path: str = "/") -> dict[str, Any]:
        return await client.one(CREATE, input={"name": "receiver", "url": receiver.url(path), "events": ["QUOTA_NEAR"]})

    answers = await asyncio.gather(*(create(ada) for _ in range(4)), create(bob))
    assert sorted(answer["__typename"] for answer in answers) == ["CreateWebhookEndpointPayload"] * 2 + ["InvalidInput"] * 3
    (endpoint,) = (await ada.one("{ webhookEndpoints { edges { node { id } } } }"))["edges"]
    id_ = endpoint["node"]["id"]
    await ada.one(UPDATE, input={"id": id_, "isActive": False})
    assert (await create(ada))["issues"] == [
        {"path": ["url"], "message": f"{id_} has this address already. Change its events, or switch it on."}
    ]
    other = (await create(ada, "/other"))["endpoint"]["id"]
    assert (await ada.one(UPDATE, input={"id": other, "url": receiver.url("/")}))["__typename"] == "InvalidInput"
    for changed, path in ((other, "/other"), (id_, "/new"), (other, "/")):
        assert (await ada.one(UPDATE, input={"id": changed, "url": receiver.url(path)}))["endpoint"]["url"] == receiver.url(path)


async def test_endpoints_are_changed_and_deleted_by_their_owners_alone(
    ada: Client, bob: Client, receiver: Receiver, database: Database, settings: StateSettings
) -> None:
    endpoint, _ = await created(ada, receiver.url(), "QUOTA_NEAR", "JOB_FAILED", description="ours")
    for document in (ROTATE, TEST, DELETE):
        assert (await bob.one(document, id=endpoint)) in ({}, {"__typename": "NotFound"}, {"__typename": "NotFound", "code": "NOT_FOUND"})
    assert (await bob.one(UPDATE, input={"id": endpoint, "name": "mine"}))["code"] == "NOT_FOUND"
    changed = await ada.one(UPDATE, input={"id": endpoint, "name": "new", "description": None, "events": ["JOB_FAILED"], "isActive": False})
    assert changed["endpoint"] == {
        "name": "new", "description": None, "url": receiver.url(), "events": ["JOB_FAILED"], "isActive": False, "consecutiveFailures": 0,
        "disabledAt": changed["endpoint"]["disabledAt"],
    }  # fmt: skip
    for refused in ({"name": None}, {"url": None}, {"events": None}, {"events": []}, {"isActive": None}, {"url": "ftp://x/y"}):
        assert (await ada.one(UPDATE, input={"id": endpoint, **refused}))["__typename"] == "InvalidInput", refused
    await ada.one(UPDATE, input={"id": endpoint, "isActive": True})
    await tell(database, await account_of(ada), "user_1")
    await sent(database, settings)
    assert receiver.received == [], "QUOTA_NEAR is not sent any more"
    assert (await ada.one(DELETE, id=endpoint))["__typename"] == "DeleteWebhookEndpointPayload"
    assert await ada.one("{ webhookEndpoints { edges { node { id } } } }") == {"edges": []}


async def test_a_preference_holds_back_what_ones_own_webhooks_would_get(
    ada: Client, receiver: Receiver, database: Database, settings: StateSettings
) -> None:
    await created(ada, receiver.url())
    off = (
        "mutation($on: Boolean!) { setNotificationPreference(input: {eventType: QUOTA_NEAR, webhook: $on}) {"
        " ... on SetNotificationPreferencePayload { preference { inApp webhook isDefault } } } }"
    )
    assert (await ada.one(off, on=False))["preference"] == {"inApp": True, "webhook": False, "isDefault": False}
    await tell(database, await account_of(ada), "user_1")
    await sent(database, settings)
    assert receiver.received == []
    assert len(await told(database, ada)) == 1
    await ada.one(off, on=True)
    await tell(database, await account_of(ada), "user_1")
    await sent(database, settings)
    assert len(receiver.received) == 1


@pytest.mark.exhaustive
async def test_many_events_of_one_subject_arrive_in_their_order(
    ada: Client, receiver: Receiver, database: Database, settings: StateSettings
) -> None:
    await created(ada, receiver.url())
    account = await account_of(ada)
    async with database.work(SYSTEM) as work:
        for number in range(150):
            await events.add(work, EventType.QUOTA_NEAR, account, subject_id=f"user_{number % 3}", name=str(number))
    await notifications.dispatch(database)
    await sent(database, settings)
    for subject in range(3):
        names = [int(request.body["data"]["name"]) for request in receiver.received if request.body["data"]["id"] == f"user_{subject}"]
        assert names == sorted(names)
        assert len(names) == 50


async def test_nothing_is_sent_for_who_is_disabled(ada: Client, receiver: Receiver, database: Database, settings: StateSettings) -> None:
    await created(ada, receiver.url())
    account = await account_of(ada)
    for disabled_at, received in ((func.now(), 0), (None, 1)):
        async with database.work(SYSTEM) as work:
            await work.run(update(User).where(User.id == account).values(disabled_at=disabled_at))
        if disabled_at is not None:  # told once it is disabled: a worker sends at any time
            await tell(database, account, "user_1")
        await sent(database, settings)
        assert len(receiver.received) == received
