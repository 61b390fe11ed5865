"""Events are told once, mailed once or marked as uncertain, and sent at least once while workers, APIs and Redis are killed and receivers fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from tests.accounts.mailbox import mail_server
from tests.exhaustive import exhaustive
from tests.faults.cluster import Cluster, eventually
from tests.faults.fault_injection import FaultInjector
from tests.faults.workload import Workload
from tests.notifications.test_mails import PREFER
from tests.webhooks.receiving import CREATE, Received, receiving

_ADD = """
INSERT INTO outbox_events (type, account_id, subject_id, name)
SELECT CASE WHEN i % $4 = 0 THEN 'credits_low' ELSE 'quota_near' END, $1::uuid, 'user_' || i % 100, 'event ' || i FROM generate_series($2::int, $3::int) i
"""
_DIED = "UPDATE email_messages SET run_after = now() - interval '6 minutes' WHERE status = 'sending'"  # so that nobody waits for minutes
_MAILS = "SELECT replace(id::text, '-', '') AS id, status, name FROM email_messages WHERE name LIKE 'event %'"
AT_ONCE = 50  # events that are added in one transaction
FIRST_FAILS = 25  # of each so many events, the first try of one fails


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(("events", "mailed", "faults"), [(120, 4, 3), exhaustive(10_000, 1, 20)])
async def test_each_event_is_told_and_mailed_once_and_sent_in_order_at_least_once(
    events: int, mailed: int, faults: int, cluster: Cluster, workload: Workload, fault_injector: FaultInjector
) -> None:
    viewer = workload.viewers[-1]
    account = UUID((await viewer.execute_with_retries("{ viewer { id } }"))["id"].removeprefix("user_"))
    failed: set[str] = set()

    def answer(request: Received) -> tuple[int, bytes]:
        Webhook(created["secret"]).verify(request.content, dict(request.headers))
        name = request.body["data"]["name"]
        if int(name.removeprefix("event ")) % FIRST_FAILS == 0 and name not in failed:
            failed.add(name)
            return 503, b"not now"
        return 200, b""

    unwanted = {"eventType": "QUOTA_NEAR", "email": False}
    assert (await viewer.execute_with_retries(PREFER, input=unwanted))["preference"]["email"] is False
    async with receiving() as receiver, mail_server(cluster.mail_port) as mailbox:
        new = {"name": "chaos", "url": receiver.url(), "events": ["QUOTA_NEAR", "CREDITS_LOW"]}
        created = await viewer.execute_with_retries(CREATE, input=new)
        receiver.answer = answer

        async def add() -> None:
            for first in range(0, events, AT_ONCE):
                await cluster.rows(_ADD, account, first, min(first + AT_ONCE, events) - 1, mailed)
                await asyncio.sleep(0.02)

        adding = asyncio.create_task(add())
        struck = 0
        for turn in range(faults):
            strike = (fault_injector.kill_worker, fault_injector.wipe_redis, fault_injector.kill_api)[turn % 3]
            struck += await strike()
            await asyncio.sleep(1.0)
        await adding
        assert struck > 0

        async def is_delivered() -> bool:
            (row,) = await cluster.rows(
                "SELECT (SELECT count(*) FROM webhook_deliveries WHERE status = 'delivered' AND name LIKE 'event %') AS delivered,"
                " (SELECT count(*) FROM outbox_events WHERE name LIKE 'event %') AS waiting"
            )
            return (row["delivered"], row["waiting"]) == (events, 0)

        await eventually(is_delivered, 1_200.0, "the delivery of all events", interval=0.5)

        async def is_mailed() -> bool:
            states = {row["status"] for row in await cluster.rows(_MAILS)}
            if states <= {"sent", "uncertain", "sending"}:
                await cluster.rows(_DIED)
            return states <= {"sent", "uncertain"}

        await eventually(is_mailed, 1_200.0, "the outcome of all mails", interval=2.0)
    arrived = Counter(mail["message-id"].strip("<>").partition("@")[0] for mail in mailbox.mails if "event " in mail["subject"])
    mails = await cluster.rows(_MAILS)
    assert sorted(row["name"] for row in mails) == sorted(f"event {number}" for number in range(0, events, mailed)), "each has one mail"
    assert all(arrived[row["id"]] == 1 for row in mails if row["status"] == "sent"), "each arrived once"
    assert all(arrived[row["id"]] <= 1 for row in mails), "or perhaps, and is marked as uncertain"
    assert set(arrived) <= {row["id"] for row in mails}
    told = await cluster.rows(
        "SELECT name, sequence FROM notifications WHERE recipient_id = $1 AND name LIKE 'event %' ORDER BY sequence",
        account,
    )
    assert sorted(row["name"] for row in told) == sorted(f"event {number}" for number in range(events)), "each is told once"
    (inbox,) = await cluster.rows(
        "SELECT last_sequence, (SELECT count(*) FROM notifications WHERE recipient_id = $1) AS told FROM inboxes WHERE user_id = $1",
        account,
    )
    assert inbox["last_sequence"] == inbox["told"], "they are numbered without a gap"
    messages: dict[str, str] = {}
    subjects: dict[str, list[str]] = {}
    for request in receiver.received:
        name, subject = request.body["data"]["name"], request.body["data"]["id"]
        if messages.setdefault(request.headers["webhook-id"], name) == name and name not in subjects.setdefault(subject, []):
            subjects[subject].append(name)
    assert sorted(messages.values()) == sorted(f"event {number}" for number in range(events)), "an id is of one event"
    for names in subjects.values():
        numbers = [int(name.removeprefix("event ")) for name in names]
        assert numbers == sorted(numbers), "what is sent first of a subject happened first"
    assert len(failed) == -(-events // FIRST_FAILS), "and what had failed was sent again"
