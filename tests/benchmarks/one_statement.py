"""The limit of the nested read: one SQL statement that makes the whole response, behind the least of a server. No viewer, no policies."""

from __future__ import annotations

import os
from typing import Any

import asyncpg

SQL = """
SELECT json_build_object('data', json_build_object('datasets', json_build_object('edges', json_agg(json_build_object('node', node)))))::text
FROM (
  SELECT json_build_object(
    'id', 'dataset_' || replace(d.id::text, '-', ''), 'name', d.name, 'createdAt', d.created_at,
    'owner', (SELECT json_build_object('id', 'user_' || replace(u.id::text, '-', ''), 'username', u.username) FROM users u WHERE u.id = d.owner_id),
    'versions', json_build_object('edges', (
      SELECT coalesce(json_agg(json_build_object('node', json_build_object(
        'id', 'version_' || replace(v.id::text, '-', ''), 'number', v.number, 'status', upper(v.status), 'createdAt', v.created_at))), '[]')
      FROM (SELECT * FROM dataset_versions WHERE dataset_id = d.id ORDER BY number DESC, id DESC LIMIT 3) v)),
    'jobs', json_build_object('edges', (
      SELECT coalesce(json_agg(json_build_object('node', json_build_object(
        'id', 'job_' || replace(j.id::text, '-', ''), 'kind', upper(j.kind), 'status', upper(j.status), 'progress', j.progress,
        'createdAt', j.created_at))), '[]')
      FROM (SELECT * FROM jobs WHERE dataset_id = d.id ORDER BY created_at DESC, id DESC LIMIT 5) j))) AS node
  FROM (SELECT * FROM datasets WHERE deleted_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 50) d) nodes
"""

_state: dict[str, Any] = {}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        create_pool: Any = asyncpg.create_pool
        _state["pool"] = await create_pool(os.environ["TRELLIS_DATABASE_URL"], max_size=20)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await _state["pool"].close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    async with _state["pool"].acquire() as connection:
        body = (await connection.fetchval(SQL)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
