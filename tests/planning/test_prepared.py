"""SQL is built once: what has been read before is read again by the same text."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import ClauseElement

from db.core import prepared
from tests.planning.conftest import Both, send


async def test_a_second_execution_of_a_document_builds_no_sql(both: Both, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    compile_cached: Any = ClauseElement._compile_w_cache
    prepare_select = prepared._prepare

    def recorded(self: ClauseElement, *arguments: Any, **options: Any) -> Any:
        if not isinstance(self, UpdateBase):  # what is written behind the requests
            built.append(str(self))
        return compile_cached(self, *arguments, **options)

    def prepare(statement: Any, arguments: Any, **options: Any) -> Any:
        built.append(str(statement))
        return prepare_select(statement, arguments, **options)

    operations = [*both.written(), *(both.generate(f"{seed} {number}") for number in range(60))]
    for operation, client, _ in operations:
        await send(client, operation)
    monkeypatch.setattr(ClauseElement, "_compile_w_cache", recorded)
    monkeypatch.setattr(prepared, "_prepare", prepare)
    for operation, client, _ in operations:
        await send(client, operation)
        assert built == [], operation.text
