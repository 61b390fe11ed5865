"""Who deleted their account restores it by the identity that opened it, from a page of ours, with their second factor, and only while that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, text, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import accounts as services
from db.tables import User
from tests.accounts.authenticator import Clock, add_factor, confirm, history
from tests.accounts.identity_provider import Visitor, told
from tests.accounts.mailbox import Post, body
from tests.accounts.test_signing_in_by_providers import ADA, AddProvider, SetRegistration, SignIn, accounts, link
from tests.client import Client
from tests.exhaustive import few
from tests.server.test_users_command import username


@pytest.fixture
async def deleted(
    ada: Client, sign_in: SignIn, add_provider: AddProvider, open_visitor: Callable[[], Visitor], database: Database
) -> Visitor:
    """The browser of Ada, whose only way in was an identity, and who deleted her account, with a dataset."""
    add_provider("one", **ADA)
    await ada.create_dataset("wine")
    visitor = open_visitor()
    await link(visitor, sign_in)
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(password_hash=None))
    assert await visitor.one("mutation { deleteAccount(input: {}) { __typename } }") == {"__typename": "DeleteAccountPayload"}
    return visitor


async def test_an_identity_restores_the_account_that_it_opened(deleted: Visitor, post: Post, database: Database) -> None:
    (mail,) = [mail for mail in await post.send() if mail["Subject"] == "Trellis: Your account was deleted"]
    assert "UTC it can be restored, by the passkey or the provider that you signed in with." in body(mail)
    answer = await deleted.sign_in(restore="1", next="/account")
    assert (answer.status_code, answer.headers["location"]) == (303, "/account"), answer.text
    assert await deleted.one("{ viewer { username datasets { edges { node { name } } } } }") == {
        "username": "ada",
        "datasets": {"edges": [{"node": {"name": "wine"}}]},
    }
    assert (await history(database))[-1] == ("OAUTH", None)
    (event,) = (await deleted.one("{ auditEvents(first: 1) { edges { node { action after } } } }"))["edges"]
    assert event["node"] == {"action": "restore_account", "after": {"method": "OAUTH"}}
    assert (await deleted.sign_in(restore="1")).status_code == 303, "there is nothing to restore, and it signs in"


async def test_another_site_cannot_have_an_account_restored(deleted: Visitor, database: Database) -> None:
    for site in ("cross-site", "same-site", "none"):
        answer = await deleted.visit("/auth/one/start?restore=1", **{"sec-fetch-site": site})
        assert (answer.status_code, told(answer)[:55]) == (403, "Restoring an account begins on a page of this Trellis. "), site
    assert len(await database.rows(select(User.id).where(User.deleted_at.is_not(None)))) == 1


@pytest.mark.parametrize(
    "change",
    few(1, [{"deleted_at": text("now() - interval '30 days'")}, {"deleted_by_owner": False}, {"purge_started_at": text("now()")}]),
    ids=["too late", "deleted by an operator", "being purged"],
)
async def test_an_identity_restores_only_what_its_owner_deleted_lately(
    change: dict[str, Any], deleted: Visitor, set_registration: SetRegistration, database: Database
) -> None:
    set_registration("open")
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(change))
    before = await accounts(database)
    assert told(await deleted.sign_in(restore="1")).startswith("This account cannot be restored by you:")
    assert (await deleted.username(), await accounts(database)) == (None, before)


async def test_restoring_makes_no_account(
    ada: Client, add_provider: AddProvider, visitor: Visitor, set_registration: SetRegistration, database: Database
) -> None:
    set_registration("open")
    add_provider("one", **ADA)
    before = await accounts(database)
    assert told(await visitor.sign_in(restore="1")).startswith("No account here is opened by this identity of one.")
    assert (await visitor.username(), await accounts(database)) == (None, before)


async def test_a_restored_account_takes_another_name_if_its_own_is_taken(deleted: Visitor, ada: Client, database: Database) -> None:
    async with database.work(SYSTEM) as work:
        token = await services.add_user(work, "another@example.org", "ada")
    assert told(await deleted.sign_in(restore="1")).startswith("The username 'ada' is taken.")
    assert told(await deleted.visit("/auth/one/start?restore=1&username=no+name")).startswith("A username is")
    assert (await deleted.sign_in(restore="1", username="ada2")).status_code == 303
    assert (await deleted.username(), await username(ada, token)) == ("ada2", "ada")


async def test_who_has_an_app_restores_by_an_identity_and_a_code(
    ada: Client, sign_in: SignIn, add_provider: AddProvider, visitor: Visitor, clock: Clock, anonymous: Client, database: Database
) -> None:
    add_provider("one", **ADA)
    await link(visitor, sign_in)
    session = await sign_in("ada")
    app = await add_factor(session, clock)
    assert await session.one("mutation { deleteAccount(input: {}) { __typename } }") == {"__typename": "DeleteAccountPayload"}
    answer = await visitor.sign_in(restore="1", next="/account")
    place, _, challenge = answer.headers["location"].partition("#challenge=")
    assert (place, await visitor.username()) == ("/account", None)
    assert len(await database.rows(select(User.id).where(User.deleted_at.is_not(None)))) == 1, "the identity alone restores nothing"
    assert (await confirm(anonymous, challenge, app.code()))["viewer"] == {"username": "ada"}
    assert await database.rows(select(User.id).where(User.deleted_at.is_not(None))) == []
