"""Send what is due. An endpoint is served by one process at a time, for a while; each has its own turn, so a slow one delays no other.

Deliveries of one subject are sent one after the other, in the order of their events: while one waits for its next try, later ones wait for it.
Nothing is written before the answer, so what a killed process had sent is sent again, under the same id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import structlog
from sqlalchemy import Integer, Row, Uuid, bindparam, case, column, func, select, text, update

from db.core.outbound import parse_networks
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import NoSecretKey
from db.services import events
from db.services.webhooks import signing
from db.services.webhooks.bodies import body_of
from db.services.webhooks.endpoints import abandon, secrets_of
from db.settings import StateSettings
from db.stores.outbound import Answer, FetchFailed, post
from db.tables import WebhookDelivery, WebhookEndpoint
from db.tables.notifications import EventType
from db.tables.webhooks import OPEN_DELIVERIES, DeliveryStatus

log: structlog.stdlib.BoundLogger = structlog.get_logger()

DELAYS = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)  # seconds between the tries
DISABLED_AFTER = timedelta(days=5)  # of failures alone
TIMEOUT = 5.0  # seconds for an answer, from the resolution of the name on
MAX_RESPONSE_BYTES = 64 * 1024  # that are read
KEPT_RESPONSE = 4_096  # bytes
TURN = 8.0  # seconds after which an endpoint lets others pass
CLAIM = timedelta(seconds=15)  # longer than a turn and its last requests
AT_ONCE, PARALLEL = 40, 4  # deliveries that are read at once, and subjects that are sent at once, of an endpoint

_CLAIM = (
    text("""
    UPDATE webhook_endpoints SET claimed_until = now() + :claim WHERE id IN (
        SELECT w.id FROM webhook_endpoints w WHERE w.disabled_at IS NULL AND w.due_at <= now()
        AND (w.claimed_until IS NULL OR w.claimed_until < now()) AND EXISTS (
            SELECT FROM users u WHERE u.id = w.owner_id AND u.deleted_at IS NULL AND u.disabled_at IS NULL)
        ORDER BY w.due_at LIMIT :most FOR UPDATE SKIP LOCKED
    ) RETURNING id
    """)
    .bindparams(bindparam("claim", CLAIM), bindparam("most", type_=Integer))
    .columns(column("id", Uuid))
)
_EARLIER = WebhookDelivery.__table__.alias("earlier")


def _due_deliveries(endpoint_id: UUID) -> Any:
    is_open = WebhookDelivery.status.in_(OPEN_DELIVERIES)
    waits = (
        select(_EARLIER.c.id)
        .where(
            _EARLIER.c.endpoint_id == WebhookDelivery.endpoint_id,
            _EARLIER.c.subject_id == WebhookDelivery.subject_id,
            _EARLIER.c.event_id < WebhookDelivery.event_id,
            _EARLIER.c.status.in_(OPEN_DELIVERIES),
            _EARLIER.c.run_after > func.now(),
        )
        .exists()
    )
    previous = case((WebhookEndpoint.previous_secret_until > func.now(), WebhookEndpoint.previous_secret))
    endpoint = (
        WebhookEndpoint.url,
        WebhookEndpoint.provider,
        WebhookEndpoint.owner_id,
        WebhookEndpoint.secret,
        previous.label("previous_secret"),
    )
    statement = select(WebhookDelivery.__table__, *endpoint).join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
    is_due = (WebhookDelivery.endpoint_id == endpoint_id, is_open, WebhookDelivery.run_after <= func.now(), ~waits)
    return statement.where(*is_due, WebhookEndpoint.disabled_at.is_(None)).order_by(WebhookDelivery.event_id).limit(AT_ONCE)


_NEXT_DUE = text("""
    UPDATE webhook_endpoints SET claimed_until = NULL, due_at = (
        SELECT CASE WHEN count(*) > 0 THEN greatest(now(), min(ready)) END FROM (
            SELECT max(run_after) OVER (PARTITION BY coalesce(subject_id, id::text) ORDER BY event_id ROWS UNBOUNDED PRECEDING) AS ready
            FROM webhook_deliveries WHERE endpoint_id = :endpoint_id AND status IN ('pending', 'failed')) AS open)
    WHERE id = :endpoint_id
