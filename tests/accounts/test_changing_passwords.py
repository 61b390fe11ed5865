"""A password is changed by its owner, or reset by a mail that only its owner gets. Sessions end, keys stay, and a mail tells of it."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, text, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.limits.sign_in_attempts import MAILS_PER_ADDRESS, MAILS_PER_NETWORK
from db.tables import AccountToken, EmailMessage, User
from db.tables.mail import EmailStatus
from server.commands.mail import Status
from tests.accounts.mailbox import Post, body, mails
from tests.client import PASSWORD, Client
from tests.exhaustive import few
from tests.server.test_jobs_command import json_lines, trellis
from tests.server.test_sockets import UPDATES, bearer, open_websocket, send_subscribe, wait_closed
from tests.server.test_users_command import username

SignIn = Callable[[str], Awaitable[Client]]
NEW = "a new password 7"
REQUEST = (
    "mutation($email: String!) { requestPasswordReset(input: {email: $email}) { __typename ... on RequestPasswordResetPayload { email } } }"
)
RESET = (
    "mutation($token: String!, $new: String!) { resetPassword(input: {token: $token, newPassword: $new}) { __typename"
    " ... on InvalidInput { issues { path } } ... on WeakPassword { issues { path message } } } }"
)
CHANGE = (
    "mutation($current: String!, $new: String!) { changePassword(input: {currentPassword: $current, newPassword: $new}) { __typename"
    " ... on Problem { message } } }"
)


async def test_a_password_is_reset_by_mail(ada: Client, sign_in: SignIn, anonymous: Client, post: Post) -> None:
    session = await sign_in("ada")
    async with open_websocket(ada.url, bearer(session)) as websocket:
        await send_subscribe(websocket, "1", UPDATES)
        email = "ADA@example.org"
        assert await anonymous.one(REQUEST, email=email) == {"__typename": "RequestPasswordResetPayload", "email": email}
        (mail,) = await post.send(public_url="https://trellis.example.org/", mail_from="Trellis <post@trellis.example.org>")
        assert (mail["To"], mail["Subject"]) == ("ada@example.org", "Trellis: Reset your password")
        assert mail["Message-ID"].endswith("@trellis.example.org>")
        assert mail["From"] == "Trellis <post@trellis.example.org>"
        match = re.search(r"https://trellis.example.org/reset-password#token=(\S+)\n", body(mail))
        assert match is not None
        assert await anonymous.one(RESET, token=match[1], new=NEW) == {"__typename": "ResetPasswordPayload"}
        async with asyncio.timeout(2):
            assert (await wait_closed(websocket))[0] == 4403
    assert ada.token is not None
    assert await username(anonymous, ada.token) == "ada", "an API key stays valid"
    (told,) = await post.send()
    assert (told["To"], told["Subject"]) == ("ada@example.org", "Trellis: Your password was changed")
    assert f"{ada.token[:12]}…  first token" in body(told)
    assert ada.token not in body(told)
    assert (await anonymous.login("ada"))["code"] == "INVALID_CREDENTIALS"
    assert (await anonymous.login("ada", NEW))["__typename"] == "LoginPayload"


async def test_who_forgot_a_password_signs_in_at_once_with_the_new_one(ada: Client, sign_in: SignIn, anonymous: Client, post: Post) -> None:
    await sign_in("ada")
    await anonymous.one(REQUEST, email="ada@example.org")
    token = await post.token()
    for login in ("ada", "ada@example.org"):
        await asyncio.gather(*(anonymous.login(login, f"forgotten {number}") for number in range(5)))
        assert (await anonymous.login(login))["extensions"]["code"] == "RATE_LIMITED"
    assert await anonymous.one(RESET, token=token, new=NEW) == {"__typename": "ResetPasswordPayload"}
    for login in ("ada", "ada@example.org"):
        assert (await anonymous.login(login, NEW))["__typename"] == "LoginPayload"


async def test_a_token_is_valid_once(ada: Client, sign_in: SignIn, anonymous: Client, post: Post, database: Database) -> None:
    await anonymous.one(REQUEST, email="ada@example.org")
    token = await post.token()
    answers = await asyncio.gather(*(anonymous.one(RESET, token=token, new=f"{NEW}{number}") for number in range(5)))
    assert sorted(answer["__typename"] for answer in answers) == ["InvalidInput"] * 4 + ["ResetPasswordPayload"]
    assert (await mails(database)) == [("PASSWORD_RESET", "SENT", 1), ("PASSWORD_CHANGED", "PENDING", 0)]


@pytest.mark.parametrize(
    "change",
    few(
        2,
        [
            update(AccountToken).values(expires_at=text("now() - interval '1 second'")),
            update(AccountToken).values(expires_at=None),
            update(User).where(User.username == "ada").values(email="other@example.org"),
            update(User).where(User.username == "ada").values(password_changed_at=text("now()")),
            update(User).where(User.username == "ada").values(disabled_at=text("now()")),
            update(User).where(User.username == "ada").values(deleted_at=text("now()")),
        ],
    ),
    ids=["expired", "not sent", "another address", "another password", "disabled", "deleted"],
)
async def test_a_token_is_void_after(change: Any, ada: Client, sign_in: SignIn, anonymous: Client, post: Post, database: Database) -> None:
    await anonymous.one(REQUEST, email="ada@example.org")
    token = await post.token()
    async with database.work(SYSTEM) as work:
        await work.run(change)
    assert await anonymous.one(RESET, token=token, new=NEW) == {"__typename": "InvalidInput", "issues": [{"path": ["token"]}]}
    assert (await database.rows(select(User.password_hash).where(User.username == "ada")))[0].password_hash is None


async def test_a_token_cannot_be_made_from_the_database(
    ada: Client, sign_in: SignIn, anonymous: Client, post: Post, database: Database
) -> None:
    await anonymous.one(REQUEST, email="ada@example.org")
    token = await post.token()
    identifier, _, secret = token.partition(".")
    assert len(secret) >= 43, "256 bits"
    for table in ("account_tokens", "email_messages"):
        rows = await database.rows(text(f"SELECT to_jsonb({table})::text AS row FROM {table}"))
        assert not any(secret in row.row for row in rows)
    for forged in (identifier, f"{identifier}.", f"{identifier}.{'A' * 43}", f"{'0' * 32}.{secret}", secret, token.upper(), "é.é"):
        assert (await anonymous.one(RESET, token=forged, new=NEW))["__typename"] == "InvalidInput", forged
    assert (await anonymous.one(RESET, token=token, new="short"))["issues"][0]["path"] == ["newPassword"]
    assert (await anonymous.one(RESET, token=token, new="ada@example.org"))["__typename"] == "WeakPassword"
    assert (await anonymous.one(RESET, token=token, new=NEW))["__typename"] == "ResetPasswordPayload", "a refused password uses no token"


async def test_a_request_does_not_tell_whether_the_address_is_known(
    ada: Client, bob: Client, sign_in: SignIn, anonymous: Client, post: Post, database: Database
) -> None:
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "bob").values(disabled_at=text("now()")))
    times: dict[str, list[float]] = {"ada": [], "bob": [], "nobody": []}
    for _ in range(3):  # in alternation, so that the load of the machine is the same for all
        for name, taken in times.items():
            started = time.perf_counter()
            answer = await anonymous.one(REQUEST, email=f"{name}@example.org")
            taken.append(time.perf_counter() - started)
            assert answer == {"__typename": "RequestPasswordResetPayload", "email": f"{name}@example.org"}
    medians = [statistics.median(taken) for taken in times.values()]
    assert max(medians) <= 1.1 * min(medians)
    more = MAILS_PER_NETWORK.attempts - 3 * len(times)
    await asyncio.gather(*(anonymous.one(REQUEST, email="ada@example.org") for _ in range(more)))
    assert [mail["To"] for mail in await post.send()] == ["ada@example.org"] * MAILS_PER_ADDRESS.attempts
    refused = await anonymous.post(REQUEST, email="nobody@example.org")
    assert refused["errors"][0]["extensions"]["code"] == "RATE_LIMITED"


async def test_an_owner_changes_their_password(ada: Client, sign_in: SignIn, anonymous: Client, post: Post) -> None:
    kept, other = await sign_in("ada"), await sign_in("ada")
    assert (await ada.post(CHANGE, current=PASSWORD, new=NEW))["errors"][0]["extensions"]["code"] == "FORBIDDEN", "an API key may not"
    assert (await kept.one(CHANGE, current="wrong password", new=NEW))["__typename"] == "InvalidCredentials"
    assert (await kept.one(CHANGE, current=PASSWORD, new="ADA@example.org"))["__typename"] == "WeakPassword"
    assert await kept.one(CHANGE, current=PASSWORD, new=NEW) == {"__typename": "ChangePasswordPayload"}
    assert [await username(anonymous, client.token or "") for client in (kept, other, ada)] == ["ada", None, "ada"]
    assert [mail["Subject"] for mail in await post.send()] == ["Trellis: Your password was changed"]
    assert (await anonymous.login("ada"))["code"] == "INVALID_CREDENTIALS"
    assert (await anonymous.login("ada", NEW))["__typename"] == "LoginPayload"


async def test_who_has_only_the_session_cannot_guess_the_password(ada: Client, sign_in: SignIn) -> None:
    session = await sign_in("ada")
    answers = [await session.post(CHANGE, current=f"guess number {number}", new=NEW) for number in range(20)]
    assert sum("errors" not in answer for answer in answers) == 5
    assert {error["extensions"]["code"] for answer in answers for error in answer.get("errors", ())} == {"RATE_LIMITED"}


@pytest.mark.parametrize(
    ("reply", "hang_up", "status"),
    [("451 later", False, "PENDING"), ("550 never", False, "FAILED"), ("250 OK", True, "UNCERTAIN")],
    ids=["later", "never", "no answer"],
)
async def test_a_mail_is_sent_again_only_if_it_surely_was_not_sent(
    reply: str, hang_up: bool, status: str, ada: Client, sign_in: SignIn, anonymous: Client, post: Post, database: Database
) -> None:
    await anonymous.one(REQUEST, email="ada@example.org")
    post.mailbox.reply, post.mailbox.hang_up = reply, hang_up
    assert await post.send() == []
    assert await mails(database) == [("PASSWORD_RESET", status, 1)]
    post.mailbox.reply, post.mailbox.hang_up = "250 OK", False
    assert await post.send() == [], "it is not due yet, or never again"
    async with database.work(SYSTEM) as work:
        await work.run(update(EmailMessage).values(run_after=func.now()))
    assert len(await post.send()) == (status == "PENDING")
    assert await mails(database) == [("PASSWORD_RESET", "SENT" if status == "PENDING" else status, 2 if status == "PENDING" else 1)]


async def test_a_mail_waits_for_its_server_and_its_sender_may_die(
    ada: Client, sign_in: SignIn, anonymous: Client, post: Post, database: Database
) -> None:
    await anonymous.one(REQUEST, email="ada@example.org")
    assert await post.send(smtp_url=SecretStr("smtp://127.0.0.1:9")) == []
    assert await mails(database) == [("PASSWORD_RESET", "PENDING", 1)]
    async with database.work(SYSTEM) as work:
        await work.run(update(EmailMessage).values(status=EmailStatus.SENDING, run_after=text("now() - interval '6 minutes'")))
    assert await post.send() == []
    assert await mails(database) == [("PASSWORD_RESET", "UNCERTAIN", 1)]


@pytest.mark.exhaustive
async def test_without_a_mail_server_mails_wait_and_an_operator_shows_them(
    ada: Client, sign_in: SignIn, anonymous: Client, post: Post, database: Database
) -> None:
    await anonymous.one(REQUEST, email="ada@example.org")
    assert await post.send(smtp_url=SecretStr("")) == []
    (line,) = await json_lines("mail", "list", "--status", "pending")
    assert (line["address"], line["template"], line["status"]) == ("ada@example.org", "password_reset", "pending")
    assert await json_lines("mail", "list", "--status", "sent") == []
    assert line["id"] in (await trellis("mail", "list")).stdout
    shown = await trellis("mail", "show", line["id"])
    match = re.search(r"mutation `resetPassword`:\n\n  (\S+)\n", shown.stdout)
    assert match is not None, shown
    assert (await anonymous.one(RESET, token=match[1], new=NEW))["__typename"] == "ResetPasswordPayload"
    unknown = await trellis("mail", "show", "nothing")
    assert (unknown.returncode, unknown.stderr) == (1, "No mail has the id 'nothing'. `trellis mail list` shows them.\n")
    without_key = await trellis("mail", "show", line["id"], TRELLIS_SECRET_KEY="")
    assert "TRELLIS_SECRET_KEY is not set" in without_key.stderr
    assert [status.value for status in Status] == [status.value for status in EmailStatus]
