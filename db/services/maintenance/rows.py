"""Maintenance tasks on tables: partitions, and removal of old rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Delete, Table, delete, exists, func, select, table, text

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.queries.retention import DELIVERIES, LOGIN_EVENTS, MAILS, NOTIFICATIONS, PAYMENT_EVENTS, RetainedTable, kept_since
from db.services import idempotency
from db.services.jobs import retire_silent_workers
from db.services.maintenance.batches import in_batches
from db.services.maintenance.context import MaintenanceContext, MaintenanceTaskFailed
from db.services.maintenance.partitions import add_to_totals
from db.tables import (
    AccountToken,
    EmailMessage,
    IdempotencyKey,
    Invitation,
    Job,
    KnownDevice,
    LoginChallenge,
    LoginEvent,
    Notification,
    OAuthFlow,
    PaymentEvent,
    Registration,
    StagedPoint,
    UserSession,
    Worker,
)
from db.tables.passkeys import PasskeyChallenge
from db.tables.webhooks import WebhookDelivery

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PARTITIONED = ("job_events", "metric_points", "audit_events", "api_requests")
PARTITIONS_AHEAD = 3
BATCH_SIZE = 5_000
PURGE_BATCH_SIZE = (
    1_000  # of rows whose triggers count and check other tables; those on the owner's row cost more than twice as much for twice as many
)
WORKER_RETENTION = "interval '30 days'"
STAGED_POINT_RETENTION = "interval '1 hour'"  # far longer than any transaction that moves staged points


async def make_partitions(context: MaintenanceContext) -> int:
    """Create partitions for this month and the next three; return how many. Fails if a default partition has rows, which block creating them."""
    full = [parent for parent in PARTITIONED if await _rows_in_default(context.database, parent)]
    if full:
        log.warning("default_partitions_not_empty", tables=full)
        raise MaintenanceTaskFailed(
            f"{', '.join(f'{parent}_default' for parent in full)} holds rows, which should have had a partition of their own. In one "
            "transaction, move them to a temporary table, run `SELECT trellis_make_partitions(3)`, and insert them again."
        )
    partition_count = select(func.count()).select_from(text("pg_inherits"))
    async with context.database.work(SYSTEM) as work:
        before = await work.scalar(partition_count)
        await work.scalar(select(func.trellis_make_partitions(PARTITIONS_AHEAD)))
        return await work.scalar(partition_count) - before


async def _rows_in_default(database: Database, parent: str) -> bool:
    (row,) = await database.rows(select(exists().select_from(table(f"{parent}_default")).label("has_rows")))
    return row.has_rows


async def retire_workers(context: MaintenanceContext) -> int:
    """Mark workers without a heartbeat as stopped; delete those stopped 30 days ago unless a job refers to them."""
    async with context.database.work(SYSTEM) as work:
        retired = await retire_silent_workers(work, context.settings.worker_heartbeat_timeout)
    has_job = exists().where(Job.worker_id == Worker.id)
    return retired + await delete_in_batches(context.database, Worker, (Worker.stopped_at < func.now() - text(WORKER_RETENTION)) & ~has_job)


async def forget_keys(context: MaintenanceContext) -> int:
    """Delete idempotency keys older than 24 hours."""
    return await delete_in_batches(context.database, IdempotencyKey, IdempotencyKey.created_at < func.now() - text(idempotency.RETENTION))


async def forget_staged_points(context: MaintenanceContext) -> int:
    """Delete points that an attempt staged and did not move, because it died in between."""
    return await delete_in_batches(context.database, StagedPoint, StagedPoint.staged_at < func.now() - text(STAGED_POINT_RETENTION))


async def forget_sign_ins(context: MaintenanceContext) -> int:
    """Delete what the retention is over for: expired sessions and invitations, sign-ins, mails with their tokens, and devices not seen since.

    Registrations that were not verified, with their mails, challenges, and sign-ins that did not come back are deleted once they expire.
    """
    over_before = func.now() - timedelta(seconds=context.settings.sign_in_retention)
    conditions = (
        (UserSession, UserSession.expires_at < over_before),
        (AccountToken, AccountToken.created_at < over_before),
        (Invitation, Invitation.expires_at < over_before),
        (Registration, Registration.expires_at < func.now()),
        (KnownDevice, KnownDevice.last_seen_at < over_before),
        (LoginChallenge, LoginChallenge.expires_at < func.now()),
        (OAuthFlow, OAuthFlow.expires_at < func.now()),
        (PasskeyChallenge, PasskeyChallenge.expires_at < func.now()),
    )
    forgotten = [await forget(context, retained, model) for retained, model in ((LOGIN_EVENTS, LoginEvent), (MAILS, EmailMessage))]
    return sum([*forgotten, *[await delete_in_batches(context.database, model, condition) for model, condition in conditions]])


async def forget_notifications(context: MaintenanceContext) -> int:
    """Delete the notifications, deliveries and events of payments that the retention is over for, and return how many.

    A delivery is tried for less than a day and a half; the payment provider repeats an event by itself for three days, and for 30 if it is asked to.
    """
    kept = ((NOTIFICATIONS, Notification), (DELIVERIES, WebhookDelivery), (PAYMENT_EVENTS, PaymentEvent))
    return sum([await forget(context, retained, model) for retained, model in kept])


async def forget(context: MaintenanceContext, retained: RetainedTable, model: Any) -> int:
    """Delete the rows of a table that are past its retention; return how many."""
    since = await kept_since(context.database, retained, context.settings)
    if since is None:
        return 0
    deleted = await delete_in_batches(context.database, model, model.__table__.c[retained.time] < since)
    if deleted:
        async with context.database.work(SYSTEM) as work:
            await add_to_totals(work, retained.name, deleted)
    return deleted


async def delete_in_batches(database: Database, model: Any, condition: ColumnElement[bool], size: int = BATCH_SIZE) -> int:
    """Delete in batches, one transaction each; locked rows are left for the next run."""
    target: Table = model.__table__
    keys = list(target.primary_key.columns)

    def deletion(limit: int) -> Delete:
        batch = select(*keys).where(condition).limit(limit).with_for_update(skip_locked=True).cte("batch")
        return delete(model).where(*(key == batch.c[key.name] for key in keys))

    return await in_batches(database, size, deletion)
