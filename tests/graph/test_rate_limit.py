"""Each viewer's token bucket refills evenly with points; an operation that costs more than it holds is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect

from db.core.viewer import SYSTEM, UserTier
from db.core.work import Database
from db.limits import lent_points
from db.limits.lent_points import LentPoints
from db.limits.token_buckets import TakeResult, TokenBuckets
from db.services import accounts
from db.settings import StateSettings
from db.stores.redis import CircuitBreaker
from db.stores.redis import connect as connect_redis
from graph.settings import GraphSettings
from tests.client import Client
from tests.server.serving import serving

TEN = "{ datasets(first: 9) { edges { node { id } } } }"
RATES = GraphSettings(rate_limit_anonymous=20, rate_limit_free=100, rate_limit_pro=500, rate_limit_enterprise=0)


@pytest.fixture
async def rate_limited_server(clean: None) -> AsyncGenerator[str]:
    """A server with small buckets."""
    async with serving(RATES) as url:
        yield url


async def post_query(url: str, token: str | None, query: str = TEN, **headers: str) -> httpx.Response:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    async with httpx.AsyncClient(verify=False) as http:
        return await http.post(f"{url}/graphql", json={"query": query}, headers=headers)


def flowed_back(began: float) -> float:
    """The points that a FREE viewer has got back since then, at a hundred a minute."""
    return (time.monotonic() - began) * 100 / 60


async def test_a_viewer_who_has_spent_all_is_told_when_to_retry(rate_limited_server: str, ada: Client, bob: Client) -> None:
    for _ in range(10):
        assert (await post_query(rate_limited_server, ada.token)).json()["data"] == {"datasets": {"edges": []}}
    refused = await post_query(rate_limited_server, ada.token)
    assert refused.status_code == 429
    wait = int(refused.headers["retry-after"])
    assert 1 <= wait <= 6  # ten points at a hundred a minute
    (error,) = refused.json()["errors"]
    assert "data" not in refused.json()
    extensions = error["extensions"]
    assert (extensions["code"], extensions["retryAfter"], extensions["cost"], extensions["limit"]) == ("RATE_LIMITED", wait, 10, 100)
    assert 0 <= extensions["remaining"] < 10
    assert error["message"].startswith("This operation costs 10 points, and ")
    # Cheaper operations still run, and other viewers have their own buckets.
    assert (await post_query(rate_limited_server, bob.token)).status_code == 200


async def test_what_was_refused_is_not_charged_and_points_flow_back(rate_limited_server: str, ada: Client) -> None:
    for _ in range(10):
        await post_query(rate_limited_server, ada.token)
    waits = [int((await post_query(rate_limited_server, ada.token)).headers["retry-after"]) for _ in range(5)]
    assert waits == sorted(waits, reverse=True)
    await asyncio.sleep(1.3)
    began = time.monotonic()
    cheap = await post_query(rate_limited_server, ada.token, "{ rateLimit(dryRun: true) { remaining resetAt } }")
    before = cheap.json()["data"]["rateLimit"]["remaining"]
    await asyncio.sleep(1.3)
    after = (await post_query(rate_limited_server, ada.token, "{ rateLimit(dryRun: true) { remaining resetAt } }")).json()["data"][
        "rateLimit"
    ]
    assert 1 <= after["remaining"] - before <= flowed_back(began), "two points or more, of which this query took one"
    assert datetime.now(UTC) < datetime.fromisoformat(after["resetAt"]) < datetime.now(UTC) + timedelta(minutes=1)


async def test_rate_limit_returns_what_was_taken_and_a_dry_run_takes_a_point(rate_limited_server: str, ada: Client) -> None:
    query = "{ rateLimit { cost limit remaining } datasets(first: 9) { edges { node { id } } } }"
    assert (await post_query(rate_limited_server, ada.token, query)).json()["data"]["rateLimit"] == {
        "cost": 10,
        "limit": 100,
        "remaining": 90,
    }
    began = time.monotonic()
    dry_query = query.replace("rateLimit", "rateLimit(dryRun: true)")
    for _ in range(3):
        data = (await post_query(rate_limited_server, ada.token, dry_query)).json()["data"]
        assert data.keys() == {"rateLimit"}
        assert (data["rateLimit"]["cost"], data["rateLimit"]["limit"]) == (10, 100)
        assert 86 <= data["rateLimit"]["remaining"] <= 91 + flowed_back(began)
    cost = (await post_query(rate_limited_server, ada.token, TEN, **{"X-Trellis-Cost": "1"})).json()["extensions"]["cost"]
    assert (cost["requested"], cost["limit"], cost["maximum"]) == (10, 100, 10_000)
    assert 76 <= cost["remaining"] <= 82 + flowed_back(began)


async def test_the_tier_sets_the_rate(rate_limited_server: str, ada: Client, notifying_database: Database) -> None:
    query = "{ viewer { tier } rateLimit { limit } }"
    assert (await post_query(rate_limited_server, ada.token, query)).json()["data"] == {
        "viewer": {"tier": "FREE"},
        "rateLimit": {"limit": 100},
    }
    for tier, rate in ((UserTier.PRO, 500), (UserTier.ENTERPRISE, 2_147_483_647)):
        async with notifying_database.work(SYSTEM) as work:
            await accounts.set_tier(work, "ada@example.org", tier)
        async with asyncio.timeout(2):
            while (data := (await post_query(rate_limited_server, ada.token, query)).json()["data"])["viewer"] != {"tier": tier.name}:
                assert data["rateLimit"]["limit"] != rate
        assert data["rateLimit"] == {"limit": rate}


async def test_those_without_a_token_share_the_bucket_of_their_address(rate_limited_server: str) -> None:
    statuses = [(await post_query(rate_limited_server, None)).status_code for _ in range(3)]
    assert statuses[:2] != [429, 429]
    assert statuses[-1] == 429


async def test_a_refused_document_costs_its_validation_once(rate_limited_server: str, ada: Client) -> None:
    expensive = "{ datasets(first: 100) { edges { node { jobs(first: 100) { edges { node { id } } } } } } }"
    began = time.monotonic()
    for query in (f"{{ nothing }} #{uuid4()}", f"{{ #{uuid4()}", f"{expensive} #{uuid4()}", *[f"{{ no{'o' * 5_000} }} #{uuid4()}"] * 20):
        assert "errors" in (await post_query(rate_limited_server, ada.token, query)).json()
    data = (await post_query(rate_limited_server, ada.token, "{ rateLimit { remaining } }")).json()["data"]
    refilled = (time.monotonic() - began) * RATES.rate_limit_free / 60
    assert 85 <= data["rateLimit"]["remaining"] <= 86 + ceil(refilled), "three documents cost 1 each, one costs 11, its repeats nothing"


async def test_a_viewer_who_sends_only_refused_documents_is_rate_limited(rate_limited_server: str, ada: Client) -> None:
    statuses = [
        (await post_query(rate_limited_server, ada.token, f"{{ nothing{number} }} #{'n' * 10_000}")).status_code for number in range(8)
    ]
    assert statuses == [200] * 4 + [429] * 4


async def test_what_an_unknown_document_paid_counts_for_its_operation(rate_limited_server: str, ada: Client) -> None:
    query = f"{{ rateLimit {{ remaining }} datasets(first: 9) {{ edges {{ node {{ id }} }} }} }} #{uuid4()}{'n' * 2_000}"
    assert (await post_query(rate_limited_server, ada.token, query)).json()["data"]["rateLimit"] == {"remaining": 90}
    assert (await post_query(rate_limited_server, ada.token, query)).json()["data"]["rateLimit"]["remaining"] in {80, 81}


SKIPPED = {
    "skipped": ("{ viewer { tier } rateLimit(dryRun: true) @skip(if: true) { cost } }", {}, {"viewer"}),
    "not included": ("query($x: Boolean = false) { viewer { tier } rateLimit(dryRun: true) @include(if: $x) { cost } }", {}, {"viewer"}),
    "in a fragment": (
        "query($x: Boolean!) { viewer { tier } ...F @include(if: $x) } fragment F on Query { rateLimit(dryRun: true) { cost } }",
        {"x": False},
        {"viewer"},
    ),
    "included": (
        "query($x: Boolean!) { viewer { tier } ...F @include(if: $x) } fragment F on Query { rateLimit(dryRun: true) { cost } }",
        {"x": True},
        {"rateLimit"},
    ),
    "beside one": (
        "{ viewer { tier } rateLimit { cost } ... @skip(if: true) { a: rateLimit(dryRun: true) { cost } } }",
        {},
        {"viewer", "rateLimit"},
    ),
}


@pytest.mark.parametrize("name", SKIPPED)
async def test_a_dry_run_that_is_left_out_leaves_nothing_else_out(ada: Client, name: str) -> None:
    document, variables, answered = SKIPPED[name]
    assert (await ada.execute(document, **variables)).keys() == answered


async def test_on_a_websocket_the_operation_fails_and_the_socket_stays(rate_limited_server: str, ada: Client) -> None:
    async with connect(rate_limited_server.replace("http", "ws", 1) + "/graphql", subprotocols=["graphql-transport-ws"]) as socket:  # pyright: ignore[reportArgumentType] - a NewType of str

        async def send(**message: Any) -> None:
            await socket.send(orjson.dumps(message).decode())

        await send(type="connection_init", payload={"Authorization": f"Bearer {ada.token}"})
        assert orjson.loads(await socket.recv())["type"] == "connection_ack"
        message_types: list[str] = []
        for number in range(11):
            await send(id=str(number), type="subscribe", payload={"query": TEN})
            message = orjson.loads(await socket.recv())
            message_types.append(message["type"])
            if message["type"] == "next":
                assert orjson.loads(await socket.recv())["type"] == "complete"
            else:
                assert message["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
                assert message["payload"][0]["extensions"]["retryAfter"] >= 1
        assert message_types == ["next"] * 10 + ["error"]
        await send(type="ping")
        assert orjson.loads(await socket.recv())["type"] == "pong"


async def test_one_bucket_is_shared_by_all_processes_and_never_overdrawn(settings: StateSettings) -> None:
    name = uuid4().hex
    async with connect_redis(settings.redis_url) as first_redis, connect_redis(settings.redis_url) as second_redis:
        # On a busy machine a command may take longer than requests wait, and then each process gives out half by itself.
        processes = [TokenBuckets(redis, CircuitBreaker(30.0)) for redis in (first_redis, second_redis)]
        few_at_once = asyncio.Semaphore(10)

        async def take(process: TokenBuckets) -> TakeResult:
            async with few_at_once:
                return await process.take(name, 10, 1_000)

        results = await asyncio.gather(*(take(processes[i % 2]) for i in range(150)))
    assert sum(result.ok for result in results) in {100, 101, 102}
    assert all(result.retry_in > 0 for result in results if not result.ok)


async def test_an_operation_that_costs_more_than_the_bucket_holds_takes_a_full_one(settings: StateSettings) -> None:
    async with connect_redis(settings.redis_url) as redis:
        buckets, name = TokenBuckets(redis, CircuitBreaker()), uuid4().hex
        assert (await buckets.take(name, 5_000, 1_000)).ok
        again = await buckets.take(name, 5_000, 1_000)
    assert not again.ok
    assert 55 < again.retry_in <= 60


async def test_without_redis_each_process_gives_out_half_and_nobody_waits_for_it() -> None:
    async with connect_redis("redis://127.0.0.1:1/0") as redis:
        buckets = TokenBuckets(redis, CircuitBreaker())
        results = [await buckets.take("user", 10, 1_000) for _ in range(60)]
        began = time.perf_counter()
        for _ in range(100):
            await buckets.take("other", 1, 1_000)
        assert time.perf_counter() - began < 10  # a fifth of a second each would be twenty
    assert sum(result.ok for result in results) == 50
    assert {result.limit for result in results} == {500}
    assert all(result.retry_in > 0 for result in results if not result.ok)


async def test_a_redis_that_says_nothing_holds_an_operation_up_for_a_fifth_of_a_second_at_most() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1_024):
            pass
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connect_redis(f"redis://127.0.0.1:{port}/0") as redis:
        buckets = TokenBuckets(redis, CircuitBreaker())
        began = time.perf_counter()
        assert (await buckets.take("user", 10, 1_000)).ok
        first = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(20):
            assert (await buckets.take("user", 1, 1_000)).ok
        rest = time.perf_counter() - began
    assert 0.15 < first < 2
    assert rest < 2  # a fifth of a second each would be four


async def script_calls(redis: Redis) -> int:
    """How many scripts Redis has run for all of its clients."""
    statistics: Any = await redis.info("commandstats")
    return sum(entry["calls"] for name, entry in statistics.items() if name in {"cmdstat_evalsha", "cmdstat_eval"})


@pytest.mark.parametrize(("tier", "query"), [("free", TEN), ("pro", TEN), ("pro", "{ rateLimit { remaining } }")])
async def test_a_request_asks_redis_once_at_most(
    rate_limited_server: str, ada: Client, notifying_database: Database, settings: StateSettings, tier: str, query: str
) -> None:
    async with notifying_database.work(SYSTEM) as work:
        await accounts.set_tier(work, "ada@example.org", UserTier(tier))
    async with connect_redis(settings.redis_url) as redis:
        for number in range(20):
            before = await script_calls(redis)
            # A text that is new pays for its validation first.
            await post_query(rate_limited_server, ada.token, f"{query} #{uuid4()}" if number % 2 else query)
            assert await script_calls(redis) - before <= 1


async def test_what_a_process_lends_spares_redis_and_is_counted(settings: StateSettings) -> None:
    name = uuid4().hex
    async with connect_redis(settings.redis_url) as redis:
        buckets = TokenBuckets(redis, CircuitBreaker())
        points, other = LentPoints(buckets), LentPoints(buckets)
        before = await script_calls(redis)
        began = time.monotonic()
        results = [await points.take(name, 1, 1_000) for _ in range(100)]
        calls = await script_calls(redis) - before
        assert all(result.ok for result in results)
        # One for the first, then one for every 40 that were lent, and one more a second on a slow machine.
        seconds = time.monotonic() - began
        assert calls <= 5 + seconds
        assert 0 <= results[-1].remaining - 900 <= 10 + seconds * 1_000 / 60
        seen_by_other = (await other.take(name, 0, 1_000)).remaining
        assert seen_by_other - results[-1].remaining <= 40


@pytest.mark.parametrize("cost", [1, 7, 30, 45])
async def test_a_burst_over_two_processes_passes_the_bucket_by_five_percent_each_at_most(settings: StateSettings, cost: int) -> None:
    name, rate = uuid4().hex, 1_000
    async with connect_redis(settings.redis_url) as first_redis, connect_redis(settings.redis_url) as second_redis:
        processes = [LentPoints(TokenBuckets(redis, CircuitBreaker())) for redis in (first_redis, second_redis)]
        began = time.monotonic()
        spent = 0
        for start in range(0, 2 * rate // cost, 10):
            results = await asyncio.gather(*(processes[number % 2].take(name, cost, rate) for number in range(start, start + 10)))
            spent += cost * sum(result.ok for result in results)
        refilled = (time.monotonic() - began) * rate / 60
        again = [await process.take(name, cost, rate) for process in processes]
    assert rate - cost <= spent <= rate * 1.1 + refilled
    assert any(not result.ok and result.retry_in > 0 for result in again)


async def test_what_was_lent_is_paid_back_before_anything_else(settings: StateSettings) -> None:
    name, rate = uuid4().hex, 1_000
    async with connect_redis(settings.redis_url) as redis:
        buckets = TokenBuckets(redis, CircuitBreaker())
        points = LentPoints(buckets)
        assert (await points.take(name, 0, rate)).remaining == rate
        for _ in range(40):
            assert (await points.take(name, 1, rate)).ok
        assert (await buckets.take(name, rate - 20, rate)).ok  # by another process
        refused = await points.take(name, 10, rate)
        assert not refused.ok
        assert refused.remaining == 0
        assert refused.retry_in * rate / 60 == pytest.approx(30, abs=3)
        # An amount that fills the bucket is granted once it is full, in spite of what was lent.
        await buckets.take(name, -rate, rate)
        assert (await points.take(name, 2 * rate, rate)).ok


async def test_without_redis_nothing_is_lent() -> None:
    async with connect_redis("redis://127.0.0.1:1/0") as redis:
        points = LentPoints(TokenBuckets(redis, CircuitBreaker()))
        results = [await points.take("user", 10, 1_000) for _ in range(60)]
    assert sum(result.ok for result in results) == 50
    assert {result.limit for result in results} == {500}


async def test_a_process_remembers_so_many_buckets(settings: StateSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lent_points, "MAX_BUCKETS", 3)
    async with connect_redis(settings.redis_url) as redis:
        points = LentPoints(TokenBuckets(redis, CircuitBreaker()))
        for _ in range(5):
            await points.take(uuid4().hex, 1, 1_000)
    assert len(points) == 3
