"""`trellis retention` tells what would be removed, and removes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from server.db_metrics import DatabaseMetrics
from tests.client import Client
from tests.retention.conftest import JUNE, MAY, Past
from tests.server.test_jobs_command import json_lines, trellis, trellis_when_free

SETTINGS = {"retention_job_events": 30.0, "retention_metric_points": 60.0, "retention_login_events": 10.0}
TABLES = [
    "job_events",
    "metric_points",
    "api_requests",
    "api_metrics",
    "login_events",
    "email_messages",
    "notifications",
    "webhook_deliveries",
    "payment_events",
]


@pytest.fixture
def retention(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, days in SETTINGS.items():
        monkeypatch.setenv(f"TRELLIS_{name.upper()}", str(days))


@pytest.mark.timeout(600)  # of three processes, on a machine under load
async def test_a_dry_run_tells_by_table_what_would_go_and_removes_nothing(past: Past, ada: Client, retention: None) -> None:
    gone = await past.add_job("ada", MAY, events=7, points=3)
    partly = await past.add_job("ada", JUNE, events=4, points=2)
    running = await past.add_job("ada", JUNE + timedelta(days=1), "running", events=2)
    (user,) = await past.database.rows(text("SELECT id FROM users WHERE username = 'ada'"))
    async with past.database.engine.begin() as connection:
        for days in (9, 11, 12):
            statement = f"INSERT INTO login_events (user_id, method, succeeded, created_at) VALUES (:user, 'password', true, now() - interval '{days} days')"
            await connection.execute(text(statement), {"user": user.id})
    answers = {answer["table"]: answer for answer in await json_lines("retention", "--dry-run")}
    assert list(answers) == TABLES
    events, points, logins = (answers[name] for name in ("job_events", "metric_points", "login_events"))
    assert (events["setting"], events["days"], events["rows"], events["partitions"]) == (
        "TRELLIS_RETENTION_JOB_EVENTS",
        30.0,
        6 + 3,
        ["job_events_2020_05"],
    )
    assert (points["days"], points["rows"], points["partitions"]) == (60.0, 6 + 4, ["metric_points_2020_05"])
    assert (logins["days"], logins["rows"], logins["partitions"]) == (10.0, 2, [])
    assert datetime.fromisoformat(events["oldestKept"]) == JUNE + timedelta(days=1, seconds=1)
    assert datetime.now(UTC) - datetime.fromisoformat(logins["oldestKept"]) < timedelta(days=10)
    assert answers["email_messages"]["days"] == 90.0
    assert events["sizeBytes"] > 0
    assert [await past.sequences(each) for each in (gone, partly, running)] == [list(range(1, 8)), [1, 2, 3, 4], [1, 2]]
    # Without the option, exactly that goes.
    removed = {answer["table"]: answer for answer in await json_lines("retention")}
    assert [(removed[name]["rows"], removed[name]["partitions"]) for name in ("job_events", "metric_points", "login_events")] == [
        (9, 1),
        (10, 1),
        (2, 0),
    ]
    assert [await past.sequences(each) for each in (gone, partly, running)] == [[7], [4], [1, 2]]
    assert [await past.points(each) for each in (gone, partly, running)] == [0, 0, 8]
    result = await trellis("retention", "--dry-run")
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()[2:] if line.strip()]
    assert [(line[0], line[1], line[3]) for line in lines] == [
        ("job_events", "30", "0"),
        ("metric_points", "60", "0"),
        ("api_requests", "30", "0"),
        ("api_metrics", "396", "0"),
        ("login_events", "10", "0"),
        ("email_messages", "90", "0"),
        ("notifications", "90", "0"),
        ("webhook_deliveries", "30", "0"),
        ("payment_events", "90", "0"),
    ]


@pytest.mark.timeout(600)
@pytest.mark.exhaustive
async def test_what_is_in_use_is_told_and_is_exit_status_1(past: Past, ada: Client, retention: None) -> None:
    await past.add_job("ada", MAY)
    async with past.database.engine.begin() as reader:
        for timeout in ("idle_in_transaction_session_timeout", "transaction_timeout"):
            await reader.execute(text(f"SET LOCAL {timeout} = 0"))
        await reader.execute(text("SELECT count(*) FROM job_events"))
        result = await trellis_when_free("retention")
    assert result.returncode == 1
    assert "job_events_2020_05 was in use, and was not dropped. The next run tries again." in result.stderr
    assert "metric_points" in result.stdout


async def test_metrics_count_what_was_removed(past: Past, ada: Client) -> None:
    await past.add_job("ada", MAY, events=5, points=4)
    await past.apply()

    families = {family.name: family for family in await DatabaseMetrics().metrics(past.database)}
    for name, events, points in (("trellis_retention_rows", 4.0, 8.0), ("trellis_retention_partitions", 1.0, 1.0)):
        values = {sample.labels["table"]: sample.value for sample in families[name].samples}
        assert values == dict.fromkeys(TABLES, 0.0) | {"job_events": events, "metric_points": points}
