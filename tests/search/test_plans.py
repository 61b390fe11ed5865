"""A search reads no large table from end to end, whoever searches and whatever for."""

from __future__ import annotations

from itertools import product
from typing import Any

import asyncpg
import orjson
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from db.core.viewer import UserRole
from db.core.work import Database
from db.queries import search as searches
from db.settings import StateSettings
from tests.accounts.test_teams import join
from tests.client import Client

USERS = "INSERT INTO users (email, username, role) SELECT 'u' || i || '@example.org', 'u' || i, 'member' FROM generate_series(1, 50) i"
FILL = """
  INSERT INTO search_entries (type, id, owner_id, title, body, words, vector)
  SELECT 'model', uuidv7(), u.id, title, body, title, trellis_search_vector(title, body) FROM users u, generate_series(1, 30) i,
    LATERAL (SELECT (ARRAY['oak', 'elm', 'fir'])[1 + i % 3] || ' survey ' || CASE i % 30 WHEN 1 THEN 'zebra ' ELSE '' END || i AS title, 'text ' || i AS body) texts
"""
SEARCH = "query($words: String!, $after: String) { search(query: $words, after: $after, types: [MODEL], first: 2) { edges { title } pageInfo { endCursor } } }"
GROW = "UPDATE pg_class SET reltuples = reltuples * 2000 WHERE relname IN ('search_entries', 'ix_search_entries_texts', 'ix_search_entries_owner_id_id', 'models')"


async def test_no_search_reads_all_entries(
    ada: Client, bob: Client, reader: Client, admin: Client, database: Database, settings: StateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql(USERS)
        await connection.exec_driver_sql(FILL)
    async with database.read() as connection:
        await connection.exec_driver_sql("ANALYZE search_entries")
        await connection.exec_driver_sql(GROW)
    await join(database, (await ada.one("{ viewer { id } }"))["id"], "bob", UserRole.MEMBER)
    sent: list[tuple[str, Any]] = []

    def record(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        if "FROM search_entries" in statement:
            sent.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        for client, small in product((ada, bob, admin), (0, searches.SMALL)):
            monkeypatch.setattr(searches, "SMALL", small)
            for query in ("zebra", "surv", "zebra survey", "zerba", "the", "nothing at all"):
                first = await client.one(SEARCH, words=query)
                if after := first["pageInfo"]["endCursor"]:
                    await client.one(SEARCH, words=query, after=after)
    finally:
        event.remove(Engine, "before_cursor_execute", record)
    assert len(sent) >= 72
    connect: Any = asyncpg.connect
    explaining = await connect(settings.database_url, statement_cache_size=0)
    try:
        explained = [await explaining.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters) for statement, parameters in sent]
        await explaining.execute("ANALYZE search_entries")
    finally:
        await explaining.close()
    nodes = [node for text in explained for node in _nodes(orjson.loads(text)[0]["Plan"])]
    assert [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"] == []


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for inner in plan.get("Plans", ()) for node in _nodes(inner))]
