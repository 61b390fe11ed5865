"""People list the mails to them, with what became of each; a provider's signed callbacks tell it, and addresses that bounced are sent nothing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from standardwebhooks import Webhook

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import events
from db.tables.notifications import EventType
from server.settings import ServerSettings, server_settings
from tests.accounts.mailbox import Post, token_of
from tests.accounts.test_teams import create_team, join, leave
from tests.client import PASSWORD, Client
from tests.endings import key_of
from tests.notifications.telling import dispatched
from tests.notifications.test_mails import post
from tests.notifications.test_notifications import account_of, tell

__all__ = ["post"]

SignIn = Callable[[str], Awaitable[Client]]
SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBwcm92aWRlciBvZiBtYWls"
LIST = """query($filter: EmailMessageFilter, $first: Int = 100, $after: String) { emailMessages(first: $first, after: $after, filter: $filter) {
  totalCount pageInfo { hasNextPage endCursor } edges { node {
    id recipient subject template eventType status attempts error createdAt sentAt provider messageId deliveredAt openedAt clickedAt } } } }"""


async def listed(client: Client, **criteria: Any) -> list[dict[str, Any]]:
    return [edge["node"] for edge in (await client.one(LIST, filter=criteria))["edges"]]


@pytest.fixture
def _with_secret(live_server: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_settings(), "mail_webhook_secret", SecretStr(SECRET))


async def call(client: Client, body: Any, *, secret: str = SECRET, at: datetime | None = None, prefix: str = "webhook-") -> int:
    """Send a callback as the provider does; return the status of the answer."""
    content, at = json.dumps(body), at or datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", at, content)
    headers = {"id": "msg_1", "timestamp": str(int(at.timestamp())), "signature": signature}
    answer = await client.http.post("/hooks/mail", content=content, headers={prefix + name: value for name, value in headers.items()})
    return answer.status_code


def told(kind: str, mail: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": f"email.{kind}", "data": {"message_id": mail["messageId"], "to": [mail["recipient"]], **more}}


async def sent_to(client: Client, database: Database, post: Post, name: str) -> dict[str, Any]:
    """Mail an event; return the mail as it is listed."""
    await tell(database, await account_of(client), name)
    await dispatched(database)
    await post.send()
    return (await listed(client))[0]


async def test_people_list_the_mails_to_them_and_nobody_else_does(
    ada: Client, bob: Client, admin: Client, anonymous: Client, database: Database, post: Post
) -> None:
    await anonymous.one('mutation { requestPasswordReset(input: {email: "ada@example.org"}) { __typename } }')
    mail = await sent_to(ada, database, post, "ada")
    arrived = post.mailbox.mails[-1]
    assert (mail["recipient"], mail["subject"], mail["template"], mail["eventType"]) == (
        "ada@example.org", "Trellis: The storage of ada is nearly full", "event", "QUOTA_NEAR",
    )  # fmt: skip
    assert (mail["status"], mail["attempts"], mail["error"], mail["provider"]) == ("SENT", 1, None, "127.0.0.1")
    assert (mail["messageId"], mail["subject"]) == (arrived["message-id"], arrived["subject"])
    assert mail["sentAt"] >= mail["createdAt"]
    assert [row["subject"] for row in await listed(ada)] == ["Trellis: The storage of ada is nearly full", "Trellis: Reset your password"]
    assert [row["template"] for row in await listed(ada, eventType=["QUOTA_NEAR"])] == ["event"]
    assert len(await listed(ada, status=["SENT"])) == 2
    assert await listed(ada, status=["FAILED", "PENDING"]) == await listed(bob) == await listed(admin) == []
    node = "query($id: ID!) { node(id: $id) { id ... on EmailMessage { subject } } }"
    assert (await ada.one(node, id=mail["id"]))["subject"] == mail["subject"]
    assert await bob.one(node, id=mail["id"]) is await admin.one(node, id=mail["id"]) is None
    page = await ada.one(LIST, first=1)
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (2, True)
    rest = await ada.one(LIST, first=1, after=page["pageInfo"]["endCursor"])
    assert (rest["edges"][0]["node"]["template"], rest["pageInfo"]["hasNextPage"]) == ("password_reset", False)


async def test_who_left_a_team_no_longer_lists_mails_about_it(
    ada: Client, bob: Client, sign_in: SignIn, database: Database, post: Post
) -> None:
    team = (await create_team(await sign_in("ada")))["team"]["id"]
    await join(database, team, "bob", UserRole.MEMBER)
    async with database.work(SYSTEM) as work:
        await events.add(work, EventType.QUOTA_NEAR, key_of(team), recipient_id=await account_of(bob), name="secret")
    await dispatched(database)
    await post.send()
    assert [row["subject"] for row in await listed(bob)] == ["Trellis: The storage of secret is nearly full"]
    await leave(database, team, "bob")
    assert await listed(bob) == []


@pytest.mark.usefixtures("_with_secret")
async def test_what_a_provider_tells_of_a_mail_is_recorded_once_and_only_forward(ada: Client, database: Database, post: Post) -> None:
    mail = await sent_to(ada, database, post, "x")
    other = await sent_to(ada, database, post, "y")
    for kind, status, times in (
        ("delivered", "DELIVERED", ["deliveredAt"]),
        ("clicked", "CLICKED", ["deliveredAt", "clickedAt"]),
        ("opened", "CLICKED", ["deliveredAt", "openedAt", "clickedAt"]),
    ):
        assert await call(ada, told(kind, mail)) == 204
        (now,) = [row for row in await listed(ada) if row["id"] == mail["id"]]
        assert (now["status"], [name for name in ("deliveredAt", "openedAt", "clickedAt") if now[name]]) == (status, times)
        assert await call(ada, told(kind, mail), prefix="svix-") == 204, "it may come twice"
        assert [row for row in await listed(ada) if row["id"] == mail["id"]] == [now]
    assert [row for row in await listed(ada) if row["id"] == other["id"]] == [other]


@pytest.mark.usefixtures("_with_secret")
async def test_callbacks_that_are_not_signed_change_nothing(
    ada: Client, database: Database, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = await sent_to(ada, database, post, "x")
    bounced = told("bounced", mail)
    now = datetime.now(UTC)
    assert await call(ada, bounced, secret="whsec_" + "b3RoZXIgc2VjcmV0IG9mIHNvbWVib2R5") == 401
    for seconds in (-400, 400):
        assert await call(ada, bounced, at=now + timedelta(seconds=seconds)) == 401
    content = json.dumps(bounced)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", now, content),
    }
    for body, changed in (
        (content + " ", headers),
        (content, headers | {"webhook-id": "msg_2"}),
        (content, {}),
        (content, {"webhook-timestamp": "x"}),
    ):
        assert (await ada.http.post("/hooks/mail", content=body, headers=changed)).status_code == 401
    assert (await ada.http.post("/hooks/mail", content="x" * 1_100_000)).status_code == 413
    for ignored in ([], {"type": 1}, {"type": "email.bounced", "data": []}, {"type": "email.other", "data": {"to": None}}):
        assert await call(ada, ignored) == 204
    monkeypatch.setattr(server_settings(), "mail_webhook_secret", SecretStr(""))
    assert await call(ada, bounced) == 404
    assert await listed(ada) == [mail]
    assert await database.rows(text("SELECT 1 FROM suppressed_addresses")) == []


@pytest.mark.usefixtures("_with_secret")
async def test_an_address_that_bounced_is_sent_nothing_until_it_is_verified_anew(
    ada: Client, bob: Client, anonymous: Client, sign_in: SignIn, database: Database, post: Post
) -> None:
    mail = await sent_to(ada, database, post, "first")
    assert await call(ada, told("bounced", mail, bounce={"type": "Transient", "message": "full"})) == 204
    assert (await listed(ada))[0]["status"] == "SENT", "it is tried again by the provider"
    assert await call(ada, told("bounced", mail, bounce={"type": "Permanent", "message": "no such mailbox"})) == 204
    bounced = (await listed(ada))[0]
    assert (bounced["status"], bounced["error"]) == ("BOUNCED", "no such mailbox")
    assert await call(ada, told("delivered", mail)) == 204
    assert (await listed(ada))[0] == bounced, "what comes late changes nothing"
    session = await sign_in("ada")
    held = await sent_to(ada, database, post, "second")
    assert (held["status"], "verify it anew" in held["error"].lower()) == ("SUPPRESSED", True)
    assert (await sent_to(bob, database, post, "other"))["status"] == "SENT"
    # The link that verifies an address is sent to it.
    change = 'mutation($password: String!) { changeEmail(input: {newEmail: "ada@example.org", currentPassword: $password}) { __typename } }'
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE users SET email_verified_at = now() - interval '1 day' WHERE username = 'ada'"))
    assert (await session.one(change, password=PASSWORD))["__typename"] == "ChangeEmailPayload"
    (link,) = await post.send()
    verified = await anonymous.one("mutation($token: String!) { verifyEmail(input: {token: $token}) { __typename } }", token=token_of(link))
    assert verified["__typename"] == "VerifyEmailPayload"
    assert (await sent_to(ada, database, post, "third"))["status"] == "SENT"


@pytest.mark.usefixtures("_with_secret")
async def test_complaints_and_bounces_without_our_id_hold_the_address_back(
    ada: Client, bob: Client, database: Database, post: Post
) -> None:
    mail = await sent_to(ada, database, post, "x")
    assert await call(ada, told("complained", mail)) == 204
    assert (await listed(ada)) == [mail]
    assert await call(ada, {"type": "email.bounced", "data": {"email_id": "e1", "to": ["BOB@example.org"]}}) == 204
    assert [(await sent_to(client, database, post, "y"))["status"] for client in (ada, bob)] == ["SUPPRESSED"] * 2
    rows = await database.rows(text("SELECT address, reason FROM suppressed_addresses ORDER BY address"))
    assert [tuple(row) for row in rows] == [("ada@example.org", "complained"), ("bob@example.org", "bounced")]


@pytest.mark.parametrize("secret", ["secret", "whsec_short", "whsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!"])
def test_a_secret_that_cannot_be_one_stops_the_start(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        ServerSettings(mail_webhook_secret=SecretStr(secret))
