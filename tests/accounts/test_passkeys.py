"""A passkey signs its user in without a password and stands for a code; its owner adds and removes it, and is told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select, text, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import accounts
from db.services.accounts.passkeys import MAX_PASSKEYS
from db.tables import OAuthIdentity, User, UserSession
from db.tables.passkeys import Passkey
from tests.accounts.authenticator import Clock, SignIn, add_factor, history, mails, types
from tests.accounts.authenticator import challenge as password_challenge
from tests.accounts.passkey_device import (
    BEGIN,
    BEGIN_LOGIN,
    FINISH,
    PASSKEYS,
    PRESENT,
    REMOVE,
    VERIFIED,
    Device,
    add_passkey,
    at_localhost,
    begin,
    begin_login,
    decode,
    finish_login,
    sign_in_with,
)
from tests.client import PASSWORD, Client
from tests.server.test_users_command import username


@pytest.fixture
async def session(ada: Client, bob: Client, sign_in: SignIn) -> Client:
    """Ada's session."""
    session = await sign_in("ada")
    at_localhost(session)
    return session


@pytest.fixture
def device(anonymous: Client) -> Device:
    """A device, and the page at this Trellis that uses it; `anonymous` sends what it answers."""
    return Device(at_localhost(anonymous))


async def test_a_passkey_is_added_and_signs_in_alone(
    session: Client, ada: Client, bob: Client, anonymous: Client, device: Device, database: Database
) -> None:
    options = await begin(session, "  My phone ")
    user = (await ada.one("{ viewer { id } }"))["id"]
    assert len(decode(options.pop("challenge"))) == 32
    assert options == {
        "rp": {"id": "localhost", "name": "Trellis"},
        "user": {"id": options["user"]["id"], "name": "ada", "displayName": "Ada"},
        "pubKeyCredParams": [{"type": "public-key", "alg": algorithm} for algorithm in (-8, -7, -257)],
        "timeout": 300_000,
        "excludeCredentials": [],
        "authenticatorSelection": {"residentKey": "required", "requireResidentKey": True, "userVerification": "required"},
        "attestation": "none",
    }
    assert f"user_{decode(options['user']['id']).hex()}" == user
    passkey = await add_passkey(session, device, "My phone")
    assert passkey == {"id": passkey["id"], "name": "My phone", "isBackedUp": True, "lastUsedAt": None}
    assert (await ada.one(PASSKEYS))["passkeys"] == [passkey]
    assert (await bob.one(PASSKEYS))["passkeys"] == []
    (row,) = await database.rows(select(Passkey.__table__))
    assert (row.transports, row.is_backup_eligible, row.sign_count) == (["internal", "hybrid"], True, 0)
    (mail,) = await mails(database)
    assert mail.startswith("Trellis: A passkey was added to your account\nHello ada,\n")

    before = len(await session.one("{ sessions { id } }"))
    options = await begin_login(anonymous)
    assert len(decode(options.pop("challenge"))) == 32
    assert options == {"rpId": "localhost", "timeout": 300_000, "allowCredentials": [], "userVerification": "required"}
    signed_in = await sign_in_with(anonymous, device)
    assert (signed_in["viewer"], signed_in["session"]["isCurrent"]) == ({"username": "ada"}, True)
    assert await username(ada, signed_in["token"]) == "ada"
    assert len(await session.one("{ sessions { id } }")) == before + 1
    (used,) = (await ada.one(PASSKEYS))["passkeys"]
    assert used["lastUsedAt"] is not None
    assert (await history(database))[-1] == ("PASSKEY", None)
    events = (await ada.one("{ auditEvents(first: 2) { edges { node { action subjectId before after actor { username } } } } }"))["edges"]
    assert [edge["node"] for edge in events] == [
        {"action": "finish_passkey_login", "subjectId": signed_in["session"]["id"], "before": None, "after": {"method": "PASSKEY"}, "actor": {"username": "ada"}},
        {"action": "finish_passkey_registration", "subjectId": passkey["id"], "before": None, "after": {"name": "My phone"}, "actor": {"username": "ada"}},
    ]  # fmt: skip


async def test_a_passkey_is_both_factors_and_stands_for_a_code(
    session: Client, ada: Client, anonymous: Client, device: Device, clock: Clock, database: Database
) -> None:
    await add_passkey(session, device)
    assert (await anonymous.login("ada"))["__typename"] == "LoginPayload", "a passkey alone asks for nothing more with the password"
    await add_factor(session, clock)
    assert (await anonymous.login("ada"))["methods"] == ["TOTP", "BACKUP_CODE", "PASSKEY"]
    assert types([await sign_in_with(anonymous, device)]) == ["LoginPayload"], "no code is asked for"

    challenge = await password_challenge(anonymous)
    options = await begin_login(anonymous, challenge=challenge)
    assert [decode(one["id"]) for one in options["allowCredentials"]] == [device.keys[0].id]
    assert options["allowCredentials"][0]["transports"] == ["internal", "hybrid"]
    signed_in = await finish_login(anonymous, device.get(options), challenge=challenge)
    assert signed_in["viewer"] == {"username": "ada"}
    again = await finish_login(anonymous, device.get(await begin_login(anonymous)), challenge=challenge)
    assert again["issues"][0]["path"] == ["challenge"], "the challenge of the password is used up"
    assert (await history(database))[-1] == ("PASSKEY", None)


