"""With tracing on, an operation, its statements and the jobs it submits are linked spans; with it off, nothing of it is imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from sqlalchemy import select

from db.core.work import Database
from db.tables import Job
from db.tables.jobs import JobKind
from server.app import create_app
from server.settings import ServerSettings
from server.tracing import Spans
from tests.client import Client

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def traced_app(client: Client) -> AsyncGenerator[tuple[httpx.AsyncClient, InMemorySpanExporter]]:
    """An application that traces into memory, with a client of this viewer."""
    exporter = InMemorySpanExporter()
    app = create_app(ServerSettings(tracing=True), Spans("trellis-api", SimpleSpanProcessor(exporter)))
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://trellis") as http:
        http.headers["authorization"] = f"Bearer {client.token}"
        exporter.clear()
        yield http, exporter


def trace_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id


async def test_an_operation_is_a_span_with_its_statements_under_it(ada: Client) -> None:
    name = "Secretly"
    headers = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    async with traced_app(ada) as (http, exporter):
        await http.post("/graphql", json={"query": f"query {name} {{ viewer {{ id email }} }}"}, headers=headers)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    operation = spans[f"query {name}"]
    assert operation.parent is not None
    assert (f"{trace_id(operation):032x}", f"{operation.parent.span_id:016x}") == ("ab" * 16, "cd" * 8)
    assert operation.attributes is not None
    assert (operation.attributes["graphql.operation.type"], operation.attributes["graphql.operation.name"]) == ("query", name)
    statements = [span for span in exporter.get_finished_spans() if span.name == "sql SELECT" and span.parent]
    assert statements
    assert {span.parent.span_id for span in statements if span.parent} == {operation.context.span_id if operation.context else 0}
    assert not any("email" in str(value) for span in spans.values() for value in (span.attributes or {}).values())


async def test_a_clients_error_has_its_code_and_is_no_failure(ada: Client) -> None:
    async with traced_app(ada) as (http, exporter):
        await http.post("/graphql", json={"query": "{ nothing }"})
    (span,) = [span for span in exporter.get_finished_spans() if not span.name.startswith("sql ")]
    assert span.attributes is not None
    assert span.attributes["trellis.error.codes"] == ("GRAPHQL_VALIDATION_FAILED",)
    assert span.status.status_code is StatusCode.UNSET


async def test_the_operation_that_makes_a_job_links_to_the_trace_of_its_attempts(ada: Client, database: Database) -> None:
    dataset = await ada.create_dataset("wine")
    content = b"a,b\n1,2\n"
    upload = (await ada.request_upload(dataset, "wine.csv", content))["upload"]
    await ada.put(upload, content)
    async with traced_app(ada) as (http, exporter):
        document = "mutation Done($id: ID!) { completeUpload(input: { uploadId: $id }) { __typename } }"
        await http.post("/graphql", json={"query": document, "variables": {"id": upload["id"]}})
    (job,) = await database.rows(select(Job.id))
    (operation,) = [span for span in exporter.get_finished_spans() if span.name == "mutation Done"]
    assert [link.context.trace_id for link in operation.links] == [job.id.int]


async def test_an_attempt_is_a_trace_of_its_jobs_own(database: Database) -> None:
    exporter = InMemorySpanExporter()
    spans = Spans("trellis-worker", SimpleSpanProcessor(exporter))
    job: Any = SimpleNamespace(id=uuid4(), kind=JobKind.TRAIN, attempt=2, queue="tabular")

    async def attempt() -> None:
        with spans.attempt(job):
            await database.rows(select(Job.id).limit(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await attempt()
    await database.rows(select(Job.id).limit(1))  # outside any operation: no span
    spans.close()
    statement, root = exporter.get_finished_spans()
    assert (statement.name, root.name) == ("sql SELECT", "job train")
    assert trace_id(statement) == trace_id(root) == job.id.int
    assert root.parent is None
    assert root.status.status_code is StatusCode.ERROR


@pytest.mark.exhaustive
def test_without_the_setting_nothing_of_it_is_loaded() -> None:
    code = "import sys, server.app, server.worker_tracing; server.app.create_app(); print(any(name.startswith('opentelemetry') for name in sys.modules))"
    command = [sys.executable, "-c", code]
    environment = {"TRELLIS_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "TRELLIS_REDIS_URL": "redis://127.0.0.1:1/0"}
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
