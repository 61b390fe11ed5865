"""Events are mailed as each person prefers: at once or in a digest, once, and only to who may still see them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from email.message import EmailMessage as Mail
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import text

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import events, notifications
from db.services.mail import make_digests
from db.settings import StateSettings, state_settings
from db.tables.notifications import EventType
from tests.accounts.conftest import post
from tests.accounts.mailbox import Post, body
from tests.accounts.test_teams import create_team, join, leave
from tests.client import Client
from tests.endings import key_of
from tests.notifications.telling import dispatched
from tests.notifications.test_notifications import account_of, tell

__all__ = ["post"]

SignIn = Callable[[str], Awaitable[Client]]
PREFER = """mutation($input: SetNotificationPreferenceInput!) { setNotificationPreference(input: $input) { __typename
  ... on SetNotificationPreferencePayload { preference { eventType inApp email emailFrequency webhook } } ... on InvalidInput { issues { path message } } } }"""
PREFERENCES = "{ notificationPreferences { eventType inApp email emailFrequency webhook isDefault } }"


async def prefer(client: Client, event: str, **choice: Any) -> dict[str, Any]:
    return await client.one(PREFER, input={"eventType": event, **choice})


async def rows_of_mails(database: Database) -> list[tuple[Any, ...]]:
    rows = await database.rows(text("SELECT template, status, event_type, name FROM email_messages ORDER BY id"))
    return [tuple(row) for row in rows]


def html(mail: Mail) -> str:
    part = mail.get_body(("html",))
    assert part is not None
    return part.get_content()


async def make_due(database: Database, frequency: str = "daily") -> None:
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE digest_items SET due_at = now() WHERE frequency = :frequency"), {"frequency": frequency})
    await make_digests(database)


async def test_what_stops_work_is_mailed_by_default_and_nothing_else_is(ada: Client, database: Database, post: Post) -> None:
    mailed = {row["eventType"]: row["emailFrequency"] for row in await ada.one(PREFERENCES)}
    assert {name for name, frequency in mailed.items() if frequency != "OFF"} == {
        "STUDY_PAUSED", "CREDITS_LOW", "QUOTA_NEAR", "WEBHOOK_DISABLED", "LOGIN_NEW_DEVICE", "PASSWORD_CHANGED", "TEAM_INVITED",
    }  # fmt: skip
    account = await account_of(ada)
    for event_type in EventType:
        async with database.work(SYSTEM) as work:
            data = {"kind": "train", "number": 1, "alias": "best"}
            await events.add(work, event_type, account, name=event_type.value, subject_id="job_1", data=data)
    await dispatched(database)
    sent = await post.send()
    assert sorted(mail["subject"] for mail in sent) == [
        "Trellis: The credits of credits_low are low",
        "Trellis: The storage of quota_near is nearly full",
        "Trellis: The study study_paused is paused",
        "Trellis: The webhook webhook_disabled was switched off",
    ]
    assert {mail["to"] for mail in sent} == {"ada@example.org"}
    assert await post.send() == []


async def test_a_mail_names_its_subject_in_both_forms_and_escapes_names(ada: Client, database: Database, post: Post) -> None:
    await tell(database, await account_of(ada), '<img src="x">\r\nBcc: all@example.org')
    await dispatched(database)
    (mail,) = await post.send()
    assert mail["subject"] == 'Trellis: The storage of <img src="x"> Bcc: all@example.org is nearly full'
    assert mail["bcc"] is None
    user = (await ada.one("{ viewer { id } }"))["id"]
    assert f"The account {user} uses most of its quota" in body(mail)
    assert f"The account {user} uses most of its quota" in html(mail)
    assert "&lt;img src=&#34;x&#34;&gt;" in html(mail)
    assert "<img" not in html(mail)
    assert body(mail).startswith("Hello ada,\n\n")


async def test_a_preference_of_mails_changes_nothing_else(ada: Client) -> None:
    async def stored() -> dict[str, Any]:
        return next(row for row in await ada.one(PREFERENCES) if row["eventType"] == "JOB_FAILED")

    assert (await prefer(ada, "JOB_FAILED", emailFrequency="WEEKLY"))["preference"]["emailFrequency"] == "WEEKLY"
    await prefer(ada, "JOB_FAILED", inApp=False)
    await prefer(ada, "JOB_FAILED", webhook=False)
    expected = {"eventType": "JOB_FAILED", "inApp": False, "email": True, "emailFrequency": "WEEKLY", "webhook": False, "isDefault": False}
    assert await stored() == expected
    await prefer(ada, "JOB_FAILED", email=True)
    assert await stored() == expected, "it is mailed already"
    await prefer(ada, "JOB_FAILED", email=False)
    assert await stored() == expected | {"email": False, "emailFrequency": "OFF"}
    await prefer(ada, "JOB_FAILED", email=True)
    assert await stored() == expected | {"emailFrequency": "INSTANT"}
    for choice in ({"email": True, "emailFrequency": "OFF"}, {"email": False, "emailFrequency": "DAILY"}):
        assert (await prefer(ada, "JOB_FAILED", **choice))["issues"][0]["path"] == ["emailFrequency"]
    assert await stored() == expected | {"emailFrequency": "INSTANT"}


async def test_simultaneous_changes_of_one_preference_all_hold(ada: Client) -> None:
    events = ["JOB_FAILED", "JOB_COMPLETED", "VERSION_READY", "EXPORT_READY"]
    expected = {"inApp": False, "email": True, "emailFrequency": "WEEKLY", "webhook": False, "isDefault": False}
    # The first changes add the row, the later ones find it.
    for changes, outcome in (
        (({"inApp": False}, {"webhook": False}, {"emailFrequency": "WEEKLY"}), expected),
        (({"inApp": True}, {"webhook": True}, {"email": False}), {"inApp": True, "email": False, "emailFrequency": "OFF", "webhook": True}),
    ):
        answers = await asyncio.gather(*(prefer(ada, event, **change) for event in events for change in changes))
        assert {answer["__typename"] for answer in answers} == {"SetNotificationPreferencePayload"}
        stored = {row["eventType"]: row for row in await ada.one(PREFERENCES)}
        assert [stored[event] for event in events] == [expected | outcome | {"eventType": event} for event in events]


async def test_mails_of_accounts_are_neither_switched_off_nor_sent_twice(ada: Client, database: Database, post: Post) -> None:
    before = await ada.one(PREFERENCES)
    for event in ("LOGIN_NEW_DEVICE", "PASSWORD_CHANGED", "TEAM_INVITED"):
        assert (await prefer(ada, event, email=False))["issues"][0]["path"] == ["email"]
        for frequency in ("OFF", "DAILY"):
            assert (await prefer(ada, event, emailFrequency=frequency))["issues"][0]["path"] == ["emailFrequency"]
        assert await ada.one(PREFERENCES) == before
        async with database.work(SYSTEM) as work:
            await events.add(work, EventType[event], await account_of(ada), name="x")
    await dispatched(database)
    assert await post.send() == []
    assert await rows_of_mails(database) == []


async def test_an_event_is_mailed_once_to_each_of_a_thousand_people(ada: Client, sign_in: SignIn, database: Database) -> None:
    team = key_of((await create_team(await sign_in("ada")))["team"]["id"])
    async with database.work(SYSTEM) as work:
        await work.run(
            text("""
            WITH people AS (
              INSERT INTO users (kind, email, username, role, storage_quota_bytes)
              SELECT 'person', 'm' || i || '@example.org', 'm' || i, 'member', 0 FROM generate_series(1, 1000) i RETURNING id)
            INSERT INTO memberships (team_id, user_id, role) SELECT :team, id, 'admin' FROM people"""),
            {"team": team},
        )
    await tell(database, team, "the team")
    await asyncio.gather(*(notifications.dispatch(database) for _ in range(3)))
    await dispatched(database)
    rows = await database.rows(text("SELECT address FROM email_messages WHERE is_notification"))
    assert sorted(row.address for row in rows) == sorted(["ada@example.org", *(f"m{number}@example.org" for number in range(1, 1_001))])


async def test_a_digest_has_each_event_once_grouped_by_type(ada: Client, bob: Client, database: Database, post: Post) -> None:
    account = await account_of(ada)
    await prefer(ada, "QUOTA_NEAR", emailFrequency="DAILY")
    await prefer(ada, "CREDITS_LOW", emailFrequency="DAILY")
    await prefer(ada, "STUDY_PAUSED", emailFrequency="WEEKLY")
    for number in range(25):
        await tell(database, account, f"n{number}")
    await tell(database, account, "me", EventType.CREDITS_LOW)
    await tell(database, account, "week", EventType.STUDY_PAUSED)
    await dispatched(database)
    assert await post.send() == [], "nothing is due"
    (due,) = await database.rows(
        text("""SELECT bool_and(due_at > now() AND extract(hour FROM due_at) = 7 AND CASE frequency WHEN 'weekly' THEN
          extract(isodow FROM due_at) = 1 AND due_at <= now() + interval '7 days' ELSE due_at <= now() + interval '1 day' END) AS is_right FROM digest_items""")
    )
    assert due.is_right
    await make_due(database)
    (mail,) = await post.send()
    assert (mail["subject"], mail["to"]) == ("Trellis: Events of the day", "ada@example.org")
    said = body(mail)
    assert "26 events of the day:" in said
    assert said.index("Credits that are low\n") < said.index("Storage that is nearly full (25)\n")
    shown = [line for line in said.splitlines() if line.startswith("- The storage of ")]
    assert shown == [f"- The storage of n{number} is nearly full" for number in range(24, 4, -1)]
    assert "- and 5 more, which `notifications` lists" in said
    assert "week" not in said
    await asyncio.gather(*(make_digests(database) for _ in range(3)))
    assert await post.send() == []
    await tell(database, account, "next")
    await dispatched(database)
    await make_due(database)
    await make_due(database, "weekly")
    first, second = sorted(await post.send(), key=lambda mail: mail["subject"])
    assert "1 event of the day" in body(first)
    assert "The storage of next is nearly full" in body(first)
    assert (second["subject"], "The study week is paused" in body(second)) == ("Trellis: Events of the week", True)


async def test_a_digest_is_made_once_by_processes_at_the_same_time(ada: Client, bob: Client, database: Database) -> None:
    for client in (ada, bob):
        await prefer(client, "QUOTA_NEAR", emailFrequency="DAILY")
        for number in range(20):
            await tell(database, await account_of(client), str(number))
    await dispatched(database)
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE digest_items SET due_at = now()"))
    await asyncio.gather(*(make_digests(database) for _ in range(4)))
    rows = await database.rows(
        text("SELECT count(*) AS items FROM digest_items i JOIN email_messages m ON m.id = i.message_id GROUP BY m.id")
    )
    assert [row.items for row in rows] == [20, 20]
    (mails,) = await database.rows(text("SELECT count(*) AS count FROM email_messages"))
    assert mails.count == 2, "none is empty"


async def _team_of_bob(ada: Client, sign_in: SignIn, database: Database) -> UUID:
    team = (await create_team(await sign_in("ada")))["team"]["id"]
    await join(database, team, "bob", UserRole.MEMBER)
    return key_of(team)


async def test_who_left_a_team_is_mailed_nothing_of_it(ada: Client, bob: Client, sign_in: SignIn, database: Database, post: Post) -> None:
    team = await _team_of_bob(ada, sign_in, database)
    bob_id = await account_of(bob)
    await prefer(bob, "CREDITS_LOW", emailFrequency="DAILY")
    for event_type in (EventType.QUOTA_NEAR, EventType.CREDITS_LOW):
        for account, name in ((team, "secret"), (bob_id, "own")):
            async with database.work(SYSTEM) as work:
                await events.add(work, event_type, account, recipient_id=bob_id, name=name)
    await dispatched(database)
    await leave(database, f"team_{team.hex}", "bob")
    await make_due(database)
    sent = await post.send()
    assert sorted(mail["subject"] for mail in sent) == ["Trellis: Events of the day", "Trellis: The storage of own is nearly full"]
    assert not any("secret" in mail.as_string() for mail in sent)
    assert ("event", "suppressed", "quota_near", "secret") in await rows_of_mails(database)


async def test_nothing_is_mailed_to_disabled_accounts_nor_of_what_was_switched_off_meanwhile(
    ada: Client, bob: Client, database: Database, post: Post
) -> None:
    for client in (ada, bob):
        await prefer(client, "CREDITS_LOW", emailFrequency="DAILY")
        for event_type in (EventType.QUOTA_NEAR, EventType.CREDITS_LOW, EventType.STUDY_PAUSED):
            await tell(database, await account_of(client), "x", event_type)
    await dispatched(database)
    await prefer(ada, "QUOTA_NEAR", email=False)
    await prefer(ada, "CREDITS_LOW", emailFrequency="OFF")
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE users SET disabled_at = now() WHERE username = 'bob'"))
    await make_due(database)
    (mail,) = await post.send()
    assert (mail["to"], mail["subject"]) == ("ada@example.org", "Trellis: The study x is paused")
    rows = await database.rows(text("SELECT status, count(*) AS count FROM email_messages GROUP BY status ORDER BY status"))
    assert [tuple(row) for row in rows] == [("sent", 1), ("suppressed", 5)]


async def test_mails_go_to_the_address_of_now_and_those_of_accounts_go_first(
    ada: Client, anonymous: Client, database: Database, post: Post
) -> None:
    await tell(database, await account_of(ada), "first")
    await dispatched(database)
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE users SET email = 'ada@example.net' WHERE username = 'ada'"))
    await anonymous.one('mutation { requestPasswordReset(input: {email: "ada@example.net"}) { __typename } }')
    sent = await post.send()
    assert [(mail["to"], mail["subject"]) for mail in sent] == [
        ("ada@example.net", "Trellis: Reset your password"),
        ("ada@example.net", "Trellis: The storage of first is nearly full"),
    ]


async def test_what_a_server_refuses_for_now_is_sent_once_later(ada: Client, database: Database, post: Post) -> None:
    await tell(database, await account_of(ada), "x")
    await dispatched(database)
    post.mailbox.reply = "451 later"
    assert await post.send() == []
    post.mailbox.reply = "250 OK"
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE email_messages SET run_after = now()"))
    assert len(await post.send()) == 1
    assert await post.send() == []


async def test_mails_share_a_connection_that_is_replaced_when_it_breaks(ada: Client, database: Database, post: Post) -> None:
    account, box = await account_of(ada), post.mailbox
    for number in range(10):
        await tell(database, account, f"n{number}")
    await dispatched(database)
    box.script = ["", "DROP", "", "", "LOSE", "", "MAIL 421 closing", "", "DATA 550 never", "", "DATA 421 closing", "", ""]
    sent = [mail["subject"] for mail in await post.send()]
    rows = await database.rows(text("SELECT name, status FROM email_messages ORDER BY name"))
    assert sorted(sent) == [f"Trellis: The storage of {row.name} is nearly full" for row in rows if row.status == "sent"]
    assert sorted(row.status for row in rows) == ["failed", *["sent"] * 8, "uncertain"]
    assert (len(box.peers), box.script) == (5, [])
    assert await post.send() == [], "nothing is repeated"
    for number in range(20):
        await tell(database, account, f"m{number}")
    await dispatched(database)
    assert (len(await post.send()), len(box.peers)) == (20, 6)


async def test_a_server_that_takes_nothing_now_ends_the_batch_and_loses_no_mail(ada: Client, database: Database, post: Post) -> None:
    for number in range(3):
        await tell(database, await account_of(ada), f"n{number}")
    await dispatched(database)
    post.mailbox.script = ["", "MAIL 421 closing", "MAIL 421 closing"]
    assert len(await post.send()) == 1
    rows = await database.rows(text("SELECT status, tries FROM email_messages ORDER BY status, tries"))
    assert [tuple(row) for row in rows] == [("pending", 0), ("pending", 1), ("sent", 1)]
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE email_messages SET run_after = now()"))
    assert len(await post.send()) == 2


def with_links(settings: StateSettings) -> dict[str, Any]:
    return {"public_url": "https://trellis.example.org", "secret_key": settings.secret_key or SecretStr("k" * 40)}


async def test_each_mail_has_a_link_that_stops_it_and_those_of_accounts_have_none(
    ada: Client, anonymous: Client, database: Database, post: Post
) -> None:
    await prefer(ada, "CREDITS_LOW", emailFrequency="DAILY")
    for event_type in (EventType.QUOTA_NEAR, EventType.CREDITS_LOW):
        await tell(database, await account_of(ada), "x", event_type)
    await dispatched(database)
    await make_due(database)
    await anonymous.one('mutation { requestPasswordReset(input: {email: "ada@example.org"}) { __typename } }')
    sent = {mail["subject"]: mail for mail in await post.send(**with_links(state_settings()))}
    assert sent["Trellis: Reset your password"]["list-unsubscribe"] is None
    for subject in ("Trellis: Events of the day", "Trellis: The storage of x is nearly full"):
        mail = sent[subject]
        assert mail["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
        link = mail["list-unsubscribe"]
        assert link.startswith("<https://trellis.example.org/unsubscribe/")
        assert link.strip("<>") in body(mail)
        assert f'href="{link.strip("<>")}"' in html(mail)