async def test_a_passkey_answers_the_password_of_its_own_user_only(
    session: Client, bob: Client, sign_in: SignIn, anonymous: Client, device: Device, clock: Clock, database: Database
) -> None:
    bobs = await sign_in("bob")
    at_localhost(bobs)
    await add_passkey(bobs, device)
    await add_factor(session, clock)
    challenge = await password_challenge(anonymous)
    assert types([await sign_in_with(anonymous, device, challenge=challenge)]) == ["InvalidCredentials"]
    assert (await history(database, "bob"))[-1] == ("PASSKEY", "The password, or the provider's word, was of another user.")
    assert types([await sign_in_with(anonymous, device)]) == ["LoginPayload"]


async def test_adding_a_passkey_takes_a_recent_sign_in_and_never_an_api_key(
    session: Client, ada: Client, device: Device, database: Database
) -> None:
    at_localhost(ada)
    for document, given in ((BEGIN, {"name": "phone"}), (FINISH, {"credential": {}})):
        assert (await ada.post(document, input=given))["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    passkey = await add_passkey(session, device)
    assert (await ada.post(REMOVE, id=passkey["id"]))["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    async with database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(checked_at=text("now() - interval '11 minutes'")))
    assert (await session.one(BEGIN, input={"name": "another"}))["state"] == "NOT_RECENTLY_CHECKED"
    assert (await session.one(REMOVE, id=passkey["id"]))["state"] == "NOT_RECENTLY_CHECKED"
    assert (await ada.one(PASSKEYS))["passkeys"] == [passkey]


async def test_a_name_is_used_once_per_user(
    session: Client, ada: Client, bob: Client, sign_in: SignIn, device: Device, database: Database
) -> None:
    other = await begin(session, "PHONE")  # begun before the first one is added
    passkey = await add_passkey(session, device)
    assert (await session.one(BEGIN, input={"name": " Phone"}))["__typename"] == "NameTaken"
    assert (await session.one(FINISH, input={"credential": device.create(other)}))["__typename"] == "NameTaken"
    assert (await ada.one(PASSKEYS))["passkeys"] == [passkey]
    bobs = await sign_in("bob")
    at_localhost(bobs)
    await add_passkey(bobs, device)
    for name in ("", " ", "a\nb", "x" * 101):
        assert (await session.one(BEGIN, input={"name": name}))["issues"][0]["path"] == ["name"]


async def test_a_user_has_at_most_twenty(session: Client, device: Device, database: Database) -> None:
    for number in range(MAX_PASSKEYS - 2):
        await add_passkey(session, device, f"phone {number}")
    begun = [device.create(await begin(session, f"laptop {number}")) for number in range(4)]
    answers = await asyncio.gather(*(session.one(FINISH, input={"credential": credential}) for credential in begun))
    assert types(answers) == ["FinishPasskeyRegistrationPayload"] * 2 + ["QuotaExceeded"] * 2
    assert (await session.one(BEGIN, input={"name": "one more"}))["__typename"] == "QuotaExceeded"
    assert (await database.rows(select(func.count()).select_from(Passkey)))[0][0] == MAX_PASSKEYS


async def test_a_passkey_is_removed_and_signs_in_no_more(
    session: Client, ada: Client, bob: Client, sign_in: SignIn, anonymous: Client, device: Device, database: Database
) -> None:
    passkey, other = await add_passkey(session, device), await add_passkey(session, device, "laptop")
    bobs = await sign_in("bob")
    assert types([await bobs.one(REMOVE, id=passkey["id"])]) == ["NotFound"]
    assert await session.one(REMOVE, id=passkey["id"]) == {"__typename": "RemovePasskeyPayload", "passkeyId": passkey["id"]}
    assert types([await session.one(REMOVE, id=passkey["id"])]) == ["NotFound"]
    assert (await ada.one(PASSKEYS))["passkeys"] == [other]
    assert types([await sign_in_with(anonymous, device, device.keys[0])]) == ["InvalidCredentials"]
    assert types([await sign_in_with(anonymous, device, device.keys[1])]) == ["LoginPayload"]
    assert len(await mails(database, "passkey_removed")) == 1


async def test_the_last_way_in_stays(session: Client, ada: Client, device: Device, database: Database) -> None:
    passkeys = [await add_passkey(session, device, name) for name in ("phone", "laptop")]
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(password_hash=None))
    answers = await asyncio.gather(*(session.one(REMOVE, id=passkey["id"]) for passkey in passkeys))
    assert types(answers) == ["RemovePasskeyPayload", "WrongState"]
    assert [answer["state"] for answer in answers if "state" in answer] == ["LAST_WAY_IN"]
    assert len((await ada.one(PASSKEYS))["passkeys"]) == 1


async def test_an_identity_and_a_passkey_are_each_a_way_in(session: Client, ada: Client, device: Device, database: Database) -> None:
    passkey = await add_passkey(session, device)
    owner = UUID((await ada.one("{ viewer { id } }"))["id"].removeprefix("user_"))
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(password_hash=None))
        await work.run(insert(OAuthIdentity).values(user_id=owner, provider="one", issuer="https://one.example.org", subject="7"))
    assert (await session.one(REMOVE, id=passkey["id"]))["state"] == "LAST_WAY_IN", "the provider is not one of the settings"
    unlink = 'mutation { unlinkOAuthIdentity(input: {provider: "one"}) { __typename } }'
    assert await session.one(unlink) == {"__typename": "UnlinkOAuthIdentityPayload"}


