"""A sign-in from a browser, kind of device or network that is new to an account is told to its owner by mail, once."""

from __future__ import annotations

import asyncio
from importlib import import_module

import pytest
from sqlalchemy import text, update

from db.core.networks import wide_network
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.accounts.devices import MAX_MAILS
from db.services.maintenance import MaintenanceContext
from db.services.maintenance.rows import forget_sign_ins
from db.settings import StateSettings
from db.tables import KnownDevice
from tests.accounts.authenticator import Clock, SignIn, add_factor, challenge, confirm, mails
from tests.client import Client

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1"


async def sign_in_from(client: Client, address: str, user_agent: str | None = FIREFOX) -> None:
    headers = {"x-forwarded-for": address} | ({} if user_agent is None else {"user-agent": user_agent})
    assert (await client.login("ada", **headers))["__typename"] == "LoginPayload"


async def test_the_owner_is_told_of_each_new_device_once(
    ada: Client, bob: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    await sign_in("ada")
    await sign_in("ada")
    assert await mails(database) == [], "the first sign-in of an account is from where its owner is"
    for address, user_agent in (
        ("192.0.2.7", FIREFOX),
        ("192.0.2.250", FIREFOX),  # the same network
        ("192.0.2.7", IPHONE),
        ("192.0.3.7", IPHONE),
        ("2001:db8:7::1", IPHONE),
        ("2001:db8:7:ffff::2", IPHONE),  # the same network
        ("2001:db8:8::1", IPHONE),
        ("192.0.2.9", FIREFOX.replace("140", "141")),  # the same browser
    ):
        await sign_in_from(anonymous, address, user_agent)
    told = await mails(database)
    devices = [
        " ".join(line.strip() for line in mail.splitlines() if line.startswith("  "))[: -len("on 2026-01-01 at 00:00 UTC")] for mail in told
    ]
    assert devices == [
        "Firefox on Linux from the address 192.0.2.7 ",
        "Safari on iPhone from the address 192.0.2.7 ",
        "Safari on iPhone from the address 192.0.3.7 ",
        "Safari on iPhone from the address 2001:db8:7::1 ",
        "Safari on iPhone from the address 2001:db8:8::1 ",
    ]
    assert told[0].startswith("Trellis: A new sign-in to your account\nHello ada,\n")
    assert {row.address for row in await database.rows(text("SELECT address FROM email_messages"))} == {"ada@example.org"}


async def test_of_sign_ins_at_once_one_is_told(ada: Client, sign_in: SignIn, anonymous: Client, database: Database) -> None:
    await sign_in("ada")
    await asyncio.gather(*(sign_in_from(anonymous, "192.0.2.7") for _ in range(5)))
    assert len(await mails(database)) == 1


async def test_a_sign_in_is_told_when_its_code_was_right(
    ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    app = await add_factor(await sign_in("ada"), clock)
    place = {"x-forwarded-for": "192.0.2.7", "user-agent": FIREFOX}
    token = await challenge(anonymous, **place)
    await confirm(anonymous, token, app.wrong_codes(1)[0], **place)
    assert await mails(database, "new_device") == []
    assert (await confirm(anonymous, token, app.code(), **place))["__typename"] == "LoginPayload"
    assert len(await mails(database, "new_device")) == 1


async def test_a_mail_shows_no_text_of_the_client(ada: Client, sign_in: SignIn, anonymous: Client, database: Database) -> None:
    await sign_in("ada")
    for name in ("evil.example.org/1", "<b>Ada</b>", "https://evil.example.org"):
        await sign_in_from(anonymous, "192.0.2.7", name)
    told = await mails(database)
    assert len(told) == 3
    assert [mail for mail in told if "evil" in mail or "<b>" in mail] == []
    assert all("a program that does not say its name" in mail for mail in told)
    async with database.work(SYSTEM) as work:
        await work.run(text("DELETE FROM sessions"))
    assert all("from a place that it did not know." in mail for mail in await mails(database))


@pytest.mark.exhaustive
async def test_an_hour_has_a_few_such_mails(ada: Client, sign_in: SignIn, anonymous: Client, database: Database) -> None:
    await sign_in("ada")
    for number in range(MAX_MAILS + 3):
        await sign_in_from(anonymous, f"192.0.{number}.1")
    assert len(await mails(database)) == MAX_MAILS - 1  # the device of the first sign-in counts
    async with database.work(SYSTEM) as work:
        await work.run(update(KnownDevice).values(created_at=text("now() - interval '61 minutes'")))
    await sign_in_from(anonymous, "198.51.100.1")
    assert len(await mails(database)) == MAX_MAILS


async def test_a_device_that_was_not_used_for_long_is_new_again(
    ada: Client, sign_in: SignIn, anonymous: Client, database: Database, settings: StateSettings
) -> None:
    await sign_in("ada")
    async with database.work(SYSTEM) as work:
        await work.run(update(KnownDevice).values(last_seen_at=text("now() - interval '91 days'")))
    context = MaintenanceContext(database, None, settings)  # pyright: ignore[reportArgumentType] - the task touches no object
    assert await forget_sign_ins(context) == 1
    assert (await anonymous.login("ada"))["__typename"] == "LoginPayload"
    assert len(await mails(database)) == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.0"),
        ("::ffff:192.0.2.7", "192.0.2.0"),
        ("2001:db8:7:8::1", "2001:db8:7::"),
        ("fe80::1%eth0", "fe80::"),
        (None, "unknown"),
        ("a socket", "unknown"),
    ],
)
def test_a_network_is_wide(address: str | None, network: str) -> None:
    assert wide_network(address) == network


async def test_devices_of_sessions_from_before_the_migration_are_known(
    ada: Client, bob: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    await sign_in("bob")
    await sign_in("ada")
    for address in ("192.0.2.7", "192.0.2.8", "2001:db8:7::1"):
        await sign_in_from(anonymous, address)
    devices = text("SELECT user_id, network, browser, device FROM known_devices ORDER BY 1, 2, 3, 4")
    noted = [tuple(row) for row in await database.rows(devices)]
    assert len(noted) == 4
    async with database.work(SYSTEM) as work:
        await work.run(text("DELETE FROM known_devices"))
        await work.run(text(import_module("db.migrations.versions.0014_second_factors").KNOWN))
    assert [tuple(row) for row in await database.rows(devices)] == noted
