"""Links in mails stop them with one click, change nothing else, and sign nobody in."""

from __future__ import annotations

import base64
import time
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.mail import unsubscribing
from db.settings import StateSettings, state_settings
from db.tables.notifications import EventType
from tests.client import Client
from tests.notifications.test_mails import PREFERENCES, prefer
from tests.notifications.test_notifications import account_of

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def path_of(user_id: UUID, *event_types: EventType, settings: StateSettings | None = None) -> str:
    chosen = (settings or state_settings()).model_copy(update={"public_url": "https://trellis.example.org"})
    url = unsubscribing.url(chosen, user_id, event_types)
    assert url is not None
    return url.removeprefix("https://trellis.example.org")


async def chosen(client: Client) -> dict[str, dict[str, Any]]:
    return {row["eventType"]: row for row in await client.one(PREFERENCES)}


async def test_one_click_changes_exactly_one_preference_and_signs_nobody_in(ada: Client, bob: Client, anonymous: Client) -> None:
    await prefer(ada, "QUOTA_NEAR", inApp=False, webhook=False)
    before, of_bob = await chosen(ada), await chosen(bob)
    path = path_of(await account_of(ada), EventType.QUOTA_NEAR)
    page = await anonymous.http.get(path)
    assert (page.status_code, '<form method="post">' in page.text, "QUOTA_NEAR" in page.text) == (200, True, True)
    assert "form-action 'self'" in page.headers["content-security-policy"]
    assert await chosen(ada) == before, "looking at it changes nothing"
    forms: tuple[dict[str, Any], ...] = ({"data": ONE_CLICK}, {"files": {"List-Unsubscribe": (None, "One-Click")}})  # as RFC 8058 allows
    for form in forms:
        answer = await anonymous.http.post(path, **form)
        assert (answer.status_code, answer.headers.get("set-cookie")) == (200, None)
        assert await chosen(ada) == before | {"QUOTA_NEAR": before["QUOTA_NEAR"] | {"email": False, "emailFrequency": "OFF"}}
    assert await chosen(bob) == of_bob
    (event,) = (
        await ada.one(
            '{ auditEvents(first: 10, filter: {action: ["unsubscribe"]}) { edges { node { action origin actor { username } } } } }'
        )
    )["edges"]
    assert event["node"] == {"action": "unsubscribe", "origin": "API", "actor": None}


async def test_the_link_of_a_digest_stops_what_is_in_it(ada: Client, anonymous: Client) -> None:
    before = await chosen(ada)
    path = path_of(await account_of(ada), EventType.QUOTA_NEAR, EventType.CREDITS_LOW)
    assert (await anonymous.http.post(path)).status_code == 200
    after = await chosen(ada)
    assert {name for name, row in after.items() if row != before[name]} == {"QUOTA_NEAR", "CREDITS_LOW"}


async def test_links_that_are_forged_or_expired_or_of_another_key_change_nothing(
    ada: Client, bob: Client, anonymous: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await chosen(ada), await chosen(bob)
    ada_id, bob_id = await account_of(ada), await account_of(bob)
    path = path_of(ada_id, EventType.QUOTA_NEAR)
    token = path.removeprefix("/unsubscribe/")
    signed = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))

    def changed(content: bytes) -> str:
        return "/unsubscribe/" + base64.urlsafe_b64encode(content).decode().rstrip("=")

    forged = [
        changed(bytes(signed).replace(ada_id.bytes, bob_id.bytes)),
        changed(bytes(signed).replace(b"quota_near", b"job_failed")),
        changed(bytes(signed[:-1])),
        changed(b""),
        "/unsubscribe/none",
        "/unsubscribe/%00",
        path_of(ada_id, EventType.QUOTA_NEAR, settings=state_settings().model_copy(update={"secret_key": SecretStr("another key " * 4)})),
        path_of(ada_id, EventType.PASSWORD_CHANGED),
        path_of(UUID(int=5), EventType.QUOTA_NEAR),
    ]
    for each in forged:
        assert (await anonymous.http.post(each)).status_code == 404, each
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(unsubscribing.time, "time", lambda: now - unsubscribing.LIFETIME - 1)
        old = path_of(ada_id, EventType.QUOTA_NEAR)
    for method in ("GET", "POST"):
        assert (await anonymous.http.request(method, old)).status_code == 410
    assert (await chosen(ada), await chosen(bob)) == before


async def test_the_link_of_an_account_that_was_deleted_is_none(ada: Client, anonymous: Client, database: Database) -> None:
    path = path_of(await account_of(ada), EventType.QUOTA_NEAR)
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE users SET deleted_at = now() WHERE username = 'ada'"))
    assert (await anonymous.http.post(path)).status_code == 404
    assert await database.rows(text("SELECT 1 FROM notification_preferences")) == []


def test_without_a_key_or_an_address_mails_have_no_link(settings: StateSettings) -> None:
    for missing in ({"public_url": ""}, {"secret_key": SecretStr("")}):
        chosen = settings.model_copy(update={"public_url": "https://trellis.example.org", **missing})
        assert unsubscribing.url(chosen, UUID(int=1), (EventType.QUOTA_NEAR,)) is None
    assert unsubscribing.headers(None) == {}