@pytest.mark.exhaustive
async def test_a_passkey_restores_the_account_that_it_signed_in_to(
    session: Client, anonymous: Client, device: Device, database: Database
) -> None:
    await add_passkey(session, device)
    await session.create_dataset("wine")
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(password_hash=None))
    assert types([await sign_in_with(anonymous, device, restore=True)]) == ["InvalidCredentials"], "it is not deleted"
    assert types([await session.one("mutation { deleteAccount(input: {}) { __typename } }")]) == ["DeleteAccountPayload"]
    assert types([await sign_in_with(anonymous, device)]) == ["InvalidCredentials"], "signing in alone restores nothing"
    async with database.work(SYSTEM) as work:
        other = await accounts.add_user(work, "another@example.org", "ada")
    credential = device.get(await begin_login(anonymous))
    assert types([await finish_login(anonymous, credential, restore=True)]) == ["NameTaken"]
    assert types([await finish_login(anonymous, credential, restore=True, username="no name")]) == ["InvalidInput"]
    answers = await asyncio.gather(*(finish_login(anonymous, credential, restore=True, username="ada2") for _ in range(2)))
    assert sorted(types(answers)) in (["InvalidCredentials", "LoginPayload"], ["InvalidInput", "LoginPayload"]), "an answer counts once"
    token = next(answer["token"] for answer in answers if answer["__typename"] == "LoginPayload")
    assert [await username(anonymous, each or "") for each in (token, other, session.token)] == ["ada2", "ada", None]
    async with database.work(SYSTEM) as work:
        values = {"deleted_at": func.now(), "deleted_by_owner": False}
        await work.run(update(User).where(User.username == "ada2").values(values))
    assert types([await sign_in_with(anonymous, device, restore=True)]) == ["InvalidCredentials"], "an operator deleted it"


async def test_a_passkey_answers_no_challenge_that_restores(session: Client, anonymous: Client, device: Device, clock: Clock) -> None:
    await add_passkey(session, device)
    await add_factor(session, clock)
    signed = device.get(await begin_login(anonymous))
    delete = f'mutation {{ deleteAccount(input: {{password: "{PASSWORD}"}}) {{ __typename }} }}'
    assert types([await session.one(delete)]) == ["DeleteAccountPayload"]
    restore = f'mutation {{ restoreAccount(input: {{login: "ada", password: "{PASSWORD}"}}) {{ __typename ... on TotpRequired {{ challenge methods }} }} }}'
    required = await anonymous.one(restore)
    assert required["methods"] == ["TOTP", "BACKUP_CODE"]
    for given in ({}, {"challenge": required["challenge"]}):
        assert types([await finish_login(anonymous, signed, **given)]) == ["InvalidInput" if given else "InvalidCredentials"]
    assert types([await anonymous.one(BEGIN_LOGIN, input={"challenge": required["challenge"]})]) == ["InvalidInput"]


@pytest.mark.exhaustive
def test_a_start_does_not_load_what_verifies_passkeys() -> None:
    code = "import sys, server.app; server.app.create_app(); print('webauthn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()[-1] == "False"


async def test_a_device_that_does_not_count_signs_in_again_and_again(
    session: Client, anonymous: Client, device: Device, ada: Client
) -> None:
    device.counts, device.flags = False, PRESENT | VERIFIED
    await add_passkey(session, device)
    for _ in range(2):
        assert types([await sign_in_with(anonymous, device)]) == ["LoginPayload"]
    assert [passkey["isBackedUp"] for passkey in (await ada.one(PASSKEYS))["passkeys"]] == [False]


async def test_a_new_device_is_told_and_a_changed_password_lists_the_passkeys(
    session: Client, anonymous: Client, device: Device, database: Database
) -> None:
    await add_passkey(session, device, "My phone")
    anonymous.http.headers["x-forwarded-for"] = "198.51.100.7"
    assert types([await sign_in_with(anonymous, device)]) == ["LoginPayload"]
    assert len(await mails(database, "new_device")) == 1
    change = (
        'mutation { changePassword(input: {currentPassword: "correct horse battery", newPassword: "a new password 7"}) { __typename } }'
    )
    assert types([await session.one(change)]) == ["ChangePasswordPayload"]
    (mail,) = await mails(database, "password_changed")
    assert "These passkeys stay valid. Remove those that you do not know:\n  My phone" in mail
    assert types([await sign_in_with(anonymous, device)]) == ["LoginPayload"]
