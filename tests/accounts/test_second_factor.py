"""With a second factor, a password alone begins no session: a code of the app does, once, or a backup code, once."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree as ET

from sqlalchemy import text, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.accounts import codes
from db.tables import BackupCode, User, UserSession
from tests.accounts.authenticator import (
    CONFIRM,
    DISABLE,
    ENROLL,
    FACTOR,
    REGENERATE,
    Clock,
    SignIn,
    add_factor,
    challenge,
    confirm,
    enroll,
    history,
    mails,
    types,
)
from tests.client import PASSWORD, Client
from tests.server.test_users_command import username

ASKED = ("PASSWORD", "The password was right, and a code was asked for.")
WRONG = "The code was wrong, or was used before."


async def test_an_app_is_added_and_its_codes_are_asked_for(
    ada: Client, bob: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    other, session, bobs = await sign_in("ada"), await sign_in("ada"), await sign_in("bob")
    answer = await session.one(ENROLL, input={"password": PASSWORD})
    assert answer["uri"] == f"otpauth://totp/Trellis:ada%40example.org?secret={answer['secret']}&issuer=Trellis"
    assert ET.fromstring(answer["qrSvg"]).tag == "{http://www.w3.org/2000/svg}svg"
    assert (await anonymous.login("ada"))["__typename"] == "LoginPayload", "what is not confirmed does not count"
    app = await add_factor(session, clock)
    assert len(set(app.backup_codes)) == codes.BACKUP_CODES
    assert await ada.one(FACTOR) == {"hasTotp": True, "backupCodesLeft": 10}
    assert await bobs.one(FACTOR) == {"hasTotp": False, "backupCodesLeft": 0}
    assert [await username(ada, client.token or "") for client in (other, session, ada, bobs)] == [None, "ada", "ada", "bob"]
    (mail,) = await mails(database)
    assert mail.startswith("Trellis: Codes are asked for when you sign in\nHello ada,\n")

    required = await anonymous.login("ada@example.org")
    assert required.pop("challenge").startswith("trc_")
    assert required == {"__typename": "TotpRequired", "methods": ["TOTP", "BACKUP_CODE"]}
    signed_in = await confirm(anonymous, await challenge(anonymous), app.code())
    assert signed_in["viewer"] == {"username": "ada"}
    assert signed_in["session"]["isCurrent"] is True
    assert await username(ada, signed_in["token"]) == "ada"
    assert (await history(database))[-3:] == [ASKED, ASKED, ("TOTP", None)]


async def test_a_code_is_accepted_a_step_early_and_late(ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock) -> None:
    app = await add_factor(await sign_in("ada"), clock)
    clock.next_step()
    token = await challenge(anonymous)
    endings = [types([await confirm(anonymous, token, app.code(steps))]) for steps in (-2, 2)]
    assert endings == [["InvalidCredentials"], ["InvalidCredentials"]]
    for steps in (-1, 0, 1):
        assert types([await confirm(anonymous, await challenge(anonymous), f" {app.code(steps)[:3]} {app.code(steps)[3:]}")]) == [
            "LoginPayload"
        ]


async def test_a_replayed_code_begins_one_session(
    ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    session = await sign_in("ada")
    app = await add_factor(session, clock)
    tokens = [await challenge(anonymous) for _ in range(4)]
    before = len(await session.one("{ sessions { id } }"))
    answers = await asyncio.gather(*(confirm(anonymous, token, app.code()) for token in tokens))
    assert types(answers) == ["InvalidCredentials"] * 3 + ["LoginPayload"]
    assert types([await confirm(anonymous, await challenge(anonymous), app.code())]) == ["InvalidCredentials"]
    assert types([await confirm(anonymous, await challenge(anonymous), app.code(-1))]) == ["InvalidCredentials"], "an older one neither"
    assert len(await session.one("{ sessions { id } }")) == before + 1
    tried = [reason for method, reason in await history(database) if method == "TOTP"]
    assert (tried.count(None), tried.count(WRONG), len(tried)) == (1, 5, 6)


async def test_a_challenge_begins_one_session(ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock) -> None:
    app = await add_factor(await sign_in("ada"), clock)
    token = await challenge(anonymous)
    given = [app.code(-1), app.code(), app.code(1), *app.backup_codes[:1]]
    answers = await asyncio.gather(*(confirm(anonymous, token, code) for code in given))
    assert types(answers).count("LoginPayload") == 1
    assert set(types(answers)) <= {"LoginPayload", "InvalidInput", "InvalidCredentials"}
    used = await confirm(anonymous, token, app.backup_codes[1])
    assert used["issues"] == [{"path": ["challenge"]}]
    assert types([await confirm(anonymous, await challenge(anonymous), app.backup_codes[1])]) == ["LoginPayload"], "no code was used up"


async def test_an_app_that_waits_to_be_confirmed_is_forgotten_with_the_password(ada: Client, sign_in: SignIn, clock: Clock) -> None:
    """It may be of whom the change of the password is to keep out."""
    session = await sign_in("ada")
    app = await enroll(session, clock)
    change = "mutation($input: ChangePasswordInput!) { changePassword(input: $input) { __typename } }"
    new = {"currentPassword": PASSWORD, "newPassword": "quiet lamp over seven rivers"}
    assert types([await session.one(change, input=new)]) == ["ChangePasswordPayload"]
    answer = await session.one(CONFIRM, input={"code": app.code()})
    assert types([answer]) == ["WrongState"]
    assert await session.one(FACTOR) == {"hasTotp": False, "backupCodesLeft": 0}


async def test_a_backup_code_is_accepted_once(ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database) -> None:
    app = await add_factor(await sign_in("ada"), clock)
    tokens = [await challenge(anonymous) for _ in range(4)]
    answers = await asyncio.gather(*(confirm(anonymous, token, app.backup_codes[3]) for token in tokens))
    assert types(answers) == ["InvalidCredentials"] * 3 + ["LoginPayload"]
    assert await ada.one(FACTOR) == {"hasTotp": True, "backupCodesLeft": 9}
    written = app.backup_codes[4].replace("-", " ").upper()
    assert types([await confirm(anonymous, tokens[0], written), await confirm(anonymous, tokens[1], written)]).count("LoginPayload") == 1
    assert ("BACKUP_CODE", None) in await history(database)
    async with database.work(SYSTEM) as work:
        await work.run(update(BackupCode).values(used_at=text("now()")))
    assert (await anonymous.login("ada"))["methods"] == ["TOTP"]


async def test_the_old_app_counts_until_the_new_one_is_confirmed(ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock) -> None:
    session = await sign_in("ada")
    old = await add_factor(session, clock)
    abandoned, new = await enroll(session, clock), await enroll(session, clock)
    assert types([await confirm(anonymous, await challenge(anonymous), old.code())]) == ["LoginPayload"]
    assert types([await session.one(CONFIRM, input={"code": app.code()}) for app in (abandoned, new)]) == [
        "ConfirmTotpPayload",
        "InvalidCredentials",
    ]
    clock.next_step()
    token = await challenge(anonymous)
    for code in (old.code(), old.backup_codes[0], abandoned.code()):
        assert types([await confirm(anonymous, token, code)]) == ["InvalidCredentials"]
    assert types([await confirm(anonymous, token, new.code())]) == ["LoginPayload"]


async def test_of_two_confirmations_one_counts(ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock) -> None:
    session = await sign_in("ada")
    app = await enroll(session, clock)
    answers = await asyncio.gather(*(session.one(CONFIRM, input={"code": app.code()}) for _ in range(4)))
    assert types(answers) == ["ConfirmTotpPayload"] + ["WrongState"] * 3
    (shown,) = [answer["backupCodes"] for answer in answers if "backupCodes" in answer]
    assert await session.one(FACTOR) == {"hasTotp": True, "backupCodesLeft": 10}
    assert types([await confirm(anonymous, await challenge(anonymous), shown[0])]) == ["LoginPayload"]


async def test_what_is_not_confirmed_in_time_is_void(ada: Client, sign_in: SignIn, clock: Clock, database: Database) -> None:
    session = await sign_in("ada")
    assert (await session.one(CONFIRM, input={"code": "000000"}))["state"] == "NOTHING_TO_CONFIRM"
    app = await enroll(session, clock)
    for code in (app.code(2), app.wrong_codes(1)[0], "abcd-efgh-ijkl-mnop"):
        assert types([await session.one(CONFIRM, input={"code": code})]) == ["InvalidCredentials"]
    assert (await session.one(CONFIRM, input={"code": "12345"}))["issues"] == [{"path": ["code"]}]
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.totp_pending_at.is_not(None)).values(totp_pending_at=text("now() - interval '10 minutes'")))
    assert (await session.one(CONFIRM, input={"code": app.code()}))["state"] == "NOTHING_TO_CONFIRM"
    assert await session.one(FACTOR) == {"hasTotp": False, "backupCodesLeft": 0}


async def test_adding_an_app_takes_the_password_and_a_recent_sign_in(
    ada: Client, sign_in: SignIn, clock: Clock, database: Database
) -> None:
    session = await sign_in("ada")
    assert types([await session.one(ENROLL, input={"password": "not the password"})]) == ["InvalidCredentials"]
    assert (await ada.post(ENROLL, input={"password": PASSWORD}))["errors"][0]["extensions"]["code"] == "FORBIDDEN", "an API key may not"
    async with database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(checked_at=text("now() - interval '11 minutes'")))
    refused = await session.one(ENROLL, input={"password": PASSWORD})
    assert (refused["__typename"], refused["state"]) == ("WrongState", "NOT_RECENTLY_CHECKED")
    assert "Sign in again with `login`" in refused["message"]
    assert (await database.rows(text("SELECT count(*) FROM users WHERE totp_pending_secret IS NOT NULL")))[0][0] == 0
    assert types([await (await sign_in("ada")).one(ENROLL, input={"password": PASSWORD})]) == ["EnrollTotpPayload"]


async def test_an_app_is_removed_with_password_and_code(
    ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    session = await sign_in("ada")
    nothing = await session.one(DISABLE, input={"password": PASSWORD, "code": "000000"})
    assert (nothing["__typename"], nothing["state"]) == ("WrongState", "NO_SECOND_FACTOR")
    app = await add_factor(session, clock)
    used = app.code()
    assert types([await confirm(anonymous, await challenge(anonymous), used)]) == ["LoginPayload"]
    for password, code in (("not the password", app.code(1)), (PASSWORD, used), (PASSWORD, app.wrong_codes(1)[0])):
        assert types([await session.one(DISABLE, input={"password": password, "code": code})]) == ["InvalidCredentials"]
    assert await session.one(FACTOR) == {"hasTotp": True, "backupCodesLeft": 10}
    answer = await session.one(DISABLE, input={"password": PASSWORD, "code": app.code(1)})
    assert answer == {"__typename": "DisableTotpPayload", "isDisabled": True}
    assert await session.one(FACTOR) == {"hasTotp": False, "backupCodesLeft": 0}
    assert (await anonymous.login("ada"))["__typename"] == "LoginPayload"
    (mail,) = await mails(database, "totp_removed")
    assert "by you or by whoever runs this Trellis" in mail


async def test_backup_codes_are_replaced_with_password_and_code(
    ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    session = await sign_in("ada")
    app = await add_factor(session, clock)
    given = {"password": PASSWORD, "code": app.code()}
    answers = await asyncio.gather(*(session.one(REGENERATE, input=given) for _ in range(3)))
    assert types(answers) == ["InvalidCredentials"] * 2 + ["RegenerateBackupCodesPayload"]
    (new,) = [answer["backupCodes"] for answer in answers if "backupCodes" in answer]
    assert not set(new) & set(app.backup_codes)
    assert types([await session.one(REGENERATE, input={"password": "not the password", "code": new[0]})]) == ["InvalidCredentials"]
    token = await challenge(anonymous)
    assert types([await confirm(anonymous, token, app.backup_codes[0])]) == ["InvalidCredentials"]
    assert types([await confirm(anonymous, token, new[0])]) == ["LoginPayload"]
    assert await session.one(FACTOR) == {"hasTotp": True, "backupCodesLeft": 9}
    assert len(await mails(database, "backup_codes_replaced")) == 1


async def test_what_is_no_code_is_no_attempt(ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock) -> None:
    app = await add_factor(await sign_in("ada"), clock)
    token = await challenge(anonymous)
    for code in ("", "12345", "1234567", "a", "\u0661\u0662\u0663\u0664\u0665\u0666", "\x00", "0" * 16, "x" * 20_000):
        assert (await confirm(anonymous, token, code))["issues"] == [{"path": ["code"]}]
    assert types([await confirm(anonymous, token, app.code())]) == ["LoginPayload"]
