"""`trellis user` and `trellis token`: an operator says who may do what, and which tokens are valid; open connections follow."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import accounts
from db.settings import StateSettings
from db.tables import ApiKey, User
from tests.client import Client
from tests.conftest import ADMIN_TOKEN
from tests.exhaustive import exhaustive
from tests.server.test_jobs_command import json_lines, trellis
from tests.server.test_sockets import VIEWER_QUERY, bearer, open_websocket, receive_message, send_message, send_subscribe, wait_closed
from tests.server.test_sse import UPDATES, streaming

ADA = "ada@example.org"
CREATE = 'mutation { createDataset(input: {name: "NAME"}) { __typename ... on Problem { code } } }'


async def username(client: Client, token: str) -> str | None:
    """Whose token it is; None for one that is not valid."""
    other = Client(client.url, token)
    answer = await other.post("{ viewer { username } }")
    await other.close()
    if answer.get("errors"):
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]
        return None
    return answer["data"]["viewer"]["username"]


async def told(*arguments: str) -> str:
    """What a command prints; it must succeed."""
    answer = await trellis(*arguments)
    assert (answer.returncode, answer.stderr) == (0, "")
    return answer.stdout.strip()


async def test_one_token_is_revoked_and_the_others_stay(ada: Client) -> None:
    assert ada.token is not None
    laptop = await told("user", "token", ADA, "--name", "laptop")
    async with open_websocket(ada.url, {"Authorization": f"Bearer {laptop}"}) as lost, open_websocket(ada.url, bearer(ada)) as kept:
        assert await told("token", "revoke", laptop[:12]) == f"The token {laptop[:12]} of {ADA} is revoked."
        async with asyncio.timeout(60):
            assert (await wait_closed(lost))[0] == 4403
        await send_subscribe(kept, "1", VIEWER_QUERY)
        assert (await receive_message(kept))["payload"] == {"data": {"viewer": {"username": "ada"}}}
    assert [await username(ada, token) for token in (laptop, ada.token)] == [None, "ada"]
    rows = await json_lines("token", "list", "--user", ADA)
    assert [(row["name"], row["isValid"]) for row in rows] == [("laptop", False), ("first token", True)]
    await told("token", "revoke", rows[1]["id"])
    assert await username(ada, ada.token) is None
    again = await trellis("token", "revoke", laptop[:12])
    reason = f"No valid token begins with {laptop[:12]!r} or has this id. `trellis token list` shows them.\n"
    assert (again.returncode, again.stderr) == (1, reason)


async def test_a_user_is_added_once_and_the_command_names_what_is_taken(ada: Client) -> None:
    email, name = (
        await trellis("user", "add", ADA, "--username", "other"),
        await trellis("user", "add", "b@example.org", "--username", "ada"),
    )
    assert (email.returncode, email.stderr) == (1, f"Another user has the address {ADA!r}. Each address is of one user: give another.\n")
    assert (name.returncode, name.stderr) == (1, "The username 'ada' is taken. Choose another.\n")
    assert [row["email"] for row in await json_lines("user", "list", "--role", "member")] == [ADA]


async def test_a_token_expires_on_every_transport(ada: Client, database: Database) -> None:
    token = await told("user", "token", ADA, "--expires", "90d")
    (row, _) = await json_lines("token", "list", "--user", ADA)
    remaining = datetime.fromisoformat(row["expiresAt"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < remaining < timedelta(days=90, minutes=1)
    async with database.work(SYSTEM) as work:
        soon = datetime.now(UTC) + timedelta(seconds=5)  # within which both connections stand, also on a busy machine
        await work.run(update(ApiKey).where(ApiKey.prefix == token[:12]).values(expires_at=soon))
    client = Client(ada.url, token)
    async with open_websocket(ada.url, {"Authorization": f"Bearer {token}"}) as websocket, streaming(client, UPDATES) as (_, frames):
        assert await anext(frames) == ":"
        async with asyncio.timeout(60):
            assert (await wait_closed(websocket))[0] == 4403
            error_frame, _ = [frame async for frame in frames]
        assert datetime.now(UTC) >= soon
        assert json.loads(error_frame.partition("data: ")[2])["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    await client.close()
    assert await username(ada, token) is None
    async with open_websocket(ada.url) as again:
        await send_message(again, type="connection_init", payload={"Authorization": f"Bearer {token}"})
        assert await wait_closed(again) == (4403, "Forbidden")


async def test_a_token_has_the_scopes_and_points_that_it_was_given(ada: Client) -> None:
    token = await told("user", "token", ADA, "--name", "nightly", "--scope", "read", "--scope", "RUN", "--points", "600")
    rows = await json_lines("token", "list", "--user", ADA)
    everything = ["READ", "WRITE", "RUN", "TRACK", "ACCOUNT", "BILLING"]
    assert [(row["name"], row["scopes"], row["pointsPerMinute"]) for row in rows] == [
        ("nightly", ["READ", "RUN"], 600),
        ("first token", everything, None),
    ]
    assert "READ, RUN" in await told("token", "list")
    client = Client(ada.url, token)
    answer = await client.post(CREATE.replace("NAME", "wine"))
    assert [error["extensions"]["scope"] for error in answer["errors"]] == ["WRITE"]
    assert await client.one("{ viewer { username } }") == {"username": "ada"}
    await client.close()
    await told("user", "role", ADA, "admin")
    assert [row["scopes"] for row in await json_lines("token", "list", "--user", ADA)] == [["READ", "RUN"], [*everything, "ADMIN"]]


@pytest.mark.exhaustive
async def test_a_token_is_rotated_and_the_old_one_ends_by_itself(ada: Client) -> None:
    old = await told("user", "token", ADA, "--name", "nightly", "--expires", "90d", "--scope", "read", "--points", "600")
    new = await told("token", "rotate", old[:12], "--overlap", "1s")
    assert await username(ada, new) == "ada"
    newer, older, _ = await json_lines("token", "list", "--user", ADA)
    assert (newer["prefix"], older["prefix"]) == (new[:12], old[:12])
    for name in ("name", "scopes", "pointsPerMinute"):
        assert newer[name] == older[name]
    assert datetime.fromisoformat(newer["expiresAt"]) - datetime.fromisoformat(newer["createdAt"]) == timedelta(days=90)
    async with asyncio.timeout(60):
        while await username(ada, old) is not None:
            await asyncio.sleep(0.05)
    assert await username(ada, new) == "ada"
    again = await trellis("token", "rotate", old[:12])
    reason = f"No valid token begins with {old[:12]!r} or has this id. `trellis token list` shows them.\n"
    assert (again.returncode, again.stderr) == (1, reason)
    admins = await trellis("token", "rotate", ADMIN_TOKEN[:4])
    assert (admins.returncode, admins.stderr) == (
        1,
        "token: This is the token of TRELLIS_ADMIN_TOKEN: change that setting, and start again.\n",
    )


@pytest.mark.parametrize("expires", ["soon", "0d", "-1d", "90"])
async def test_a_lifetime_that_is_none_is_refused(ada: Client, expires: str) -> None:
    answer = await trellis("user", "token", ADA, f"--expires={expires}")
    assert (answer.returncode, answer.stderr) == (2, f"--expires takes a duration such as `12h` or `90d`; {expires!r} is none.\n")


@pytest.mark.exhaustive
async def test_the_last_use_of_a_token_is_known_within_seconds_and_written_once_a_minute(ada: Client, database: Database) -> None:
    unused = await told("user", "token", ADA, "--name", "unused")

    async def last_uses() -> dict[str, Any]:
        return {row["prefix"]: row["lastUsedAt"] for row in await json_lines("token", "list", "--user", ADA)}

    assert ada.token is not None
    prefix = ada.token[:12]
    await ada.one("{ viewer { username } }")
    async with asyncio.timeout(60):
        while (used := (await last_uses())[prefix]) is None:
            await asyncio.sleep(0.1)
    assert abs(datetime.fromisoformat(used) - datetime.now(UTC)) < timedelta(seconds=20)
    keys = [row.id for row in await database.rows(ApiKey.__table__.select().where(ApiKey.prefix.in_([prefix, unused[:12]])))]
    for minutes, is_due in ((0.9, False), (1.1, True)):
        before = datetime.now(UTC) - timedelta(minutes=minutes)
        async with database.work(SYSTEM) as work:
            await work.run(update(ApiKey).where(ApiKey.id.in_(keys)).values(last_used_at=before))
            await accounts.record_token_use(work, keys)
        uses = {datetime.fromisoformat(use) for use in (await last_uses()).values()}
        assert {use > before for use in uses} == {is_due}, "another process may have written it"


async def test_a_disabled_user_is_signed_out_until_enabled(ada: Client, bob: Client) -> None:
    assert ada.token is not None
    async with open_websocket(ada.url, bearer(ada)) as websocket, streaming(ada, UPDATES) as (_, frames):
        assert await anext(frames) == ":"
        assert await told("user", "disable", ADA) == f"{ADA} is disabled. `trellis user enable {ADA}` undoes it."
        async with asyncio.timeout(60):
            assert (await wait_closed(websocket))[0] == 4403
            assert [frame async for frame in frames][-1] == "event: complete\ndata:"
    assert [await username(ada, ada.token), await username(bob, bob.token or "")] == [None, "bob"]
    assert "disabled since" in await told("user", "show", ADA)
    await told("user", "enable", ADA)
    assert await username(ada, ada.token) == "ada"


async def test_a_role_reaches_sockets_that_are_open(reader: Client) -> None:
    async def create(websocket: Any, name: str) -> str:
        await send_subscribe(websocket, name, CREATE.replace("NAME", name))
        answer = (await receive_message(websocket))["payload"]
        assert (await receive_message(websocket))["type"] == "complete"
        return answer["data"]["createDataset"]["__typename"] if answer.get("data") else answer["errors"][0]["extensions"]["code"]

    async with open_websocket(reader.url, bearer(reader)) as websocket:
        assert await create(websocket, "refused") in {"FORBIDDEN", "Forbidden"}
        assert await told("user", "role", "Reader@example.org", "member") == "Reader@example.org has the role MEMBER."
        async with asyncio.timeout(60):
            number = 0
            while await create(websocket, f"wine {number}") != "CreateDatasetPayload":
                number += 1
        await told("user", "role", "reader@example.org", "viewer")
        async with asyncio.timeout(60):
            while await create(websocket, f"beer {number}") == "CreateDatasetPayload":
                number += 1


@pytest.mark.exhaustive
async def test_users_are_listed_page_by_page_and_shown(ada: Client, bob: Client, reader: Client) -> None:
    await told("user", "tier", ADA, "pro")
    addresses: list[str] = []
    after: list[str] = []
    while True:
        answer = await trellis("user", "list", "--json", "--limit", "3", *after)
        addresses += [json.loads(line)["email"] for line in answer.stdout.splitlines()]
        if not answer.stderr:
            break
        after = ["--after", answer.stderr.split()[-1]]
    assert addresses == [ADA, "admin@trellis.local", "bob@example.org", "reader@example.org"]
    (shown,) = await json_lines("user", "show", "ADA@example.org")
    assert (shown["username"], shown["role"], shown["tier"], shown["disabledAt"]) == ("ada", "MEMBER", "PRO", None)
    assert [token["name"] for token in shown["tokens"]] == ["first token"]
    table = await told("user", "list")
    assert table.splitlines()[2].split()[:4] == [ADA, "ada", "MEMBER", "PRO"]
    listed = await told("token", "list")
    assert ada.token is not None
    assert ada.token[:12] in listed
    assert ada.token not in listed
    prefixes = {row["email"]: row["prefix"] for row in await json_lines("token", "list")}
    assert prefixes["admin@trellis.local"] == ADMIN_TOKEN[:4], "an operator's token may be short"


@pytest.mark.exhaustive
async def test_users_are_filtered_and_have_a_quota(ada: Client, bob: Client, reader: Client) -> None:
    await ada.create_dataset("wine")
    for given, said in (
        ("20GiB", "may store 21474836480 bytes."),
        ("5 kB", "may store 5000 bytes."),
        ("tier", "may store what the tier allows."),
    ):
        assert await told("user", "quota", ADA, given) == f"{ADA} {said}"
        storage = (await ada.one("{ viewer { storage { quotaBytes } } }"))["storage"]
        assert storage == {"quotaBytes": {"20GiB": 20 * 1024**3, "5 kB": 5_000, "tier": 1024**4}[given]}
    refused = await trellis("user", "quota", ADA, "much")
    assert (refused.returncode, refused.stderr.strip()) == (
        2,
        "A quota is a number of bytes such as `500000000` or `20GiB`, or `tier`; 'much' is neither.",
    )
    (shown,) = await json_lines("user", "show", ADA)
    assert (shown["stats"], shown["storage"]) == (
        {"datasets": 1, "pipelines": 0, "models": 0, "experiments": 0, "jobs": 0},
        {"usedBytes": 0, "pendingBytes": 0, "quotaBytes": 1024**4},
    )
    await told("user", "disable", "bob@example.org")
    for options, expected in (
        (["--role", "member", "--active", "--search", "EXAMPLE.org"], [ADA]),
        (["--role", "viewer", "--role", "admin", "--tier", "free"], ["admin@trellis.local", "reader@example.org"]),
        (["--disabled"], ["bob@example.org"]),
    ):
        assert [row["email"] for row in await json_lines("user", "list", *options)] == expected


@pytest.mark.parametrize("command", [("role", "member"), ("disable",)], ids=lambda words: words[0])
async def test_the_last_admin_stays(clean: None, settings: StateSettings, database: Database, command: tuple[str, ...]) -> None:
    name, *rest = command
    answer = await trellis("user", name, "admin@trellis.local", *rest)
    reason = "This is the last admin. Give another user the role ADMIN first, or enable another admin, and then repeat this.\n"
    assert (answer.returncode, answer.stderr) == (1, reason)
    (admin,) = await database.rows(select(User.role, User.disabled_at).where(User.email == "admin@trellis.local"))
    assert tuple(admin) == (UserRole.ADMIN, None)


@pytest.mark.parametrize(
    "command",
    [
        ("show",),
        ("role", "admin"),
        *map(exhaustive, [("tier", "pro"), ("disable",), ("enable",), ("quota", "5"), ("token",), ("revoke",)]),
    ],
    ids=lambda words: words[0],
)
async def test_a_user_who_does_not_exist_is_named(clean: None, settings: StateSettings, command: tuple[str, ...]) -> None:
    name, *rest = command
    answer = await trellis("user", name, "nobody@example.org", *rest)
    reason = "No user has the email address 'nobody@example.org'. `trellis user list` shows all, `trellis user add` creates one.\n"
    assert (answer.returncode, answer.stderr) == (1, reason)


async def test_the_name_of_the_admins_token_is_taken(ada: Client) -> None:
    answer = await trellis("user", "token", ADA, "--name", "admin")
    assert (answer.returncode, answer.stderr) == (1, "name: The name 'admin' is that of TRELLIS_ADMIN_TOKEN. Choose another.\n")
