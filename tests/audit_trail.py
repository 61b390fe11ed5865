"""Compares what a request wrote with the events that it left in the audit."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy import event as events
from sqlalchemy.engine import Connection, Engine

from db.core.work import Database
from db.tables import AuditEvent
from tests.conftest import UNRELATED_STATEMENTS

_WRITTEN = re.compile(r"\b(?:INSERT INTO|UPDATE(?! OF\b)|DELETE FROM)\s+(\w+)")
# Sign-ins that fail are in the history of sign-ins, which is kept for a while; the audit has those that succeed. Challenges that nobody has
# answered are kept for minutes. Points of metrics are data, millions of them: neither those of jobs are in the audit, nor those that are logged.
_NOT_AUDITED = frozenset({"audit_events", "login_events", "passkey_challenges"})
_LOGGED = "INSERT INTO metric_points"


class Trail:
    """The tables that transactions wrote to and committed, and the events that they left."""

    def __init__(self) -> None:
        self.written: set[str] = set()
        self.events: Sequence[Row[Any]] = ()

    @property
    def actions(self) -> list[str]:
        return [row.action for row in self.events]


@asynccontextmanager
async def audited(database: Database) -> AsyncGenerator[Trail]:
    """Collect what this process commits during the block, and the events of the audit. Its API runs in this process."""
    trail, pending = Trail(), dict[Connection, set[str]]()

    def record(connection: Connection, cursor: Any, statement: str, *_rest: object) -> None:
        if getattr(cursor, "rowcount", -1) != 0 and not any(part in statement for part in (*UNRELATED_STATEMENTS, _LOGGED)):
            pending.setdefault(connection, set()).update(_WRITTEN.findall(statement))

    def commit(connection: Connection) -> None:
        trail.written |= pending.pop(connection, set()) - _NOT_AUDITED

    def rollback(connection: Connection) -> None:
        pending.pop(connection, None)

    before = {row.id for row in await database.rows(select(AuditEvent.id))}
    listeners: list[tuple[str, Any]] = [("after_cursor_execute", record), ("commit", commit), ("rollback", rollback)]
    for name, listener in listeners:
        events.listen(Engine, name, listener)
    try:
        yield trail
    finally:
        for name, listener in listeners:
            events.remove(Engine, name, listener)
    rows = await database.rows(select(AuditEvent.__table__).order_by(AuditEvent.id))
    trail.events = [row for row in rows if row.id not in before]
