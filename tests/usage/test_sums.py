"""Sums by hour and day are exact, whoever writes them at once, and percentiles are within one percent."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import select

from db.core.sketches import RELATIVE_ERROR
from db.core.work import Database
from db.queries.usage import MAX_OPERATIONS
from db.services import usage
from db.services.usage import MAX_NAMES, OTHER_NAMES
from db.settings import StateSettings
from db.tables import ApiMetric, ApiRequest, User
from tests.client import Client, GraphQLErrors
from tests.usage.conftest import USAGE, batch, counts_of, record, usage_of

HOUR = 3600
DAY = 24 * HOUR
MONDAY = datetime(2026, 6, 1, tzinfo=UTC).timestamp()


@pytest.fixture
async def ada_id(ada: Client, database: Database) -> UUID:
    return (await database.rows(select(User.id).where(User.username == "ada")))[0].id


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def test_percentiles_are_within_one_percent(ada: Client, ada_id: UUID, database: Database) -> None:
    durations = np.random.default_rng(7).lognormal(-4.0, 1.5, 6_000)
    at = time.time()
    for part in np.array_split(durations, 3):
        await usage.write(database, batch(record(ada_id, float(d), ended_at=at) for d in part), is_retry=False)
    (period,) = [period for period in await usage_of(ada) if period["requests"]]
    assert period["requests"] == 6_000
    assert period["meanDuration"] == pytest.approx(durations.mean())
    for name, percent in (("p50", 50), ("p95", 95), ("p99", 99)):
        exact = np.percentile(durations, percent, method="lower")
        assert period[name] == pytest.approx(exact, rel=RELATIVE_ERROR * 1.0001)
    assert period["operations"][0]["p95"] == period["p95"]


async def test_writers_that_add_to_the_same_hours_at_once_lose_nothing(
    ada: Client, ada_id: UUID, settings: StateSettings, database: Database
) -> None:
    at = time.time()

    def mixed(order: int) -> list[usage.RequestRecord]:
        names = ["A", "B", "C", None][::order]
        return [
            record(ada_id, 0.001 * (n + 1), operation_name=names[n % 4], ended_at=at, error_code="TIMEOUT" if n % 5 == 0 else None)
            for n in range(40)
        ]

    async with Database.open(settings) as other:
        writers = [
            usage.write(opened, batch(mixed(order)), is_retry=False) for _ in range(5) for opened, order in ((database, 1), (other, -1))
        ]
        await asyncio.gather(*writers)
    counts = await counts_of(ada)
    assert (counts.requests, counts.errors, counts.cost) == (400, 80, 800)
    assert counts.operations == dict.fromkeys(("A", "B", "C", None), (100, 20))
    rows = await database.rows(select(ApiMetric.operation_name, ApiMetric.requests, ApiMetric.sketch))
    assert {row.operation_name: row.requests for row in rows} == dict.fromkeys(("A", "B", "C", None), 100)
    assert [sum(row.sketch.values()) for row in rows] == [100] * 4
    assert len(await database.rows(select(ApiRequest.id))) == 400


async def test_all_periods_are_answered_and_days_are_the_sum_of_their_hours(ada: Client, ada_id: UUID, database: Database) -> None:
    ends = [MONDAY + offset for offset in (0, 10, HOUR - 1, 5 * HOUR, DAY - 1, DAY, 3 * DAY + 5)]
    records = [record(ada_id, 0.1 * (number + 1), ended_at=at) for number, at in enumerate(ends)]
    await usage.write(database, batch(records), is_retry=False)
    window = {"since": iso(MONDAY + 60), "until": iso(MONDAY + 4 * DAY)}
    days = await usage_of(ada, granularity="DAY", **window)
    hours = await usage_of(ada, granularity="HOUR", **window)
    assert [day["periodStart"] for day in days] == [iso(MONDAY + number * DAY) for number in range(4)]
    assert [day["requests"] for day in days] == [5, 1, 0, 1]
    assert [hour["periodStart"] for hour in hours] == [iso(MONDAY + number * HOUR) for number in range(96)]
    assert {number: hour["requests"] for number, hour in enumerate(hours) if hour["requests"]} == {0: 3, 5: 1, 23: 1, 24: 1, 72: 1}
    first = days[0]
    assert first["requestsPerSecond"] == pytest.approx(5 / DAY)
    assert first["meanDuration"] == pytest.approx(0.3)
    assert first["p50"] == pytest.approx(0.3, rel=RELATIVE_ERROR * 1.0001)
    empty = dict.fromkeys(("meanDuration", "p50", "p95", "p99")) | dict.fromkeys(("requests", "errors", "cost"), 0)
    rates = {"errorRate": 0.0, "requestsPerSecond": 0.0, "operations": []}
    assert days[2] == {"periodStart": iso(MONDAY + 2 * DAY), **empty, **rates}


async def test_a_key_and_a_name_narrow_what_is_summed(ada: Client, ada_id: UUID, database: Database) -> None:
    key, other = uuid4(), uuid4()
    records = [
        *(record(ada_id, api_key_id=key, operation_name="A") for _ in range(3)),
        *(record(ada_id, api_key_id=other, operation_name="A") for _ in range(4)),
        *(record(ada_id, operation_name="B") for _ in range(5)),
    ]
    await usage.write(database, batch(records), is_retry=False)
    assert (await counts_of(ada)).operations == {"A": (7, 0), "B": (5, 0)}
    assert (await counts_of(ada, key=f"apikey_{key.hex}")).operations == {"A": (3, 0)}
    assert (await counts_of(ada, name="A")).requests == 7
    assert (await counts_of(ada, name="B", key=f"apikey_{key.hex}")).requests == 0
    for nobodys in (f"user_{key.hex}", "nothing", f"apikey_{uuid4().hex}"):
        assert (await counts_of(ada, key=nobodys)).requests == 0
    for nothing in ("", "\0", "a b"):
        assert (await counts_of(ada, name=nothing)).requests == 0


async def test_nobody_reads_the_usage_of_others(
    ada: Client, bob: Client, reader: Client, admin: Client, ada_id: UUID, database: Database
) -> None:
    key = uuid4()
    await usage.write(database, batch([record(ada_id, api_key_id=key), record(None), record(None)]), is_retry=False)
    for stranger in (bob, reader):
        assert (await counts_of(stranger)).requests == 0
        assert (await counts_of(stranger, key=f"apikey_{key.hex}")).requests == 0
    assert (await counts_of(ada)).requests == 1
    assert (await counts_of(admin)).requests == 3


@pytest.mark.parametrize(
    ("since", "until", "granularity", "message"),
    [
        ("2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z", "HOUR", "`since` must be before `until`."),
        (
            "2026-01-01T00:00:00Z",
            "2026-02-11T16:00:01Z",
            "HOUR",
            "there are 1,001 periods; at most 1,000 are returned: give a later `since`, or the granularity DAY.",
        ),
        (
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "DAY",
            "there are 3,652,059 periods; at most 1,000 are returned: give a later `since`.",
        ),
    ],
)
async def test_what_cannot_be_answered_says_what_can(ada: Client, since: str, until: str, granularity: str, message: str) -> None:
    with pytest.raises(GraphQLErrors, match=r"periods|before") as raised:
        await ada.one(USAGE, since=since, until=until, granularity=granularity)
    assert raised.value.codes == ["BAD_USER_INPUT"]
    assert message in str(raised.value)


async def test_a_thousand_periods_and_the_last_day_of_all_are_answered(ada: Client) -> None:
    assert len(await usage_of(ada, since="2026-01-01T00:00:00Z", until="2026-02-11T16:00:00Z", granularity="HOUR")) == 1_000
    for granularity in ("DAY", "HOUR"):
        assert len(await usage_of(ada, since="9999-12-31T23:30:00Z", until="9999-12-31T23:59:59Z", granularity=granularity)) == 1


async def test_names_that_a_client_makes_up_are_summed_together(ada: Client, ada_id: UUID, database: Database) -> None:
    at = time.time()
    records = [record(ada_id, operation_name=f"Name{number:03}", ended_at=at) for number in (*range(MAX_NAMES + 30), 0)]
    await usage.write(database, batch(records), is_retry=False)
    rows = await database.rows(select(ApiMetric.operation_name, ApiMetric.requests).order_by(ApiMetric.requests.desc()).limit(2))
    assert [tuple(row) for row in rows] == [(OTHER_NAMES, 30), ("Name000", 2)]
    (period,) = [period for period in await usage_of(ada) if period["requests"]]
    assert period["requests"] == MAX_NAMES + 31
    assert [operation["operationName"] for operation in period["operations"]] == [
        OTHER_NAMES,
        *(f"Name{n:03}" for n in range(MAX_OPERATIONS - 1)),
    ]
