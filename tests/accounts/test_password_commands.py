"""`trellis user add --password` and `set-password`: an operator sets passwords, or the hashes of another system."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import bcrypt
import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from db.core.work import Database
from db.services.accounts import passwords
from db.tables import User
from tests.accounts.authenticator import FACTOR, Clock, add_factor, challenge, confirm, mails, types
from tests.accounts.passkey_device import PASSKEYS, Device, add_passkey, at_localhost, sign_in_with
from tests.client import PASSWORD, Client
from tests.server.test_jobs_command import trellis
from tests.server.test_users_command import username

SignIn = Callable[[str], Awaitable[Client]]
ADA = "ada@example.org"
NEW = "a new password 7"


async def test_a_new_user_signs_in_with_the_password_that_the_operator_gave(clean: None, anonymous: Client) -> None:
    added = await trellis("user", "add", "eve@example.org", "--username", "eve", "--password", stdin=f"{PASSWORD}\n")
    assert (added.returncode, added.stderr) == (0, "")
    assert await username(anonymous, added.stdout.strip()) == "eve"
    assert (await anonymous.login("eve"))["__typename"] == "LoginPayload"


async def test_a_new_password_ends_the_sessions_and_keeps_the_tokens(ada: Client, sign_in: SignIn, anonymous: Client) -> None:
    session = await sign_in("ada")
    changed = await trellis("user", "set-password", ADA, stdin=f"{NEW}\n")
    assert (changed.returncode, changed.stdout) == (0, f"{ADA} has a new password. Their sessions have ended.\n")
    assert session.token is not None
    assert ada.token is not None
    assert [await username(ada, token) for token in (session.token, ada.token)] == [None, "ada"]
    assert (await anonymous.login("ada"))["code"] == "INVALID_CREDENTIALS"
    assert (await anonymous.login("ada", NEW))["__typename"] == "LoginPayload"
    assert (await ada.one("{ viewer { passwordChangedAt } }"))["passwordChangedAt"] is not None


async def test_all_tokens_of_a_user_are_revoked_with_their_sessions(ada: Client, sign_in: SignIn) -> None:
    session = await sign_in("ada")
    answer = await trellis("user", "revoke", ADA)
    assert answer.stdout.startswith(f"2 tokens of {ADA} revoked, sessions included.")
    assert session.token is not None
    assert await username(ada, session.token) is None


@pytest.mark.parametrize("algorithm", ["bcrypt", "argon2"])
async def test_a_hash_of_another_system_is_verified_and_replaced(
    algorithm: str, ada: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    secret = "pässwörd of another system " * 4  # longer than the 72 bytes that bcrypt reads
    hashes = {
        "bcrypt": lambda: bcrypt.hashpw(secret.encode()[:72], bcrypt.gensalt(8)).decode(),
        "argon2": lambda: PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=2).hash(secret),
    }
    assert (await trellis("user", "set-password", ADA, "--hash", stdin=f"{hashes[algorithm]()}\n")).returncode == 0
    assert (await anonymous.login("ada", "wrong password"))["code"] == "INVALID_CREDENTIALS"
    for _ in range(2):  # the first time by the old hash, then by the new one
        assert (await anonymous.login("ada", secret))["__typename"] == "LoginPayload"
    (row,) = await database.rows(select(User.password_hash).where(User.username == "ada"))
    assert row.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert passwords.verify(row.password_hash, secret) is True


@pytest.mark.parametrize(
    ("arguments", "given", "reason"),
    [
        ((), "short", "A password has 10 to 1,000 characters; this one has 5."),
        ((), "", "A password has 10 to 1,000 characters; this one has 0."),
        ((), "aaaaaaaaaaaa", "A password needs at least 5 different characters."),
        ((), ADA.upper(), "The password must differ from the address and the name of its user."),
        ((), "1234567890", "This password is on lists of common ones"),
        (("--hash",), "md5:abc", "A hash begins with $2a$, $2b$ or $2y$ (bcrypt), or with $argon2id$."),
        (("--hash",), f"$2b$15${'a' * 53}", "bcrypt's cost is 15 here; 04 to 13 can be verified."),
        (("--hash",), "$argon2id$v=19$m=9999999,t=99,p=1$c2FsdHNhbHQ$aGFzaGhhc2g", "This Argon2 hash is damaged, or takes more"),
    ],
)
async def test_a_weak_password_and_an_unknown_hash_are_refused(
    arguments: tuple[str, ...], given: str, reason: str, ada: Client, database: Database
) -> None:
    answer = await trellis("user", "set-password", ADA, *arguments, stdin=f"{given}\n")
    assert answer.returncode == 1
    assert reason in answer.stderr
    assert [row.password_hash for row in await database.rows(select(User.password_hash).where(User.username == "ada"))] == [None]


@pytest.mark.exhaustive
async def test_an_operator_removes_the_app_and_the_passkeys_of_who_lost_them(
    ada: Client, bob: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    session, bobs = await sign_in("ada"), await sign_in("bob")
    assert "The user has neither an app for codes nor a passkey." in (await trellis("user", "reset-totp", "ada")).stderr
    await add_factor(session, clock)
    await add_factor(bobs, clock)
    before = await challenge(anonymous)
    reset = await trellis("user", "reset-totp", "Ada")
    assert (reset.returncode, reset.stdout) == (0, "Ada signs in with the password alone. A mail tells them.\n")
    assert (await confirm(anonymous, before, "000000"))["issues"] == [{"path": ["challenge"]}]
    assert (await anonymous.login("ada"))["__typename"] == "LoginPayload"
    assert [await username(ada, each.token or "") for each in (session, ada, bobs)] == [None, "ada", "bob"], "sessions on a lost device end"
    assert await ada.one(FACTOR) == {"hasTotp": False, "backupCodesLeft": 0}
    assert await bobs.one(FACTOR) == {"hasTotp": True, "backupCodesLeft": 10}
    (mail,) = await mails(database, "totp_removed")
    assert "was removed from your account" in mail
    session = await sign_in("ada")
    phones = Device(at_localhost(session)), Device(at_localhost(bobs))
    await add_passkey(session, phones[0])
    await add_passkey(bobs, phones[1])
    assert (await trellis("user", "reset-totp", "ada")).returncode == 0
    assert (await ada.one(PASSKEYS))["passkeys"] == []
    at_localhost(anonymous)
    assert types([await sign_in_with(anonymous, phones[0]), await sign_in_with(bobs, phones[1])]) == ["InvalidCredentials", "LoginPayload"]
    assert len(await mails(database, "totp_removed")) == len(await mails(database, "passkey_removed")) == 1
    unknown = await trellis("user", "reset-totp", "nobody")
    assert unknown.returncode == 1
    assert "No user has the email address or the name 'nobody'." in unknown.stderr