""")


async def claim(database: Database, most: int) -> Sequence[UUID]:
    """Claim endpoints that are due, those that have waited longest first; return their ids."""
    async with database.work(SYSTEM) as work:
        return [row.id for row in await work.all(_CLAIM, {"most": most})]


async def serve(database: Database, settings: StateSettings, endpoint_id: UUID) -> int:
    """Send what is due of a claimed endpoint, for one turn at most; return how much was delivered. Then others may claim it."""
    ends_at, delivered = time.monotonic() + TURN, 0
    try:
        while time.monotonic() < ends_at:
            subjects: dict[str, list[Row[Any]]] = {}
            for row in await database.rows(_due_deliveries(endpoint_id)):
                subjects.setdefault(row.subject_id or str(row.id), []).append(row)
            if not subjects:
                break
            limit = asyncio.Semaphore(PARALLEL)
            sent = await asyncio.gather(*(_send_in_order(database, settings, rows, limit, ends_at) for rows in subjects.values()))
            delivered += sum(sent)
    except NoSecretKey as error:
        log.warning("webhooks_not_sent", error=error.message)
    async with database.work(SYSTEM) as work:
        # Locked first: the update then sees every delivery that was added before.
        await work.run(select(WebhookEndpoint.id).where(WebhookEndpoint.id == endpoint_id).with_for_update())
        await work.run(_NEXT_DUE, {"endpoint_id": endpoint_id})
    return delivered


async def _send_in_order(
    database: Database, settings: StateSettings, rows: Sequence[Row[Any]], limit: asyncio.Semaphore, ends_at: float
) -> int:
    """Send deliveries of one subject until one fails, or the turn ends."""
    delivered = 0
    async with limit:
        for row in rows:
            if time.monotonic() > ends_at or not await _send(database, settings, row):
                break
            delivered += 1
    return delivered


async def _send(database: Database, settings: StateSettings, row: Row[Any]) -> bool:
    values: dict[str, Any] = {"http_status": None, "response_body": None, "error": None}
    started = time.monotonic()
    try:
        answer = await _post(settings, row)
    except FetchFailed as failure:
        values["error"] = str(failure)
    else:
        kept = answer.content[:KEPT_RESPONSE].decode("utf-8", "ignore").replace("\0", "")
        values |= {"http_status": answer.status, "response_body": kept}
        if not 200 <= answer.status < 300:
            values["error"] = f"The receiver answered with the status {answer.status}; 200 to 299 is what counts as delivered."
    values["duration"] = time.monotonic() - started
    await _record(database, row, values)
    return values["error"] is None


async def _post(settings: StateSettings, row: Row[Any]) -> Answer:
    secrets = secrets_of(settings, row)
    if not secrets:
        raise FetchFailed("NO_SECRET", "The secret cannot be read, since the key of this Trellis was changed. Rotate the secret.")
    content = orjson.dumps(body_of(row))
    headers = {"content-type": "application/json", **signing.headers(secrets, row.event_id, int(time.time()), content)}
    allowed = parse_networks(settings.webhook_allowed_networks)
    return await post(row.url, content, headers, allowed=allowed, timeout=TIMEOUT, max_bytes=MAX_RESPONSE_BYTES)


async def _record(database: Database, row: Row[Any], values: dict[str, Any]) -> None:
    """Record the outcome of a try, unless the delivery was changed meanwhile."""
    attempts: int = row.attempts + 1
    failed = values["error"] is not None
    if not failed:
        values |= {"status": DeliveryStatus.DELIVERED, "delivered_at": func.clock_timestamp()}
    elif attempts > len(DELAYS):
        values["status"] = DeliveryStatus.ABANDONED
    else:
        values |= {"status": DeliveryStatus.FAILED, "run_after": func.clock_timestamp() + timedelta(seconds=DELAYS[attempts - 1])}
    is_same = (WebhookDelivery.id == row.id, WebhookDelivery.attempts == row.attempts, WebhookDelivery.status.in_(OPEN_DELIVERIES))
    async with database.work(SYSTEM) as work:
        if not await work.run(update(WebhookDelivery).where(*is_same).values(attempts=attempts, **values)):
            return
        outcome: dict[str, Any] = {
            "last_used_at": func.clock_timestamp(),
            "consecutive_failures": 0,
            "failing_since": None,
            "last_error": None,
        }
        if failed:
            outcome |= {
                "consecutive_failures": WebhookEndpoint.consecutive_failures + 1,
                "failing_since": func.coalesce(WebhookEndpoint.failing_since, func.clock_timestamp()),
                "last_error": values["error"],
            }
        is_this = WebhookEndpoint.id == row.endpoint_id
        has_failed_long = (WebhookEndpoint.failing_since < func.clock_timestamp() - DISABLED_AFTER).label("has_failed_long")
        returned = (WebhookEndpoint.owner_id, WebhookEndpoint.name, has_failed_long)
        endpoint = await work.first(update(WebhookEndpoint).where(is_this).values(outcome).returning(*returned))
        if endpoint is None or not endpoint.has_failed_long:
            return
        await work.run(update(WebhookEndpoint).where(is_this).values(disabled_at=func.clock_timestamp(), due_at=None))
        await abandon(work, row.endpoint_id)
        subject_id = f"webhook_{row.endpoint_id.hex}"
        await events.add(work, EventType.WEBHOOK_DISABLED, endpoint.owner_id, subject_id=subject_id, name=endpoint.name)
