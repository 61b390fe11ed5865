"""Who knows a password, or reads the database, still needs what its owner has: guesses are few, challenges are bound to their user, secrets are encrypted."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text, update
from structlog.testing import capture_logs

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.limits.sign_in_attempts import CODES, PER_SESSION
from db.services.maintenance import MaintenanceContext
from db.services.maintenance.rows import forget_sign_ins
from db.settings import StateSettings, state_settings
from db.tables import LoginChallenge, User
from tests.accounts.authenticator import Clock, SignIn, add_factor, challenge, confirm, enroll, history, mails, types
from tests.client import PASSWORD, Client
from tests.server.test_users_command import username

NEW = "a new password 7"


def elsewhere(network: int) -> dict[str, str]:
    """Headers of a client in another network; the tests' server trusts what a proxy on its machine says of it."""
    return {"x-forwarded-for": f"198.51.100.{network}"}


@pytest.mark.exhaustive
async def test_of_many_guesses_few_are_tried_and_the_owner_still_signs_in(
    ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    app = await add_factor(await sign_in("ada"), clock)
    tokens = [await challenge(anonymous, **elsewhere(network)) for network in range(1, 5)]
    guesses = app.wrong_codes(60)
    answers = await asyncio.gather(
        *(confirm(anonymous, tokens[number % 4], code, **elsewhere(1 + number % 50)) for number, code in enumerate(guesses))
    )
    assert set(types(answers)) == {"InvalidCredentials", "RATE_LIMITED"}
    tried = [event for event in await history(database) if event[0] == "TOTP"]
    assert CODES.attempts <= len(tried) == types(answers).count("InvalidCredentials") <= 2 * CODES.attempts
    refused = await confirm(anonymous, tokens[0], app.code(), **elsewhere(60))
    assert refused["extensions"]["code"] == "RATE_LIMITED", "a right code has to wait there too"
    assert 0 < refused["extensions"]["retryAfter"] <= CODES.seconds / CODES.attempts
    backup = await confirm(anonymous, tokens[1], app.backup_codes[0], **elsewhere(60))
    assert backup["extensions"]["code"] == "RATE_LIMITED", "and so have backup codes"
    assert types([await confirm(anonymous, await challenge(anonymous), app.code())]) == ["LoginPayload"]


async def test_guesses_in_one_operation_count_each(
    ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    app = await add_factor(await sign_in("ada"), clock)
    token = await challenge(anonymous)
    fields = (
        f'g{number}: confirmLogin(input: {{challenge: "{token}", code: "{code}"}}) {{ __typename }}'
        for number, code in enumerate(app.wrong_codes(15))
    )
    answer = await anonymous.post(f"mutation {{ {' '.join(fields)} }}")
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"RATE_LIMITED"}
    assert len([event for event in await history(database) if event[0] == "TOTP"]) == CODES.attempts


async def test_a_session_alone_cannot_guess_the_code(ada: Client, sign_in: SignIn, clock: Clock) -> None:
    session = await sign_in("ada")
    app = await add_factor(session, clock)
    document = "mutation($code: String!, $password: String!) { disableTotp(input: {code: $code, password: $password}) { __typename } }"
    answers = [await session.post(document, code=code, password=PASSWORD) for code in app.wrong_codes(10)]
    assert sum("errors" not in answer for answer in answers) == CODES.attempts
    assert {error["extensions"]["code"] for answer in answers for error in answer.get("errors", ())} == {"RATE_LIMITED"}


@pytest.mark.exhaustive
async def test_a_thief_of_a_session_with_many_networks_cannot_guess_code_or_password(ada: Client, sign_in: SignIn, clock: Clock) -> None:
    stolen, own = await sign_in("ada"), await sign_in("ada")
    document = "mutation($input: ChangePasswordInput!) { changePassword(input: $input) { __typename } }"

    async def guess(session: Client, password: str, network: int) -> str:
        body = {"query": document, "variables": {"input": {"currentPassword": password, "newPassword": NEW}}}
        answer = (await session.http.post("/graphql", json=body, headers=elsewhere(network))).json()
        return answer["errors"][0]["extensions"]["code"] if answer.get("errors") else answer["data"]["changePassword"]["__typename"]

    tried = [await guess(stolen, f"guess {number}", number) for number in range(1, 9)]
    assert tried == ["InvalidCredentials"] * PER_SESSION.attempts + ["RATE_LIMITED"] * 3
    assert await guess(stolen, PASSWORD, 99) == "RATE_LIMITED", "the right one has to wait there too"
    app = await add_factor(own, clock)
    disable = "mutation($code: String!, $password: String!) { disableTotp(input: {code: $code, password: $password}) { __typename } }"
    answers: list[bool] = []
    for number, code in enumerate(app.wrong_codes(8)):
        body = {"query": disable, "variables": {"code": code, "password": PASSWORD}}
        answers.append("errors" in (await own.http.post("/graphql", json=body, headers=elsewhere(100 + number))).json())
    assert answers == [False] * PER_SESSION.attempts + [True] * 3


async def test_a_stolen_password_reaches_nothing(ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database) -> None:
    session = await sign_in("ada")
    await add_factor(session, clock)
    before = await session.one("{ sessions { id } }")
    document = (
        "mutation($input: LoginInput!) { login(input: $input) { __typename ... on TotpRequired { challenge } }"
        ' createDataset(input: {name: "mine"}) { __typename } }'
    )
    answer = await anonymous.post(document, input={"login": "ada", "password": PASSWORD})
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"], "the operation goes on as nobody"
    token = await challenge(anonymous, **elsewhere(1))
    assert await username(ada, token) is None, "a challenge is no token"
    assert await session.one("{ sessions { id } }") == before
    assert (await database.rows(text("SELECT count(*) FROM datasets")))[0][0] == 0
    assert (await mails(database, "new_device")) == []
    assert (await history(database))[-1] == ("PASSWORD", "The password was right, and a code was asked for.")


async def test_a_reset_password_does_not_replace_the_code(
    ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    app = await add_factor(await sign_in("ada"), clock)
    before = await challenge(anonymous)
    await anonymous.one('mutation { requestPasswordReset(input: {email: "ada@example.org"}) { __typename } }')
    (mail,) = await mails(database, "password_reset")
    token = next(line.strip() for line in mail.splitlines() if line.startswith("  "))
    document = "mutation($token: String!, $new: String!) { resetPassword(input: {token: $token, newPassword: $new}) { __typename } }"
    assert await anonymous.one(document, token=token, new=NEW) == {"__typename": "ResetPasswordPayload"}
    assert (await confirm(anonymous, before, app.code()))["issues"] == [{"path": ["challenge"]}], "of the password from before"
    assert types([await confirm(anonymous, await challenge(anonymous, password=NEW), app.code())]) == ["LoginPayload"]


@pytest.mark.parametrize(
    "change",
    [
        update(LoginChallenge).values(expires_at=text("now()")),
        update(User).where(User.username == "ada").values(password_hash="another"),
        update(User).where(User.username == "ada").values(disabled_at=text("now()")),
        update(User).where(User.username == "ada").values(deleted_at=text("now()")),
        update(User).where(User.username == "ada").values(totp_secret=None, totp_step=None),
    ],
    ids=["expired", "another password", "disabled", "deleted", "no factor"],
)
async def test_a_challenge_is_void_after(
    change: Any, ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    app = await add_factor(await sign_in("ada"), clock)
    token = await challenge(anonymous)
    async with database.work(SYSTEM) as work:
        await work.run(change)
    refused = await confirm(anonymous, token, app.code())
    assert (refused["__typename"], refused["issues"]) == ("InvalidInput", [{"path": ["challenge"]}])
    assert refused == await confirm(anonymous, "trc_made-up", app.code()), "it is answered as one that never was"


async def test_a_challenge_takes_only_the_codes_of_its_user(
    ada: Client, bob: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    apps = {name: await add_factor(await sign_in(name), clock) for name in ("ada", "bob")}
    for code in (apps["bob"].code(), apps["bob"].backup_codes[0]):
        assert types([await confirm(anonymous, await challenge(anonymous), code)]) == ["InvalidCredentials"]
    answer = await confirm(anonymous, await challenge(anonymous, "bob"), apps["bob"].code())
    assert answer["viewer"] == {"username": "bob"}, "his code was not used up"
    secret = (await database.rows(select(User.totp_secret).where(User.username == "bob")))[0].totp_secret
    async with database.work(SYSTEM) as work:  # as somebody who can write to the database, and has an app of their own
        await work.run(update(User).where(User.username == "ada").values(totp_secret=secret, totp_step=0))
    clock.next_step()
    assert types([await confirm(anonymous, await challenge(anonymous), apps["bob"].code())]) == ["InvalidCredentials"]


async def test_secrets_are_in_no_log_and_not_in_the_database(
    ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    with capture_logs() as logged:
        session = await sign_in("ada")
        app = await add_factor(session, clock)
        pending = await enroll(session, clock)
        token = await challenge(anonymous)
        used = app.code()
        await confirm(anonymous, token, used)
        await confirm(anonymous, await challenge(anonymous), app.backup_codes[0])
        answer = await session.post("{ viewer { hasTotp backupCodesLeft loginEvents { edges { node { method reason } } } } }")
    tables = await database.rows(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
    content = str(logged) + str(answer)
    for table in tables:
        rows = await database.rows(text(f'SELECT to_jsonb(t)::text AS row FROM "{table.tablename}" t'))
        content += "".join(row.row for row in rows)
    secrets = [app.secret, pending.secret, token, token.removeprefix("trc_"), *app.backup_codes]
    secrets += [code.replace("-", "") for code in app.backup_codes] + [base64.b32decode(app.secret).hex()]
    assert app.secret.lower() != app.secret
    assert [secret for secret in secrets if secret.lower() in content.lower()] == []
    assert f'"{used}"' not in content
    assert "trellis totp secret" not in content


async def test_with_another_secret_key_backup_codes_are_left(
    ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await sign_in("ada")
    app = await add_factor(session, clock)
    for key in ("another secret key, of the same length or so", ""):
        monkeypatch.setattr(state_settings(), "secret_key", SecretStr(key))
        with capture_logs() as logged:
            assert types([await confirm(anonymous, await challenge(anonymous), app.code())]) == ["InvalidCredentials"]
        assert [entry["hint"] for entry in logged if entry["event"] == "totp_secret_unreadable"] != []
    assert types([await confirm(anonymous, await challenge(anonymous), app.backup_codes[0])]) == ["LoginPayload"]
    document = "mutation($password: String!) { enrollTotp(input: {password: $password}) { __typename } }"
    refused = (await session.post(document, password=PASSWORD))["errors"][0]
    assert refused["extensions"]["code"] == "UNAVAILABLE"
    assert "TRELLIS_SECRET_KEY is not set" in refused["message"]


async def test_challenges_that_have_expired_are_forgotten(
    ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database, settings: StateSettings
) -> None:
    await add_factor(await sign_in("ada"), clock)
    await challenge(anonymous)
    context = MaintenanceContext(database, None, settings)  # pyright: ignore[reportArgumentType] - the task touches no object
    assert await forget_sign_ins(context) == 0
    async with database.work(SYSTEM) as work:
        await work.run(update(LoginChallenge).values(expires_at=text("now()")))
    assert await forget_sign_ins(context) == 1
