"""An address changes once the link that was sent to the new one is opened; and a username changes at once."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select, text, update

from db.core.viewer import SHIPPED_ACCOUNT, SYSTEM
from db.core.work import Database
from db.tables import AccountToken, User
from tests.accounts.mailbox import Post, body, mails, token_of
from tests.accounts.test_changing_passwords import NEW, REQUEST, RESET
from tests.accounts.test_registering import verify
from tests.client import PASSWORD, Client
from tests.exhaustive import few

SignIn = Callable[[str], Awaitable[Client]]
CHANGE = (
    "mutation($new: String!, $current: String!) { changeEmail(input: {newEmail: $new, currentPassword: $current}) { __typename"
    " ... on ChangeEmailPayload { email } ... on InvalidInput { issues { path } } } }"
)
UPDATE = (
    "mutation($input: UpdateAccountInput!) { updateAccount(input: $input) { __typename ... on UpdateAccountPayload { viewer { username fullName } }"
    " ... on Problem { message } ... on InvalidInput { issues { path } } } }"
)
OTHER = "ada@example.com"


async def addresses(database: Database) -> dict[str, str]:
    return {
        row.username: row.email
        for row in await database.rows(select(User.username, User.email).where(User.username != "admin", User.id != SHIPPED_ACCOUNT))
    }


async def asked(session: Client, post: Post, new: str = OTHER) -> str:
    """Ask for a change of address; return the token that arrives there."""
    assert await session.one(CHANGE, new=new, current=PASSWORD) == {"__typename": "ChangeEmailPayload", "email": new}
    (token,) = [token_of(mail) for mail in await post.send() if mail["To"] == new]
    return token


async def test_a_new_address_counts_after_its_link_was_opened(
    ada: Client, sign_in: SignIn, anonymous: Client, post: Post, database: Database
) -> None:
    session = await sign_in("ada")
    assert await session.one(CHANGE, new=f" {OTHER} ", current=PASSWORD) == {"__typename": "ChangeEmailPayload", "email": f" {OTHER} "}
    new, old = sorted(await post.send(public_url="https://trellis.example.org"), key=lambda mail: mail["To"])
    assert (new["To"], new["Subject"]) == (OTHER, "Trellis: Verify your new address")
    assert f"https://trellis.example.org/verify-email#token={token_of(new)}\n" in body(new)
    assert body(new).startswith("Hello,\n"), "what a stranger may have chosen is not in it"
    assert (old["To"], old["Subject"]) == ("ada@example.org", "Trellis: A change of your address was requested")
    assert await addresses(database) == {"ada": "ada@example.org"}
    assert (await session.one("{ viewer { emailVerifiedAt } }"))["emailVerifiedAt"] is None
    assert await verify(anonymous, token_of(new)) == {"__typename": "VerifyEmailPayload", "email": OTHER, "username": "ada"}
    viewer = await session.one("{ viewer { email emailVerifiedAt } }")
    assert viewer["email"] == OTHER
    assert viewer["emailVerifiedAt"] is not None
    (told,) = await post.send()
    assert (told["To"], told["Subject"]) == ("ada@example.org", "Trellis: Your address was changed")
    assert (await anonymous.login("ada@example.org"))["code"] == "INVALID_CREDENTIALS"
    assert (await anonymous.login(OTHER))["__typename"] == "LoginPayload"
    assert (await verify(anonymous, token_of(new)))["__typename"] == "InvalidInput"


async def test_a_token_changes_the_address_once(ada: Client, sign_in: SignIn, anonymous: Client, post: Post, database: Database) -> None:
    token = await asked(await sign_in("ada"), post)
    answers = await asyncio.gather(*(verify(anonymous, token) for _ in range(5)))
    assert sorted(answer["__typename"] for answer in answers) == ["InvalidInput"] * 4 + ["VerifyEmailPayload"]
    assert [name for name, _, _ in await mails(database)].count("EMAIL_CHANGED") == 1


ADA = update(User).where(User.username == "ada")
CHANGES = {
    "expired": update(AccountToken).values(expires_at=text("now()")),
    "not sent": update(AccountToken).values(expires_at=None),
    "another address": ADA.values(email="third@example.org"),
    "another password": ADA.values(password_changed_at=text("now()")),
    "disabled": ADA.values(disabled_at=text("now()")),
}


@pytest.mark.parametrize("change", few(2, CHANGES.values()), ids=CHANGES.keys())
async def test_a_token_is_void_after(change: Any, ada: Client, sign_in: SignIn, anonymous: Client, post: Post, database: Database) -> None:
    token = await asked(await sign_in("ada"), post)
    async with database.work(SYSTEM) as work:
        await work.run(change)
    before = await addresses(database)
    assert (await verify(anonymous, token))["issues"] == [{"path": ["token"]}]
    assert await addresses(database) == before


async def test_a_change_makes_the_tokens_of_the_old_address_void(ada: Client, sign_in: SignIn, anonymous: Client, post: Post) -> None:
    session = await sign_in("ada")
    await anonymous.one(REQUEST, email="ada@example.org")
    reset = await post.token()
    first = await asked(session, post)
    second = await asked(session, post, "ada@example.net")
    assert (await verify(anonymous, second))["email"] == "ada@example.net"
    assert (await verify(anonymous, first))["__typename"] == "InvalidInput"
    assert (await anonymous.one(RESET, token=reset, new=NEW))["__typename"] == "InvalidInput"


@pytest.mark.exhaustive
async def test_neither_answer_nor_time_tells_whether_somebody_has_the_address(
    ada: Client, bob: Client, sign_in: SignIn, post: Post, database: Database
) -> None:
    session = await sign_in("ada")
    times: dict[str, list[float]] = {"BOB@example.org": [], "nobody@example.org": []}
    for _ in range(3):  # in alternation, so that the load of the machine is the same for both
        for email, taken in times.items():
            started = time.perf_counter()
            assert await session.one(CHANGE, new=email, current=PASSWORD) == {"__typename": "ChangeEmailPayload", "email": email}
            taken.append(time.perf_counter() - started)
    medians = [statistics.median(taken) for taken in times.values()]
    assert max(medians) <= 1.1 * min(medians)
    sent = [(mail["To"], mail["Subject"].removeprefix("Trellis: ")) for mail in await post.send()]
    own = [("ada@example.org", "A change of your address was requested")] * 6
    others = [("bob@example.org", "You have an account already"), ("nobody@example.org", "Verify your new address")] * 3
    assert sorted(sent) == sorted(own + others)
    assert await addresses(database) == {"ada": "ada@example.org", "bob": "bob@example.org"}


async def test_an_address_that_was_taken_meanwhile_changes_nothing(
    ada: Client, bob: Client, sign_in: SignIn, anonymous: Client, post: Post, database: Database
) -> None:
    token = await asked(await sign_in("ada"), post)
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "bob").values(email=OTHER))
    assert (await verify(anonymous, token))["message"] == f"token: {OTHER} is the address of another account by now. Nothing was changed."
    assert await addresses(database) == {"ada": "ada@example.org", "bob": OTHER}


async def test_it_takes_the_password(ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    assert (await ada.post(CHANGE, new=OTHER, current=PASSWORD))["errors"][0]["extensions"]["code"] == "FORBIDDEN", "an API key may not"
    answers = [await session.post(CHANGE, new=OTHER, current=f"guess number {number}") for number in range(8)]
    assert [answer["data"]["changeEmail"]["__typename"] for answer in answers[:5]] == ["InvalidCredentials"] * 5
    assert {error["extensions"]["code"] for answer in answers[5:] for error in answer["errors"]} == {"RATE_LIMITED"}
    assert await mails(database) == []


async def test_the_present_address_is_verified_in_the_same_way_or_by_a_reset(
    ada: Client, bob: Client, sign_in: SignIn, anonymous: Client, post: Post
) -> None:
    session = await sign_in("ada")
    token = await asked(session, post, "ada@example.org")
    assert (await verify(anonymous, token))["email"] == "ada@example.org"
    assert (await session.one("{ viewer { emailVerifiedAt } }"))["emailVerifiedAt"] is not None
    assert await post.send() == [], "there is no old address to tell"
    assert (await session.one(CHANGE, new="ada@example.org", current=PASSWORD))["issues"] == [{"path": ["newEmail"]}]
    await anonymous.one(REQUEST, email="bob@example.org")
    await anonymous.one(RESET, token=await post.token(), new=NEW)
    assert (await bob.one("{ viewer { emailVerifiedAt } }"))["emailVerifiedAt"] is not None


async def test_a_user_changes_what_they_are_called(
    ada: Client, bob: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    session = await sign_in("ada")
    called = await session.one(UPDATE, input={"username": "Lovelace", "fullName": "Ada Lovelace"})
    assert called["viewer"] == {"username": "Lovelace", "fullName": "Ada Lovelace"}
    assert (await anonymous.login("ada"))["code"] == "INVALID_CREDENTIALS"
    assert (await anonymous.login("lovelace"))["__typename"] == "LoginPayload"
    assert (await session.one(UPDATE, input={"username": "LOVELACE", "fullName": None}))["viewer"] == {
        "username": "LOVELACE",
        "fullName": None,
    }
    assert (await session.one(UPDATE, input={}))["viewer"] == {"username": "LOVELACE", "fullName": None}
    refused = [await session.one(UPDATE, input={"username": name, "fullName": "x"}) for name in ("BOB", "a b", None)]
    assert [answer["__typename"] for answer in refused] == ["NameTaken", "InvalidInput", "InvalidInput"]
    assert refused[0]["message"] == "The username 'BOB' is taken. Choose another."
    assert (await ada.post(UPDATE, input={"username": "x"}))["errors"][0]["extensions"]["code"] == "FORBIDDEN", "an API key may not"
    names = await database.rows(
        select(User.username, User.full_name).where(User.username != "admin", User.id != SHIPPED_ACCOUNT).order_by(User.id)
    )
    assert [tuple(row) for row in names] == [("LOVELACE", None), ("bob", "Bob")]
