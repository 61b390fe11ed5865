"""One SQL statement for each read of `bench_reads`, which makes the whole response, behind the least of a server. No viewer, no policies."""

from __future__ import annotations

import os
from typing import Any

import asyncpg
import orjson

_DATASET = "'id', 'dataset_' || replace(d.id::text, '-', ''), 'name', d.name"
_JOB = "'id', 'job_' || replace(j.id::text, '-', ''), 'kind', upper(j.kind), 'status', upper(j.status)"


def _answer(field: str, value: str) -> str:
    return f"SELECT json_build_object('data', json_build_object('{field}', ({value})))::text"


_JOBS = "SELECT * FROM jobs WHERE dataset_version_id = v.id ORDER BY created_at DESC, id DESC LIMIT 3"
_VERSIONS = "SELECT * FROM dataset_versions WHERE dataset_id = d.id ORDER BY number DESC, id DESC LIMIT 3"
_JOBS_OF_VERSION = (
    "SELECT json_build_object('totalCount', (SELECT count(*) FROM jobs WHERE dataset_version_id = v.id), 'edges',"
    f" (SELECT coalesce(json_agg(json_build_object('node', json_build_object({_JOB}))), '[]') FROM ({_JOBS}) j))"
)
_VERSIONS_OF_DATASET = (
    "SELECT json_build_object('totalCount', (SELECT count(*) FROM dataset_versions WHERE dataset_id = d.id), 'edges',"
    " (SELECT coalesce(json_agg(json_build_object('node', json_build_object('id', 'version_' || replace(v.id::text, '-', ''), 'number', v.number,"
    f" 'jobs', ({_JOBS_OF_VERSION})))), '[]') FROM ({_VERSIONS}) v))"
)
_DATASETS = "SELECT * FROM datasets WHERE deleted_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 20"
_RANKED = (
    "SELECT r.* FROM runs r JOIN run_metrics m ON m.run_id = r.id AND m.key = 'loss'"
    " WHERE r.experiment_id = $1 AND m.last > '-infinity' AND m.last < 'infinity' ORDER BY m.last, r.id LIMIT 50"
)
_METRICS = "SELECT coalesce(json_agg(json_build_object('key', m.key, 'last', m.last) ORDER BY m.key), '[]') FROM run_metrics m WHERE m.run_id = r.id"

STATEMENTS = {
    "OneRow": _answer("dataset", f"SELECT json_build_object({_DATASET}, 'modality', upper(d.modality)) FROM datasets d WHERE d.id = $1"),
    "FlatPage": _answer(
        "jobs",
        f"SELECT json_build_object('edges', json_agg(json_build_object('node', json_build_object({_JOB}, 'progress', j.progress))))"
        " FROM (SELECT * FROM jobs ORDER BY created_at DESC, id DESC LIMIT 100) j",
    ),
    "ThreeLevels": _answer(
        "datasets",
        "SELECT json_build_object('totalCount', (SELECT count(*) FROM datasets WHERE deleted_at IS NULL), 'edges',"
        f" (SELECT json_agg(json_build_object('node', json_build_object({_DATASET}, 'versions', ({_VERSIONS_OF_DATASET}))))"
        f" FROM ({_DATASETS}) d))",
    ),
    "RunTable": _answer(
        "experiment",
        "SELECT json_build_object('runs', json_build_object('edges', (SELECT json_agg(json_build_object('node', json_build_object("
        f"'id', 'run_' || replace(r.id::text, '-', ''), 'number', r.number, 'status', upper(r.status), 'metrics', ({_METRICS}))))"
        f" FROM ({_RANKED}) r)))",
    ),
}

_state: dict[str, Any] = {}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer the operation of this name; the variable `id` is the statement's parameter."""
    if scope["type"] == "lifespan":
        await receive()
        create_pool: Any = asyncpg.create_pool
        _state["pool"] = await create_pool(os.environ["TRELLIS_DATABASE_URL"], max_size=20)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await _state["pool"].close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    received = b""
    while True:
        message = await receive()
        received += message.get("body", b"")
        if not message.get("more_body"):
            break
    request = orjson.loads(received)
    statement = STATEMENTS.get(request["query"].split()[1].partition("(")[0])
    body = b"{}"
    if statement is not None:
        variables = request.get("variables") or {}
        parameters = [variables["id"].partition("_")[2]] if "id" in variables else []
        async with _state["pool"].acquire() as connection:
            body = (await connection.fetchval(statement, *parameters)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
