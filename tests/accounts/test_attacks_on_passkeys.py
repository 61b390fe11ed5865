"""Who has no passkey of a user does not sign in as them, with whatever they have instead; and learns nothing of which passkeys there are."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from structlog.testing import capture_logs

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.limits.sign_in_attempts import PASSKEY_CHALLENGES, PASSKEYS
from db.services.maintenance import MaintenanceContext
from db.services.maintenance.rows import forget_sign_ins
from db.settings import StateSettings, state_settings
from db.tables import User, UserSession
from db.tables.passkeys import Passkey, PasskeyChallenge
from tests.accounts.authenticator import SignIn, history, types
from tests.accounts.passkey_device import (
    BACKED_UP,
    BACKUP_ELIGIBLE,
    BEGIN,
    BEGIN_LOGIN,
    FINISH,
    PRESENT,
    VERIFIED,
    Device,
    add_passkey,
    at_localhost,
    begin,
    begin_login,
    decode,
    encode,
    finish_login,
    sign_in_with,
)
from tests.accounts.test_passkeys import device, session
from tests.client import Client
from tests.exhaustive import exhaustive, few, is_sampled

__all__ = ["device", "session"]  # fixtures


async def sessions(database: Database) -> int:
    return (await database.rows(select(func.count()).select_from(UserSession)))[0][0]


WRONG: dict[str, dict[str, Any]] = {
    "another origin": {"origin": "https://evil.example"},
    "another port": {"origin": "http://localhost:1"},
    "another relying party": {"rp_id": "evil.example"},
    "not verified": {"flags": PRESENT | BACKUP_ELIGIBLE | BACKED_UP},
    "nobody present": {"flags": VERIFIED | BACKUP_ELIGIBLE | BACKED_UP},
    "backed up, and not eligible": {"flags": PRESENT | VERIFIED | BACKED_UP},
}


@pytest.mark.parametrize("wrong", [value if is_sampled(name, 3) else exhaustive(value) for name, value in WRONG.items()], ids=list(WRONG))
async def test_one_thing_wrong_is_refused(
    wrong: dict[str, Any], session: Client, anonymous: Client, device: Device, database: Database
) -> None:
    changed = replace(device, **wrong)
    refused = await session.one(FINISH, input={"credential": changed.create(await begin(session))})
    assert (refused["__typename"], refused["issues"][0]["path"]) == ("InvalidInput", ["credential"])
    assert (await database.rows(select(func.count()).select_from(Passkey)))[0][0] == 0
    await add_passkey(session, device)
    before = await sessions(database)
    assert types([await sign_in_with(anonymous, changed)]) == ["InvalidCredentials"]
    assert await sessions(database) == before
    method, reason = (await history(database))[-1]
    assert (method, (reason or "").startswith("The answer of the passkey is not accepted")) == ("PASSKEY", True)
    assert types([await sign_in_with(anonymous, device)]) == ["LoginPayload"]


async def test_what_is_signed_by_another_key_or_changed_is_refused(
    session: Client, anonymous: Client, device: Device, database: Database
) -> None:
    await add_passkey(session, device)
    stranger = Device(device.origin)
    stranger.create({"user": {"id": encode(device.keys[0].user_handle)}, "challenge": "", "rp": {"id": "localhost"}})
    stranger.keys[0].id = device.keys[0].id
    assert types([await sign_in_with(anonymous, stranger)]) == ["InvalidCredentials"]
    device.keys[0].user_handle = bytes(16)
    assert types([await sign_in_with(anonymous, device)]) == ["InvalidCredentials"]
    device.keys[0].user_handle, device.flags = stranger.keys[0].user_handle, PRESENT | VERIFIED
    assert types([await sign_in_with(anonymous, device)]) == ["InvalidCredentials"], "it may not lose its eligibility for backups"
    device.flags, device.cross_origin = Device.flags, True
    assert types([await sign_in_with(anonymous, device)]) == ["InvalidInput"]


async def test_an_answer_signs_in_once(session: Client, anonymous: Client, device: Device, database: Database) -> None:
    await add_passkey(session, device)
    before = await sessions(database)
    credential = device.get(await begin_login(anonymous))
    answers = await asyncio.gather(*(finish_login(anonymous, credential) for _ in range(4)))
    assert types(answers) == ["InvalidInput"] * 3 + ["LoginPayload"]
    replayed = await finish_login(anonymous, credential)
    assert replayed["issues"][0]["path"] == ["credential"]
    assert "Begin again" in replayed["message"]
    assert await sessions(database) == before + 1


async def test_a_registration_is_for_the_session_that_began_it(
    session: Client, bob: Client, sign_in: SignIn, device: Device, anonymous: Client
) -> None:
    bobs, other = await sign_in("bob"), await sign_in("ada")
    at_localhost(bobs)
    at_localhost(other)
    credential = device.create(await begin(session))
    for client in (bobs, other):
        assert (await client.one(FINISH, input={"credential": credential}))["issues"][0]["path"] == ["credential"]
    assert (await finish_login(anonymous, credential))["__typename"] == "InvalidInput"
    assert types([await session.one(FINISH, input={"credential": credential})]) == ["FinishPasskeyRegistrationPayload"]
    assert types([await session.one(FINISH, input={"credential": credential})]) == ["InvalidInput"]
    options = await begin_login(anonymous)
    made = device.create({**options, "user": {"id": encode(bytes(16))}, "rp": {"id": "localhost"}})
    assert types([await session.one(FINISH, input={"credential": made})]) == ["InvalidInput"], "a challenge of a sign-in adds nothing"


async def test_a_passkey_is_added_once(session: Client, bob: Client, sign_in: SignIn, device: Device, database: Database) -> None:
    bobs = await sign_in("bob")
    at_localhost(bobs)
    await add_passkey(session, device)
    options = await begin(bobs)
    copied = Device(device.origin, id_of_new=device.keys[0].id)
    refused = await bobs.one(FINISH, input={"credential": copied.create(options)})
    assert (refused["__typename"], "was added before" in refused["message"]) == ("InvalidInput", True)
    assert [row.username for row in await database.rows(select(User.username).join(Passkey, Passkey.user_id == User.id))] == ["ada"]
    assert decode((await begin(session, "another"))["excludeCredentials"][0]["id"]) == device.keys[0].id


async def test_challenges_are_valid_for_five_minutes_and_then_forgotten(
    session: Client, anonymous: Client, device: Device, database: Database, settings: StateSettings
) -> None:
    await add_passkey(session, device)
    made, signed = device.create(await begin(session, "laptop")), device.get(await begin_login(anonymous), device.keys[0])
    left = select(func.extract("epoch", PasskeyChallenge.expires_at - func.now()))
    assert [290 < seconds <= 300 for (seconds,) in await database.rows(left)] == [True, True]
    context = MaintenanceContext(database, None, settings)  # pyright: ignore[reportArgumentType] - the task touches no object
    assert await forget_sign_ins(context) == 0
    async with database.work(SYSTEM) as work:
        await work.run(update(PasskeyChallenge).values(expires_at=text("now()")))
    assert (await session.one(FINISH, input={"credential": made}))["issues"][0]["path"] == ["credential"]
    assert (await finish_login(anonymous, signed))["issues"][0]["path"] == ["credential"]
    assert await forget_sign_ins(context) == 2


@pytest.mark.parametrize("count", few(1, [5, 4, 0]), ids=["equal", "lower", "none"])
async def test_a_counter_that_does_not_advance_is_refused_and_recorded(
    count: int, session: Client, anonymous: Client, device: Device, database: Database
) -> None:
    await add_passkey(session, device)
    key = device.keys[0]
    key.count = 4
    assert types([await sign_in_with(anonymous, device)]) == ["LoginPayload"]
    before = await sessions(database)
    key.count, device.counts = count, False
    with capture_logs() as logged:
        assert types([await sign_in_with(anonymous, device)]) == ["InvalidCredentials"]
    assert [entry["counter"] for entry in logged if entry["event"] == "passkey_counter_went_back"] == [count]
    assert await sessions(database) == before
    assert (await history(database))[-1] == (
        "PASSKEY",
        "The counter of the passkey went back: there may be a copy of it. Remove it, and add a new one.",
    )
    assert [row.sign_count for row in await database.rows(select(Passkey.sign_count))] == [5]


@pytest.mark.parametrize("change", [{"disabled_at": text("now()")}, {"deleted_at": text("now()")}], ids=["disabled", "deleted"])
async def test_who_may_not_sign_in_does_not_with_a_passkey(
    change: dict[str, Any], session: Client, anonymous: Client, device: Device, database: Database
) -> None:
    await add_passkey(session, device)
    before = await sessions(database)
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(change))
    assert types([await sign_in_with(anonymous, device)]) == ["InvalidCredentials"]
    assert await sessions(database) == before


async def test_a_failure_does_not_tell_whether_the_passkey_exists(
    session: Client, anonymous: Client, device: Device, database: Database
) -> None:
    await add_passkey(session, device)
    nobodys = Device(device.origin)
    nobodys.create({"user": {"id": encode(bytes(16))}, "challenge": "", "rp": {"id": "localhost"}})
    changed = replace(device, flags=PRESENT)
    answers = [await sign_in_with(anonymous, one) for one in (nobodys, changed)]
    assert types(answers) == ["InvalidCredentials"] * 2
    assert answers[0] == answers[1]
    reasons = [
        row.reason for row in await database.rows(text("SELECT reason FROM login_events WHERE method = 'passkey' AND user_id IS NULL"))
    ]
    assert reasons == ["Nobody has this passkey."]


async def test_of_many_attempts_few_are_tried_and_the_owner_still_signs_in(
    session: Client, anonymous: Client, device: Device, database: Database
) -> None:
    await add_passkey(session, device)
    anonymous.http.headers["user-agent"] = "curl/8.5.0"
    changed = replace(device, flags=PRESENT)
    credentials = [changed.get(await begin_login(anonymous)) for _ in range(PASSKEYS.attempts + 3)]
    answers = await asyncio.gather(*(finish_login(anonymous, credential) for credential in credentials))
    assert types(answers) == ["InvalidCredentials"] * PASSKEYS.attempts + ["RATE_LIMITED"] * 3
    assert types([await sign_in_with(anonymous, device)]) == ["RATE_LIMITED"]
    at_localhost(session)
    session.http.headers.pop("authorization")
    assert types([await sign_in_with(session, device)]) == ["LoginPayload"], "her own browser does not depend on what others try"


async def test_one_network_gets_few_challenges(session: Client, anonymous: Client, device: Device) -> None:
    asked = 2 * PASSKEY_CHALLENGES.attempts
    answers = [await anonymous.post(BEGIN_LOGIN, input={}) for _ in range(asked)]
    refused = [answer["errors"][0]["extensions"] for answer in answers if "errors" in answer]
    assert {extensions["code"] for extensions in refused} == {"RATE_LIMITED"}
    assert PASSKEY_CHALLENGES.attempts <= asked - len(refused) < asked
    anonymous.http.headers["x-forwarded-for"] = "198.51.100.7"
    assert await begin_login(anonymous)


async def test_the_host_of_a_request_counts_on_loopback_alone(session: Client, anonymous: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1:8000", "[::1]:8000", "localhost:"):
        for client, document, given in ((anonymous, BEGIN_LOGIN, {}), (session, BEGIN, {"name": "phone"})):
            client.http.headers["host"] = host
            answer = await client.one(document, input=given)
            assert (answer["__typename"], answer["state"]) == ("WrongState", "NO_RELYING_PARTY")
            assert "TRELLIS_PUBLIC_URL" in answer["message"]
    at_localhost(anonymous)
    for url in ("http://trellis.example.org", "https://192.0.2.1", "https://"):
        monkeypatch.setattr(state_settings(), "public_url", url)
        assert (await anonymous.one(BEGIN_LOGIN, input={}))["state"] == "NO_RELYING_PARTY"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Trellis.example.org:443/app/", "https://trellis.example.org"),
        ("https://trellis.example.org:8443", "https://trellis.example.org:8443"),
    ],
    ids=["the usual port", "another port"],
)
async def test_passkeys_are_bound_to_the_host_of_the_public_url(
    url: str, origin: str, session: Client, anonymous: Client, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_settings(), "public_url", url)
    assert (await begin(session))["rp"]["id"] == (await begin_login(anonymous))["rpId"] == "trellis.example.org"
    refused = await session.one(FINISH, input={"credential": device.create(await begin(session))})
    assert refused["issues"][0]["path"] == ["credential"], "the page at localhost is not the page of the setting"
    page = Device(origin)
    await add_passkey(session, page)
    assert types([await sign_in_with(anonymous, page)]) == ["LoginPayload"]


async def test_secrets_are_in_no_log_and_not_in_the_database(
    session: Client, anonymous: Client, device: Device, database: Database
) -> None:
    with capture_logs() as logged:
        await add_passkey(session, device)
        options, pending = await begin_login(anonymous), await begin(session, "laptop")
        answer = await finish_login(anonymous, device.get(options))
    content = str(logged)
    for table in await database.rows(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")):
        rows = await database.rows(text(f'SELECT to_jsonb(t)::text AS row FROM "{table.tablename}" t'))
        content += "".join(row.row for row in rows)
    secrets = [answer["token"], options["challenge"], pending["challenge"]]
    secrets += [decode(challenge).hex() for challenge in secrets[1:]]
    assert [secret for secret in secrets if secret in content] == []


async def test_what_is_no_answer_is_refused(session: Client, anonymous: Client, device: Device) -> None:
    await add_passkey(session, device)
    good = device.get(await begin_login(anonymous))
    response = good["response"]
    bad: list[Any] = [
        [],
        {"response": 1},
        {**good, "rawId": ""},
        {**good, "rawId": "*"},
        {**good, "rawId": "A" * 1_500},
        {**good, "more": "x" * 20_000},
        {**good, "response": {**response, "clientDataJSON": encode(b"[" * 5_000)}},
        {**good, "response": {**response, "clientDataJSON": encode(b'{"challenge": 1}')}},
        {**good, "response": {**response, "userHandle": "*"}},
    ]
    answers = [await finish_login(anonymous, credential) for credential in bad]
    assert types(answers) == ["InvalidInput"] * len(bad)
    broken: list[Any] = [{**good, "type": "password"}, {**good, "id": "other"}]
    broken += [{**good, "response": {**response, name: value}} for name in ("authenticatorData", "signature") for value in ("", "*", 1)]
    answers = await asyncio.gather(*(finish_login(anonymous, credential) for credential in broken))
    assert types(answers) == ["InvalidCredentials"] * len(answers)
    assert types([await finish_login(session, good)]) == ["LoginPayload"], "what is refused uses no challenge up"
