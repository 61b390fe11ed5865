"""Move events from the outbox to the notifications of those whom they concern, to their mails and digests, and to the webhooks of their accounts.

One process at a time does it, in the order of the events.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ARRAY, BigInteger, Interval, Text, Uuid, bindparam, column, func, literal, select, text

from db.core.viewer import SYSTEM
from db.core.work import Database, Notice
from db.queries.outbox import HAS_EVENTS
from db.services.notifications.preferences import ALWAYS, MAILED_BY_DEFAULT, OF_ACCOUNTS, ON_BY_DEFAULT
from db.settings import state_settings
from db.tables.notifications import EventType

EVENTS_AT_ONCE = 500
_TO_ADMINS = frozenset(
    {EventType.ALIAS_CHANGED, EventType.CREDITS_LOW, EventType.CREDITS_PURCHASED, EventType.QUOTA_NEAR, EventType.WEBHOOK_DISABLED}
)
"""Of a team, its ADMINs are told of these, besides who made the subject; of other events they are where nobody is known to have made it."""

_TYPES = {
    name: sorted(event_type.value for event_type in types)
    for name, types in {
        "to_admins": _TO_ADMINS,
        "always": ALWAYS,
        "by_default": ON_BY_DEFAULT,
        "of_accounts": OF_ACCOUNTS,
        "mailed_by_default": MAILED_BY_DEFAULT,
    }.items()
}
"""Parameters of the statement."""

_HAS_EVENTS = select(HAS_EVENTS.label("has_events"))
_LOCK = select(func.pg_try_advisory_xact_lock(func.hashtextextended(literal("outbox", Text), 0)))
_DISPATCH = (
    text("""
    WITH batch AS MATERIALIZED (
        DELETE FROM outbox_events WHERE id IN (SELECT id FROM outbox_events ORDER BY id LIMIT :most) RETURNING *
    ), concerned AS (
        SELECT id, recipient_id AS user_id FROM batch WHERE recipient_id IS NOT NULL
        UNION SELECT e.id, e.account_id FROM batch e WHERE e.recipient_id IS NULL
        UNION SELECT e.id, m.user_id FROM batch e JOIN memberships m ON m.team_id = e.account_id
        WHERE e.recipient_id IS NULL AND (m.user_id = e.maker_id OR m.role = 'admin' AND (e.maker_id IS NULL OR e.type = ANY(:to_admins)))
    ), reached AS MATERIALIZED (
        SELECT e.*, c.user_id, u.email, e.type = ANY(:always) OR coalesce(p.in_app, e.type = ANY(:by_default)) AS in_app,
            CASE WHEN e.type = ANY(:of_accounts) THEN 'off'
            ELSE coalesce(p.email_frequency, CASE WHEN e.type = ANY(:mailed_by_default) THEN 'instant' ELSE 'off' END) END AS frequency
        FROM batch e JOIN concerned c ON c.id = e.id
        JOIN users u ON u.id = c.user_id AND u.kind = 'person' AND u.deleted_at IS NULL
        LEFT JOIN notification_preferences p ON p.user_id = c.user_id AND p.event_type = e.type
    ), told AS MATERIALIZED (
        SELECT r.*, row_number() OVER (PARTITION BY r.user_id ORDER BY r.id DESC) - 1 AS later FROM reached r WHERE r.in_app
    ), numbered AS (
        INSERT INTO inboxes (user_id, last_sequence) SELECT user_id, count(*) FROM told GROUP BY user_id ORDER BY user_id
        ON CONFLICT (user_id) DO UPDATE SET last_sequence = inboxes.last_sequence + excluded.last_sequence
        RETURNING user_id, last_sequence
    ), added AS (
        INSERT INTO notifications (recipient_id, account_id, sequence, type, subject_id, name, data, created_at)
        SELECT t.user_id, t.account_id, n.last_sequence - t.later, t.type, t.subject_id, t.name, t.data, t.created_at
        FROM told t JOIN numbered n ON n.user_id = t.user_id
    ), mailed AS (
        INSERT INTO email_messages (user_id, account_id, address, template, is_notification, event_id, event_type, subject_id, name, data)
        SELECT user_id, account_id, email, 'event', true, id, type, subject_id, name, data FROM reached WHERE frequency = 'instant' ORDER BY id
    ), digested AS (
        INSERT INTO digest_items (user_id, account_id, event_id, event_type, subject_id, name, data, created_at, frequency, due_at)
        SELECT user_id, account_id, id, type, subject_id, name, data, created_at, frequency, CASE frequency
            WHEN 'daily' THEN date_trunc('day', now() - :digest_at) + interval '1 day'
            ELSE date_trunc('week', now() - :digest_at) + interval '7 days' END + :digest_at
        FROM reached WHERE frequency IN ('daily', 'weekly')
    ), sent AS (
        INSERT INTO webhook_deliveries (endpoint_id, event_id, event_type, subject_id, name, data, created_at)
        SELECT w.id, e.id, e.type, e.subject_id, e.name, e.data, e.created_at
        FROM batch e JOIN webhook_endpoints w ON w.owner_id = e.account_id AND w.disabled_at IS NULL AND e.type = ANY(w.events)
        LEFT JOIN notification_preferences p ON p.user_id = w.owner_id AND p.event_type = e.type
        WHERE coalesce(p.webhook, true) ORDER BY e.id RETURNING endpoint_id
    ), due AS (
        UPDATE webhook_endpoints SET due_at = least(due_at, now()) WHERE id IN (SELECT endpoint_id FROM sent)
    )
    SELECT (SELECT count(*) FROM batch) AS events, n.user_id, n.last_sequence FROM (SELECT) AS one LEFT JOIN numbered n ON true
    """)
    .bindparams(*(bindparam(name, type_=ARRAY(Text)) for name in _TYPES), bindparam("digest_at", type_=Interval), most=EVENTS_AT_ONCE)
    .columns(column("events", BigInteger), column("user_id", Uuid), column("last_sequence", BigInteger))
)


async def dispatch(database: Database) -> int:
    """Dispatch the events of the outbox; return how many. One statement if there is none; none is dispatched while another process does it.

    An event leaves the outbox in the transaction that adds its notifications and its mails, so each is told once, whenever a process is killed.
    """
    (outbox,) = await database.rows(_HAS_EVENTS)
    if not outbox.has_events:
        return 0
    parameters = _TYPES | {"digest_at": timedelta(hours=state_settings().digest_hour)}
    dispatched = 0
    while True:
        async with database.work(SYSTEM) as work:
            if not await work.scalar(_LOCK):
                return dispatched
            rows = await work.all(_DISPATCH, parameters)
            for row in rows:
                if row.user_id is not None:
                    work.notify(Notice(row.user_id, row.last_sequence))
        dispatched += rows[0].events
        if rows[0].events < EVENTS_AT_ONCE:
            return dispatched
