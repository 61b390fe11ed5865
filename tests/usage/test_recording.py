"""Operations over each transport are counted, exactly, with who sent them and how they ended, and without what they said."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from uuid import UUID

import httpx
import orjson
import pytest
from sqlalchemy import select, text

from db.core.sketches import RELATIVE_ERROR
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import accounts
from db.tables import ApiKey, ApiRequest, User
from graph.execution.observation import Observation
from server.api_usage import ApiUsage
from tests.client import Client
from tests.server.serving import serving
from tests.server.test_sockets import bearer, open_websocket, send_message, wait_closed
from tests.usage.conftest import counts_of, usage_of

SECRET = "nobody-else-may-read-this"


async def user_id(database: Database, username: str) -> UUID:
    (row,) = await database.rows(select(User.id).where(User.username == username))
    return row.id


async def test_each_operation_is_counted_once_over_every_transport(ada: Client, bob: Client, admin: Client, database: Database) -> None:
    async with serving(usage_recording=True) as url:
        mine, his, nobody = Client(url, ada.token), Client(url, bob.token), Client(url)
        for _ in range(5):
            await mine.one("query Me { viewer { id } }")
        await asyncio.gather(*(mine.one("query Names { viewer { username } }") for _ in range(7)))
        await mine.one("{ viewer { id } }")
        assert (await nobody.post("query Me { viewer { id } }"))["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert (await mine.post("query Broken { nothing }"))["errors"]
        await his.one("query Me { viewer { id } }")
        async with mine.socket() as (send, receive):
            await send({"id": "1", "type": "subscribe", "payload": {"query": "query Socket { viewer { id } }"}})
            assert [(await receive())["type"], (await receive())["type"]] == ["next", "complete"]
        for client in (mine, his, nobody):
            await client.close()
    assert (await counts_of(ada)).operations == {"Me": (5, 0), "Names": (7, 0), None: (1, 0), "Broken": (1, 1), "Socket": (1, 0)}
    assert (await counts_of(bob)).operations == {"Me": (1, 0)}
    everybody = await counts_of(admin)
    assert (everybody.requests, everybody.errors, everybody.operations["Me"]) == (17, 2, (7, 1))
    rows = await database.rows(select(ApiRequest.user_id, ApiRequest.operation_name, ApiRequest.error_code.is_not(None).label("failed")))
    detail = Counter((row.user_id, row.operation_name, row.failed) for row in rows)
    me = await user_id(database, "ada")
    assert detail == {
        (me, "Me", False): 5,
        (me, "Names", False): 7,
        (me, None, False): 1,
        (me, "Broken", True): 1,
        (me, "Socket", False): 1,
        (await user_id(database, "bob"), "Me", False): 1,
        (None, "Me", True): 1,
    }


async def test_a_request_says_who_sent_it_from_where_and_how_it_ended(ada: Client, database: Database) -> None:
    async with (
        serving(usage_recording=True) as url,
        httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {ada.token}"}) as http,
    ):
        body = orjson.dumps({"query": "query Me { viewer { id } }"})
        headers = {"content-type": "application/json", "user-agent": "Example/1.0"}
        answer = await http.post("/graphql", content=body, headers={**headers, "x-trellis-cost": "1"})
    (row,) = await database.rows(select(ApiRequest))
    (key,) = await database.rows(select(ApiKey.id).join(User, User.id == ApiKey.user_id).where(User.username == "ada"))
    assert (row.api_key_id, row.session_id) == (key.id, None)
    assert (row.operation_name, row.operation_kind, row.error_code) == ("Me", "query", None)
    assert (row.request_bytes, row.response_bytes) == (len(body), len(answer.content))
    assert (row.ip_address, row.user_agent) == ("127.0.0.1", "Example/1.0")
    assert row.cost == answer.json()["extensions"]["cost"]["requested"]
    assert 0 < row.duration < 30
    assert row.id.int >> 80 == int(row.created_at.timestamp() * 1000), "the id leads to the partition of its month"


async def test_requests_that_become_no_operation_count_where_their_sender_is_known(
    ada: Client, bob: Client, admin: Client, database: Database
) -> None:
    """Over the quota of streams or sockets, or with a token that was revoked: whose it was sees that a program still uses it."""
    (key,) = await database.rows(select(ApiKey.id).join(User, User.id == ApiKey.user_id).where(User.username == "bob"))
    async with serving(usage_recording=True, streams_per_viewer=0, sockets_per_viewer=0) as url:
        mine, his, nobody = Client(url, ada.token), Client(url, bob.token), Client(url, "trk_00000000_unknown")
        stream = {"accept": "text/event-stream"}
        answer = await mine.http.post("/graphql", json={"query": "subscription { jobUpdates { id } }"}, headers=stream)
        assert answer.status_code == 429
        async with open_websocket(url) as websocket:
            await send_message(websocket, type="connection_init", payload=bearer(mine))
            assert (await wait_closed(websocket))[0] == 4429
        await his.one("query Me { viewer { id } }")
        async with database.work(SYSTEM) as work:
            await accounts.revoke_tokens(work, "bob@example.org")
        for client in (his, nobody):
            async with asyncio.timeout(60):
                while (await client.http.post("/graphql", json={"query": "{ viewer { id } }"})).status_code != 401:
                    await asyncio.sleep(0.05)
        async with open_websocket(url) as websocket:
            await send_message(websocket, type="connection_init", payload=bearer(his))
            assert (await wait_closed(websocket))[0] == 4403
        for client in (mine, his, nobody):
            await client.close()
    columns = (User.username, ApiRequest.error_code, ApiRequest.operation_kind, ApiRequest.operation_name, ApiRequest.api_key_id)
    rows = await database.rows(select(*columns).outerjoin(User, User.id == ApiRequest.user_id).where(ApiRequest.error_code.is_not(None)))
    assert sorted((row.username, row.error_code, row.operation_kind, row.operation_name) for row in rows) == [
        ("ada", "RATE_LIMITED", "unknown", None),
        ("ada", "RATE_LIMITED", "unknown", None),
        ("bob", "UNAUTHENTICATED", "unknown", None),
        ("bob", "UNAUTHENTICATED", "unknown", None),
    ]
    assert {row.api_key_id for row in rows if row.username == "bob"} == {key.id}
    everybody = await counts_of(admin)
    assert everybody.errors == 4, "what nobody sent is nobody's"
    assert (await counts_of(ada)).operations[None] == (2, 2)


async def test_a_request_of_a_session_names_the_session(
    ada: Client, sign_in: Callable[[str], Awaitable[Client]], database: Database
) -> None:
    session = await sign_in("ada")
    async with serving(usage_recording=True) as url:
        client = Client(url, session.token)
        await client.one("query Me { viewer { id } }")
        await client.close()
    (row,) = await database.rows(select(ApiRequest.api_key_id, ApiRequest.session_id))
    (expected,) = await database.rows(text("SELECT id FROM sessions"))
    assert tuple(row) == (None, expected.id)


async def test_nothing_that_an_operation_said_is_kept(ada: Client, database: Database) -> None:
    async with serving(usage_recording=True) as url:
        client = Client(url, ada.token)
        await client.create_dataset(SECRET)
        await client.post(f'query Literal {{ node(id: "{SECRET}") {{ id }} }}')
        await client.post("query Variable($id: ID!) { node(id: $id) { id } }", id=SECRET)
        await client.http.post("/graphql", json={"query": "query A { viewer { id } }", "operationName": SECRET})
        await client.post(f"query Broken {{ viewer {{ id }} # {SECRET}")
        await client.close()
    for table in ("api_requests", "api_metrics"):
        kept = [row.kept for row in await database.rows(text(f"SELECT t::text AS kept FROM {table} t"))]
        assert len(kept) >= 3
        assert [line for line in kept if SECRET in line] == []


async def test_recording_can_be_turned_off(ada: Client, database: Database) -> None:
    async with serving(usage_recording=False) as url:
        client = Client(url, ada.token)
        await client.one("query Me { viewer { id } }")
        await client.close()
    assert await database.rows(select(ApiRequest.id)) == []
    assert (await counts_of(ada)).requests == 0


async def test_a_stream_counts_with_the_time_until_it_began(ada: Client, database: Database) -> None:
    phases = {"parse": 0.25, "validate": 0.5}
    async with ApiUsage.open(database) as recorder:
        owner = await user_id(database, "ada")
        recorder.note(Observation("a request", owner, name="Wait", type="subscription", phases=phases, seconds=60.0))
    (row,) = await database.rows(select(ApiRequest.duration, ApiRequest.operation_kind))
    assert tuple(row) == (60.0, "subscription")
    (period,) = [period for period in await usage_of(ada) if period["requests"]]
    assert period["meanDuration"] == 0.75
    assert period["p50"] == pytest.approx(0.75, rel=RELATIVE_ERROR)
