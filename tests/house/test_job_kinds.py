"""A kind of job is one declaration, one task function, and outputs that the graph and the database know."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from db.core.queues import QUEUES
from db.core.work import Database
from db.services import jobs
from db.tables import Table
from db.tables.datasets import Modality
from db.tables.jobs import JobKind
from graph.core.ids import NODE_REGISTRY
from graph.jobs.outputs import OUTPUT_REGISTRY
from graph.schema import schema
from workers.registry import declared_tasks, task

OUTPUT_TABLES = {mapper.class_.output_kind: mapper.class_.__tablename__ for mapper in Table.registry.mappers if mapper.class_.output_kind}

GUARDS = text("""
    SELECT t.tgrelid::regclass::text AS "table", encode(t.tgargs, 'escape') AS arguments
    FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid WHERE f.proname = 'trellis_guard_output'
""")


def test_every_declared_kind_has_one_task_and_every_task_a_declared_kind() -> None:
    declared, done = {kind.name for kind in jobs.declared_kinds()}, {kind.name for kind in declared_tasks()}
    assert [f"{name} has no task: write one in a module of workers, with `@task(JobKind.{name})`." for name in declared - done] == []
    assert [f"{name} is not declared: call `jobs.declare` in the service that submits it." for name in done - declared] == []


def test_a_kind_is_declared_once_and_has_one_task() -> None:
    with pytest.raises(ValueError, match="The kind of job INGEST is declared twice"):
        jobs.declare(jobs.JobKindSpec(JobKind.INGEST, title="ingest"))
    with pytest.raises(ValueError, match="Two tasks do jobs of the kind INGEST: ingest and ingest"):
        task(JobKind.INGEST)(declared_tasks()[JobKind.INGEST])


@pytest.mark.parametrize("kind", sorted(jobs.declared_kinds()), ids=lambda kind: kind.name)
def test_every_declared_kind_has_a_title_and_a_queue(kind: JobKind) -> None:
    spec = jobs.spec_of(kind)
    assert spec.kind is kind
    assert spec.title == spec.title.strip().lower() != ""
    assert {jobs.queue_for(kind, modality) for modality in (*Modality, None)} <= set(QUEUES)
    assert spec.price_refusal is None or spec.price_refusal.endswith(".")
    assert all(table.output_kind in OUTPUT_TABLES for table in spec.outputs)


def test_a_kind_that_is_not_declared_has_no_hooks() -> None:
    spec = jobs.spec_of(JobKind.STUDY)
    assert (spec, spec.title) == (jobs.JobKindSpec(JobKind.STUDY, title="study"), "study")


def test_the_graph_has_a_type_for_every_kind_of_output() -> None:
    missing = [(kind, table) for kind, table in OUTPUT_TABLES.items() if kind not in OUTPUT_REGISTRY]
    assert [f"{table} holds outputs, and no type is theirs: mark that of `{kind}_…` with `@job_output`." for kind, table in missing] == []
    assert [
        f"No table holds the outputs `{kind}_…`: give it the `output_kind`." for kind in OUTPUT_REGISTRY if kind not in OUTPUT_TABLES
    ] == []
    assert all(registration.type is NODE_REGISTRY[kind].type for kind, registration in OUTPUT_REGISTRY.items())
    assert f"union JobOutput = {' | '.join(sorted(registration.type.__name__ for registration in OUTPUT_REGISTRY.values()))}\n" in str(
        schema
    )


async def test_every_table_of_outputs_has_its_guard(database: Database) -> None:
    guards = [(row.arguments.split("\\000")[0], row.table) for row in await database.rows(GUARDS)]
    unguarded = [(table, kind) for kind, table in OUTPUT_TABLES.items() if (kind, table) not in guards]
    assert [f"{table} has no guard: its migration calls `guard_outputs(op, {table!r}, {kind!r}, …)`." for table, kind in unguarded] == []
    assert len(guards) == len(OUTPUT_TABLES)
