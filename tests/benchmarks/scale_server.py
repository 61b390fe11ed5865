"""The API with one more address, `POST /plans`: the plans of the statements that the last operation sent, with times and buffers."""

from __future__ import annotations

import os
from typing import Any

import asyncpg
import orjson
from sqlalchemy import event
from sqlalchemy.engine import Engine
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.app import create_app

_sent: list[tuple[str, Any]] = []


def _record(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
    if statement.lstrip().upper().startswith(("SELECT", "WITH")) and "api_keys" not in statement:
        _sent.append((statement, parameters))


async def plans(_request: Request) -> Response:
    connect: Any = asyncpg.connect
    connection = await connect(os.environ["TRELLIS_DATABASE_URL"], statement_cache_size=0)
    try:
        explained = [
            {
                "statement": statement,
                "plan": (await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *parameters)),
            }
            for statement, parameters in _sent
        ]
    finally:
        await connection.close()
    return Response(orjson.dumps(explained), media_type="application/json")


async def forget(_request: Request) -> Response:
    _sent.clear()
    return Response(status_code=204)


event.listen(Engine, "before_cursor_execute", _record)
app = create_app()
app.router.routes[:0] = [Route("/plans", plans, methods=["POST"]), Route("/forget", forget, methods=["POST"])]
