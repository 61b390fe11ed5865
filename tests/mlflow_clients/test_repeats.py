"""A run is created once, however often a client that got no answer repeats the call, and processes that start together get a run each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from db.core.work import Database
from db.errors import Unavailable
from db.services import idempotency
from server.mlflow import repeats
from tests.client import Client
from tests.mlflow_clients.conftest import Call, caller
from tests.mlflow_clients.test_protocol import make_run

COUNT = "{ runs { totalCount } }"
GIVEN: dict[str, Any] = {"run_name": "once", "tags": [{"key": "a", "value": "b"}]}


async def test_equal_calls_that_were_answered_make_a_run_each(ada: Client, of_ada: Call) -> None:
    together = await asyncio.gather(*(make_run(of_ada, **GIVEN) for _ in range(4)))
    assert len({*together, await make_run(of_ada, **GIVEN)}) == 5
    assert (await ada.one(COUNT))["totalCount"] == 5


async def test_a_call_that_got_no_answer_is_repeated_and_makes_no_second_run(
    ada: Client, bob: Client, of_ada: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: Any) -> None:
        """The process dies between the commit and the answer, which leaves the key."""
        raise Unavailable("PostgreSQL", "killed")

    monkeypatch.setattr(repeats, "PATIENCE", 0.3)
    with monkeypatch.context() as patched:
        patched.setattr(idempotency, "forget", killed)
        first = await make_run(of_ada, **GIVEN)
    others = [await make_run(of_ada, **{**GIVEN, "run_name": "other"}), await make_run(of_ada, **GIVEN, start_time=1_700_000_000_001)]
    assert await make_run(caller(bob), **GIVEN) != first
    assert await make_run(of_ada, **GIVEN) == first
    assert await make_run(of_ada, **GIVEN) not in {first, *others}, "the repetition was answered"
    assert (await ada.one(COUNT))["totalCount"] == 4


async def test_a_call_without_a_start_time_always_makes_a_run(of_ada: Call, monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    async def fails(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(idempotency, "forget", fails)
    assert await make_run(of_ada, start_time=None) != await make_run(of_ada, start_time=None)
