"""Make the digests that are due: a mail for each person and frequency, of all events that wait for it."""

from __future__ import annotations

from sqlalchemy import Integer, Text, bindparam, func, literal, select, text

from db.core.viewer import SYSTEM
from db.core.work import Database

AT_ONCE = 200  # digests that are made in one transaction

_IS_DUE = "message_id IS NULL AND due_at <= now()"
_HAS_DUE = text(f"SELECT EXISTS (SELECT FROM digest_items WHERE {_IS_DUE}) AS is_due")  # noqa: S608 - our own words
_LOCK = select(func.pg_advisory_xact_lock(func.hashtextextended(literal("digests", Text), 0)))
_MAKE = text(f"""
    WITH due AS MATERIALIZED (
        SELECT user_id, frequency FROM digest_items WHERE {_IS_DUE} GROUP BY user_id, frequency ORDER BY user_id, frequency LIMIT :most
    ), made AS (
        INSERT INTO email_messages (user_id, account_id, address, template, is_notification)
        SELECT d.user_id, d.user_id, u.email, d.frequency || '_digest', true FROM due d JOIN users u ON u.id = d.user_id
        RETURNING id, user_id, template
    ), taken AS (
        UPDATE digest_items i SET message_id = m.id FROM made m
        WHERE i.user_id = m.user_id AND i.frequency || '_digest' = m.template AND i.message_id IS NULL AND i.due_at <= now()
    )
    SELECT count(*) AS made FROM made
    """).bindparams(bindparam("most", AT_ONCE, type_=Integer))  # noqa: S608 - our own words


async def make_digests(database: Database) -> int:
    """Make the digests that are due; return how many. An event is in the one that is made with the mark on its row, whenever a process is killed."""
    made = 0
    while True:
        (waiting,) = await database.rows(_HAS_DUE)
        if not waiting.is_due:
            return made
        async with database.work(SYSTEM) as work:
            await work.run(_LOCK)  # another process would make empty ones of the same events
            made += await work.scalar(_MAKE)
