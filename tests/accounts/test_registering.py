"""People register: the account is made when a link of a mail is opened, and nobody learns who has one."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import select, text, update

from db.core.viewer import SHIPPED_ACCOUNT, SYSTEM
from db.core.work import Database
from db.limits.sign_in_attempts import LINKS_PER_NETWORK, MAILS_PER_ADDRESS, MAILS_PER_ADDRESS_AND_DAY, MAILS_PER_NETWORK
from db.services import maintenance
from db.services.accounts import passwords
from db.services.mail.sending import queue_mail
from db.settings import StateSettings
from db.stores.redis import connect as connect_redis
from db.tables import ApiKey, EmailMessage, Registration, User
from db.tables.mail import EmailTemplate
from tests.accounts.mailbox import Post, body, mails, token_of
from tests.client import PASSWORD, Client
from tests.exhaustive import few

SignIn = Callable[[str], Awaitable[Client]]
SetRegistration = Callable[[str], None]
REGISTER = (
    "mutation($input: RegisterInput!) { register(input: $input) { __typename ... on RegisterPayload { email } ... on Problem { message }"
    " ... on WrongState { state } ... on InvalidInput { issues { path } } } }"
)
VERIFY = (
    "mutation($input: VerifyEmailInput!) { verifyEmail(input: $input) { __typename ... on VerifyEmailPayload { email username }"
    " ... on Problem { message } ... on NameTaken { name } ... on InvalidInput { issues { path } } } }"
)
WEAK = "mutation($input: RegisterInput!) { register(input: $input) { __typename ... on WeakPassword { issues { path message } } } }"
EVE = {"email": "eve@example.org", "username": "eve", "password": PASSWORD}
SENT = {"__typename": "RegisterPayload", "email": "eve@example.org"}


@pytest.fixture
def is_open(sign_in: SignIn, set_registration: SetRegistration) -> None:
    """Everybody may register, and no limit was used up by earlier tests."""
    set_registration("open")


async def usernames(database: Database) -> list[str]:
    rows = await database.rows(select(User.username).where(User.username != "admin", User.id != SHIPPED_ACCOUNT).order_by(User.username))
    return [row.username for row in rows]


# One mailbox in many spellings, of which each would count as an address of its own; and what looks like another address or is taken by no server.
SPELLINGS = (
    "(a comment)eve@example.org",
    '"eve"@example.org',
    "eve@example.org(another)",
    "eve@[127.0.0.1]",
    "\u212aate@example.org",  # a Kelvin sign, which is a `k` in lower case
    "eve@ex\u0430mple.org",  # a Cyrillic letter
    "eve@example.org,mallory@example.org",
    "<eve@example.org>",
    "eve@example.org\r\nBcc: mallory@example.org",
    "eve..lyn@example.org",
    "=?utf-8?q?eve?= @example.org",
)


async def verify(client: Client, token: str, **fields: str) -> dict[str, Any]:
    return await client.one(VERIFY, input={"token": token, **fields})


async def registered(client: Client, post: Post, **fields: Any) -> str:
    """Register; return the token of the mail."""
    answer = await client.one(REGISTER, input={**EVE, **fields})
    assert answer["__typename"] == "RegisterPayload", answer
    return await post.token()


async def test_an_account_is_made_when_the_link_is_opened(is_open: None, anonymous: Client, post: Post, database: Database) -> None:
    anonymous.http.headers["x-forwarded-host"] = "evil.example.org"
    answer = await anonymous.one(REGISTER, input={**EVE, "email": " Eve@example.org ", "fullName": "Eve Adams"})
    assert answer == {"__typename": "RegisterPayload", "email": " Eve@example.org "}
    assert await usernames(database) == []
    assert (await anonymous.login("eve"))["code"] == "INVALID_CREDENTIALS"
    (mail,) = await post.send(public_url="https://trellis.example.org/")
    assert (mail["To"], mail["Subject"]) == ("Eve@example.org", "Trellis: Verify your address")
    assert f"\n  https://trellis.example.org/verify-email#token={token_of(mail)}\n" in body(mail)
    assert body(mail).startswith("Hello,\n"), "what a stranger may have chosen is not in it"
    assert "Eve Adams" not in body(mail)
    assert await verify(anonymous, token_of(mail)) == {"__typename": "VerifyEmailPayload", "email": "Eve@example.org", "username": "eve"}
    eve = Client(anonymous.url, (await anonymous.login("eve@EXAMPLE.org"))["token"])
    viewer = await eve.one("{ viewer { email username fullName role tier emailVerifiedAt passwordChangedAt } }")
    assert viewer.pop("emailVerifiedAt") is not None
    assert viewer == {
        "email": "Eve@example.org",
        "username": "eve",
        "fullName": "Eve Adams",
        "role": "MEMBER",
        "tier": "FREE",
        "passwordChangedAt": None,
    }
    await eve.close()
    assert await database.rows(select(Registration.id)) == []
    assert [row.name for row in await database.rows(select(ApiKey.name))] == ["admin"], "nobody got an API key"
    assert await mails(database) == [("VERIFY_REGISTRATION", "SENT", 1)]


async def test_a_token_makes_one_account(is_open: None, anonymous: Client, post: Post, database: Database) -> None:
    token = await registered(anonymous, post)
    answers = await asyncio.gather(*(verify(anonymous, token, username=f"eve{number}") for number in range(5)))
    assert sorted(answer["__typename"] for answer in answers) == ["InvalidInput"] * 4 + ["VerifyEmailPayload"]
    assert len(await usernames(database)) == 1


async def test_a_registration_reserves_neither_address_nor_username(
    is_open: None, anonymous: Client, post: Post, database: Database
) -> None:
    first, second, other = await asyncio.gather(
        anonymous.one(REGISTER, input=EVE),
        anonymous.one(REGISTER, input={**EVE, "username": "evelyn"}),
        anonymous.one(REGISTER, input={**EVE, "email": "other@example.org", "username": "EVE"}),
    )
    assert first == second == {**other, "email": "eve@example.org"} == SENT
    sent = await post.send()
    own = [token_of(mail) for mail in sent if mail["To"] == "eve@example.org"]
    (others,) = [token_of(mail) for mail in sent if mail["To"] == "other@example.org"]
    answers = await asyncio.gather(*(verify(anonymous, token, username="eve") for token in own))
    refused, made = sorted(answers, key=lambda answer: answer["__typename"])
    assert made == {"__typename": "VerifyEmailPayload", "email": "eve@example.org", "username": "eve"}
    assert refused["message"].startswith("token: eve@example.org has an account by now. Sign in with `login`")
    taken = await verify(anonymous, others)
    assert taken == {"__typename": "NameTaken", "message": "The username 'EVE' is taken. Choose another.", "name": "EVE"}
    assert (await verify(anonymous, others, username="not a name"))["issues"] == [{"path": ["username"]}]
    assert (await verify(anonymous, others, username="other"))["username"] == "other"
    assert await usernames(database) == ["eve", "other"]


@pytest.mark.exhaustive
async def test_neither_answer_nor_time_tells_whether_an_address_has_an_account(
    ada: Client, bob: Client, is_open: None, anonymous: Client, post: Post, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "bob").values(disabled_at=text("now()")))
    hashed: list[str] = []
    make_hash = passwords.make_hash
    monkeypatch.setattr(passwords, "make_hash", lambda password: hashed.append(password) or make_hash(password))
    times: dict[str, list[float]] = {"ada": [], "bob": [], "nobody": []}
    for turn in range(3):  # in alternation, so that the load of the machine is the same for all
        for name, taken in times.items():
            email = f"{name.upper()}@example.org"
            started = time.perf_counter()
            answer = await anonymous.one(REGISTER, input={**EVE, "email": email, "username": f"eve{turn}"})
            taken.append(time.perf_counter() - started)
            assert answer == {"__typename": "RegisterPayload", "email": email}
    medians = [statistics.median(taken) for taken in times.values()]
    assert max(medians) <= 1.1 * min(medians)
    assert len(hashed) == 9
    sent = [(mail["To"], mail["Subject"]) for mail in await post.send()]
    taken = ("ada@example.org", "Trellis: You have an account already")
    assert sorted(sent) == sorted([taken, ("NOBODY@example.org", "Trellis: Verify your address")] * 3), "none to who is disabled"
    assert await usernames(database) == ["ada", "bob"]


async def test_what_is_wrong_is_told_before_a_mail_is_sent(ada: Client, is_open: None, anonymous: Client, database: Database) -> None:
    answers = [
        await anonymous.one(REGISTER, input={**EVE, **wrong})
        for wrong in ({"username": "ADA"}, {"password": "EVE@example.org"}, {"email": "eve"}, {"username": "a b"}, {"invitationToken": "x"})
    ]
    kinds = ["NameTaken", "WeakPassword", "InvalidInput", "InvalidInput", "InvalidInput"]
    assert [answer["__typename"] for answer in answers] == kinds
    paths = [answer["issues"][0]["path"][0] for answer in answers if "issues" in answer]
    assert paths == ["email", "username", "invitationToken"]
    assert await mails(database) == []


async def test_a_password_that_is_guessed_first_is_refused_with_the_reason(is_open: None, anonymous: Client, database: Database) -> None:
    common = ["1234567890", "Password123!", "QWERTYUIOP", "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff441234", "Wonderful2024"]
    answers = [await anonymous.one(WEAK, input={**EVE, "password": password}) for password in common]
    assert all(answer["__typename"] == "WeakPassword" for answer in answers), answers
    assert {tuple(issue["path"]) for answer in answers for issue in answer["issues"]} == {("password",)}
    assert all("on lists of common ones" in issue["message"] for answer in answers for issue in answer["issues"])
    named = {**EVE, "email": "Eve.Newcomer@example.org", "password": "eve.newcomer1"}
    (issue,) = (await anonymous.one(WEAK, input=named))["issues"]
    assert issue["message"] == "A password needs at least 6 characters besides the address or the name of its user."
    assert await mails(database) == []
    assert (await anonymous.one(WEAK, input={**EVE, "password": "eve and 6 geese"}))["__typename"] == "RegisterPayload"


async def test_registration_is_closed_unless_the_settings_open_it(
    sign_in: SignIn, anonymous: Client, post: Post, database: Database, set_registration: SetRegistration
) -> None:
    assert StateSettings.model_fields["registration"].default == "closed"
    set_registration("closed")
    assert (await anonymous.one(REGISTER, input=EVE))["state"] == "CLOSED"
    set_registration("invited")
    assert (await anonymous.one(REGISTER, input=EVE))["state"] == "INVITED"
    set_registration("open")
    token = await registered(anonymous, post)
    for value in ("closed", "invited"):
        set_registration(value)
        assert (await verify(anonymous, token))["__typename"] == "WrongState", "closing it holds for those under way"
    assert await usernames(database) == []


@pytest.mark.parametrize(
    "change",
    few(1, [{"token_expires_at": text("now() - interval '1 second'")}, {"token_expires_at": None}, {"expires_at": text("now()")}]),
    ids=["token expired", "not sent", "registration expired"],
)
async def test_a_token_is_void_after(change: dict[str, Any], is_open: None, anonymous: Client, post: Post, database: Database) -> None:
    token = await registered(anonymous, post)
    async with database.work(SYSTEM) as work:
        await work.run(update(Registration).values(change))
    assert (await verify(anonymous, token))["issues"] == [{"path": ["token"]}]
    assert await usernames(database) == []


async def test_a_token_cannot_be_made_from_the_database(is_open: None, anonymous: Client, post: Post, database: Database) -> None:
    token = await registered(anonymous, post)
    identifier, _, secret = token.partition(".")
    for table in ("registrations", "email_messages", "account_tokens"):
        rows = await database.rows(text(f"SELECT to_jsonb({table})::text AS row FROM {table}"))
        assert not any(secret in row.row or PASSWORD in row.row for row in rows)
    for forged in (identifier, f"{identifier}.{'A' * 43}", f"{'0' * 32}.{secret}", token.upper(), "é.é"):
        assert (await verify(anonymous, forged))["__typename"] == "InvalidInput", forged
    reset = 'mutation($token: String!) { resetPassword(input: {token: $token, newPassword: "a new password 7"}) { __typename } }'
    assert (await anonymous.one(reset, token=token))["__typename"] == "InvalidInput", "it is for one purpose"
    assert (await verify(anonymous, token))["__typename"] == "VerifyEmailPayload"


async def test_what_is_not_verified_is_deleted_with_its_mail(is_open: None, anonymous: Client, post: Post, database: Database) -> None:
    await asyncio.gather(*(anonymous.one(REGISTER, input={**EVE, "email": f"{name}@example.org"}) for name in ("kept", "lost")))
    lifetime = await database.rows(select((Registration.expires_at - Registration.created_at).label("lifetime")).distinct())
    assert [row.lifetime.total_seconds() for row in lifetime] == [48 * 3600]
    async with database.work(SYSTEM) as work:
        await work.run(update(Registration).where(Registration.email == "lost@example.org").values(expires_at=text("now()")))
    assert [mail["To"] for mail in await post.send()] == ["kept@example.org"]
    (_, *failed) = sorted(await mails(database), reverse=True)
    assert failed in ([("VERIFY_REGISTRATION", "FAILED", 1)], []), "a worker of another test may have deleted it by now"
    while (result := await maintenance.run_task(post.context, "forget_sign_ins", "test")) is None:  # a worker of another test runs it
        await asyncio.sleep(0.05)
    assert result.error is None
    assert [row.email for row in await database.rows(select(Registration.email))] == ["kept@example.org"]
    assert [row.address for row in await database.rows(select(EmailMessage.address))] == ["kept@example.org"]


@pytest.mark.exhaustive
async def test_mails_and_tokens_are_limited_by_address_and_network(
    is_open: None, anonymous: Client, post: Post, database: Database, settings: StateSettings
) -> None:
    async def register(count: int, network: int) -> list[dict[str, Any]]:
        async def one() -> dict[str, Any]:
            body = {"query": REGISTER, "variables": {"input": EVE}}
            return (await anonymous.http.post("/graphql", json=body, headers={"x-forwarded-for": f"198.51.100.{network}"})).json()

        return await asyncio.gather(*(one() for _ in range(count)))

    def codes(answers: list[dict[str, Any]]) -> list[str]:
        return [answer["errors"][0]["extensions"]["code"] for answer in answers if "errors" in answer]

    answers = await register(MAILS_PER_NETWORK.attempts + 2, network=1)
    assert codes(answers) == ["RATE_LIMITED"] * 2
    assert [answer["data"]["register"] for answer in answers if "errors" not in answer] == [SENT] * MAILS_PER_NETWORK.attempts
    assert len(await mails(database)) == MAILS_PER_ADDRESS.attempts, "further mails are not sent, which is not told"
    async with connect_redis(settings.redis_url) as redis:
        for network in range(2, 6):
            await _an_hour_later(redis)
            await register(MAILS_PER_ADDRESS.attempts, network)
    assert len(await mails(database)) == MAILS_PER_ADDRESS_AND_DAY.attempts
    tries = [await anonymous.post(VERIFY, input={"token": "made up"}) for _ in range(LINKS_PER_NETWORK.attempts + 2)]
    assert codes(tries) == ["RATE_LIMITED"] * 2


async def _an_hour_later(redis: Redis) -> None:
    keys = await redis.keys("trellis:bucket:mail:registration:address:*")
    assert keys
    await redis.delete(*keys)


async def test_an_address_has_one_spelling(is_open: None, clean: None, anonymous: Client, database: Database) -> None:
    for spelling in SPELLINGS:
        answer = await anonymous.one(REGISTER, input={**EVE, "email": spelling})
        assert answer.pop("message", None)
        assert answer == {"__typename": "InvalidInput", "issues": [{"path": ["email"]}]}, spelling
    assert await database.rows(select(Registration.id)) == []
    assert await mails(database) == []


async def test_a_mail_to_an_address_that_servers_do_not_take_keeps_none_from_others(bob: Client, post: Post, database: Database) -> None:
    """Such an address is from before, or from another system."""
    async with database.work(SYSTEM) as work:
        user_id = await work.scalar(select(User.id).where(User.username == "bob"))
        for address in ("eve@ex\u00e4mple.org", "\u00e9ve@example.org", "bob@example.org"):
            await queue_mail(work, EmailTemplate.ADDRESS_TAKEN, address, user_id)
    assert [mail["To"] for mail in await post.send()] == ["bob@example.org"]
    assert [status for _, status, _ in await mails(database)] == ["FAILED", "FAILED", "SENT"]
