"""The invariants that must hold after every fault: each is a query for the rows that violate it.

What only the harness knows (responses to viewers, objects in the store, executions) is loaded into tables of the schema `faults` first,
so that every invariant is SQL.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import redis.asyncio as redis_client
from rich.console import Console
from rich.table import Table

from db.services.jobs.kinds import declared_kinds
from db.services.maintenance.counters import REFERENCES
from tests.faults.bodies import JOB_VARIABLE, SCRIPT_PREFIX
from tests.faults.cluster import Cluster
from tests.faults.hooks import TRACES
from tests.faults.traces import executions, overlapping
from tests.faults.workload import Workload

FACT_TABLES = """
DROP SCHEMA IF EXISTS faults CASCADE;
CREATE SCHEMA faults;
CREATE TABLE faults.submits (owner text, key text, call int, job_id uuid, script text, expected text);
CREATE TABLE faults.cancels (job_id uuid);
CREATE TABLE faults.executions (job_id uuid, attempt int, target text, process text, pid int, started float8, ended float8, beside bool);
CREATE TABLE faults.seen (watch int, job_id uuid, turn int, sequence int);
CREATE TABLE faults.watches (watch int, job_id uuid, done bool);
CREATE TABLE faults.objects (key text, sha256 text, size bigint);
CREATE TABLE faults.named_in_redis (job_id uuid, key text);
CREATE TABLE faults.attempt_keys (job_id uuid, attempt int, key text);
CREATE TABLE faults.left_behind (job_id uuid, pid int);
"""

TERMINAL_STATES = "('completed', 'failed', 'cancelled')"
_SCRIPTED = f"p.name LIKE '{SCRIPT_PREFIX}%'"


def _declared_outputs() -> str:
    """The WHEN clauses that map a job to the kinds of its outputs: one row of each table that the declaration of its kind names.

    A pipeline exports if its submission says so, none has a step that explains, rows are predicted without outputs, and a profile by the same profiler
    is none.
    """
    outputs = {kind.value: sorted(str(table.output_kind) for table in spec.outputs) for kind, spec in declared_kinds().items()}
    for kind in ("train", "process"):
        outputs[kind] = [name for name in outputs[kind] if name not in ("export", "explanation")]
    clauses = [
        "WHEN j.id IN (SELECT job_id FROM trials) THEN ARRAY[]::text[]",  # their models are registered later, if at all
        "WHEN j.kind = 'predict' AND j.dataset_version_id IS NULL THEN ARRAY[]::text[]",
        "WHEN j.kind = 'profile' AND NOT (SELECT (d.result->>'isNew')::boolean FROM job_documents d WHERE d.job_id = j.id) THEN ARRAY[]::text[]",
        "WHEN j.dataset_id IN (SELECT id FROM datasets WHERE purged_at IS NOT NULL) THEN ARRAY['version']",  # the profile went with the purge
        "WHEN j.id IN (SELECT job_id FROM faults.submits WHERE script = 'exporting') THEN ARRAY['export', 'profile', 'version']",
    ]
    return " ".join([*clauses, *(f"WHEN j.kind = '{kind}' THEN ARRAY{kinds}::text[]" for kind, kinds in outputs.items())])


def _reference_count() -> str:
    """The number of rows that refer to the stored object `s`."""
    return " + ".join(f"(SELECT count(*) FROM {column.table.name} t WHERE t.{column.name} = s.id)" for column in REFERENCES)


def _target_exists() -> str:
    """The condition that the row exists to which an output refers."""
    tables = {table for spec in declared_kinds().values() for table in spec.outputs}
    exists = (
        f"o.kind = '{table.output_kind}' AND EXISTS (SELECT FROM {table.__tablename__} t WHERE t.id = o.target_id)" for table in tables
    )
    return " OR ".join(sorted(exists))


INVARIANTS: dict[str, str] = {
    "1  every accepted submit is one row": """
        SELECT s.job_id FROM faults.submits s LEFT JOIN jobs j ON j.id = s.job_id WHERE j.id IS NULL
        UNION ALL
        SELECT j.id FROM jobs j JOIN users u ON u.id = j.owner_id LEFT JOIN faults.submits s ON s.job_id = j.id
        WHERE s.job_id IS NULL AND j.id NOT IN (SELECT job_id FROM trials) AND NOT EXISTS (SELECT FROM datasets d
          WHERE d.id = j.dataset_id AND (d.name LIKE '%''s data to be purged%' OR d.purged_at IS NOT NULL))
          AND (SELECT count(*) FROM faults.submits) > 0 AND j.created_at > (SELECT min(created_at)
          FROM jobs WHERE id IN (SELECT job_id FROM faults.submits))""",
    "1  every row ends in one terminal state": f"""
        SELECT id FROM jobs WHERE status NOT IN {TERMINAL_STATES}
        UNION ALL
        SELECT job_id FROM job_events GROUP BY job_id HAVING count(*) FILTER (WHERE type::text IN {TERMINAL_STATES}) <> 1""",
    "2  COMPLETED has one set of effects": f"""
        SELECT j.id FROM jobs j LEFT JOIN job_outputs o ON o.job_id = j.id WHERE j.status = 'completed'
        GROUP BY j.id, j.kind HAVING array_remove(array_agg(o.kind ORDER BY o.kind), NULL) <> CASE {_declared_outputs()} ELSE ARRAY[]::text[] END
        UNION ALL
        SELECT o.job_id FROM job_outputs o WHERE NOT ({_target_exists()})
        UNION ALL
        SELECT v.produced_by_id FROM dataset_versions v JOIN jobs j ON j.id = v.produced_by_id
        WHERE v.status = 'ready' GROUP BY v.produced_by_id HAVING count(*) > 1
        UNION ALL
        SELECT job_id FROM model_versions WHERE job_id IS NOT NULL GROUP BY job_id HAVING count(*) > 1
        UNION ALL
        SELECT j.id FROM jobs j LEFT JOIN exports e ON e.job_id = j.id WHERE j.kind IN ('export', 'export_list') GROUP BY j.id HAVING count(e.id) <> 1
        UNION ALL
        SELECT j.id FROM jobs j LEFT JOIN explanations e ON e.job_id = j.id WHERE j.kind = 'explain' GROUP BY j.id
        HAVING count(e.id) <> 1 OR bool_or((j.status = 'completed') <> (e.data IS NOT NULL))
        UNION ALL
        SELECT j.id FROM jobs j LEFT JOIN job_documents d ON d.job_id = j.id
        WHERE (j.status = 'completed' AND j.kind IN ('predict', 'profile', 'compare')) <> (d.result IS NOT NULL)""",
    "2  made by the attempt that the row names": f"""
        SELECT j.id FROM jobs j JOIN pipelines p ON p.id = j.pipeline_id JOIN job_outputs o ON o.job_id = j.id
        JOIN dataset_versions v ON o.kind = 'version' AND v.id = o.target_id WHERE {_SCRIPTED} AND v.row_count <> j.attempt
        UNION ALL
        SELECT j.id FROM jobs j JOIN pipelines p ON p.id = j.pipeline_id JOIN job_outputs o ON o.job_id = j.id
        JOIN artifacts a ON o.kind = 'version' AND a.dataset_version_id = o.target_id JOIN stored_objects s ON s.id = a.object_id
        WHERE {_SCRIPTED} AND NOT EXISTS (
          SELECT FROM faults.attempt_keys k WHERE k.job_id = j.id AND k.attempt = j.attempt AND s.object_key LIKE '%' || k.key || '%')
        UNION ALL
        SELECT j.id FROM jobs j JOIN job_attempts a ON a.job_id = j.id
        WHERE (a.outcome = 'completed') <> (j.status = 'completed' AND a.number = j.attempt)""",
    "3  no effect of a job that did not complete": """
        SELECT j.id FROM jobs j JOIN job_outputs o ON o.job_id = j.id WHERE j.status <> 'completed'
        UNION ALL
        SELECT j.id FROM jobs j JOIN dataset_versions v ON v.produced_by_id = j.id WHERE j.status <> 'completed'
        UNION ALL
        SELECT j.id FROM jobs j JOIN model_versions v ON v.job_id = j.id WHERE j.status <> 'completed'
        UNION ALL
        SELECT j.id FROM jobs j JOIN dataset_versions v ON v.id = j.dataset_version_id
        WHERE j.kind IN ('ingest', 'import', 'generate') AND v.status = 'ready' AND NOT EXISTS (
          SELECT FROM jobs o WHERE o.dataset_version_id = v.id AND o.kind = j.kind AND o.status = 'completed')
        UNION ALL
        SELECT j.id FROM jobs j JOIN exports e ON e.job_id = j.id WHERE (j.status = 'completed') <> (e.size_bytes IS NOT NULL)
        UNION ALL
        SELECT j.id FROM jobs j JOIN schema_proposals p ON p.job_id = j.id WHERE j.status <> 'completed'
        UNION ALL
        SELECT j.id FROM jobs j JOIN artifacts a ON a.job_id = j.id WHERE j.status <> 'completed' AND a.role <> 'LOG'""",
    "3  no checkpoint of a job that has ended": f"""
        SELECT j.id FROM jobs j JOIN job_checkpoints c ON c.job_id = j.id WHERE j.status IN {TERMINAL_STATES}""",
    "3  numbers of versions have no gap": """
        SELECT d.id FROM datasets d LEFT JOIN dataset_versions v ON v.dataset_id = d.id
        GROUP BY d.id HAVING d.last_number <> count(v.id) OR coalesce(max(v.number), 0) <> d.last_number
        UNION ALL
        SELECT m.id FROM models m LEFT JOIN model_versions v ON v.model_id = m.id
        GROUP BY m.id HAVING m.last_number <> count(v.id) OR coalesce(max(v.number), 0) <> m.last_number""",
    "4  a hold is released or charged exactly once": f"""
        SELECT j.id FROM jobs j LEFT JOIN credit_transactions t ON t.job_id = j.id AND t.kind = 'hold'
        GROUP BY j.id HAVING count(t.id) <> (j.credit_cost > 0)::int OR coalesce(sum(t.held), 0) <> j.credit_cost
        UNION ALL
        SELECT j.id FROM jobs j LEFT JOIN credit_transactions t ON t.job_id = j.id AND t.kind IN ('consumption', 'release')
        GROUP BY j.id HAVING count(t.id) FILTER (WHERE t.kind = 'consumption' AND t.amount = 0 AND t.held = -j.credit_cost)
            <> (j.credit_cost > 0 AND j.status = 'completed')::int
          OR count(t.id) FILTER (WHERE t.kind = 'release' AND t.amount = j.credit_cost AND t.held = -j.credit_cost)
            <> (j.credit_cost > 0 AND j.status IN ('failed', 'cancelled'))::int
          OR count(t.id) <> (j.credit_cost > 0 AND j.status IN {TERMINAL_STATES})::int
        UNION ALL
        SELECT j.id FROM jobs j JOIN credit_transactions t ON t.job_id = j.id WHERE t.owner_id <> j.owner_id""",
    "4  the ledger adds up and is never negative": """
        SELECT u.id FROM users u LEFT JOIN credit_transactions t ON t.owner_id = u.id
        GROUP BY u.id HAVING coalesce(sum(t.amount), 0) <> u.credit_balance OR coalesce(sum(t.held), 0) <> u.credits_held
          OR count(t.id) <> u.credit_sequence OR coalesce(max(t.sequence), 0) <> u.credit_sequence OR min(t.sequence) <> 1
          OR u.credit_balance < 0 OR u.credits_held < 0
        UNION ALL
        SELECT t.id FROM credit_transactions t LEFT JOIN credit_transactions b ON b.owner_id = t.owner_id AND b.sequence = t.sequence - 1
        WHERE t.balance_after <> coalesce(b.balance_after, 0) + t.amount OR t.held_after <> coalesce(b.held_after, 0) + t.held
          OR t.balance_after < 0 OR t.held_after < 0""",
    "-  a budget counts what its jobs hold and were charged": f"""
        SELECT b.id FROM credit_budgets b LEFT JOIN credit_budget_jobs c ON c.budget_id = b.id LEFT JOIN jobs j ON j.id = c.job_id GROUP BY b.id
        HAVING coalesce(sum(j.credit_cost) FILTER (WHERE j.status NOT IN {TERMINAL_STATES}), 0) <> b.held
          OR coalesce(sum(j.credit_cost) FILTER (WHERE j.status = 'completed'), 0) <> b.charged OR b.held + b.charged > b.max_credits
        UNION ALL
        SELECT j.id FROM jobs j JOIN credit_budgets b ON b.owner_id = j.owner_id AND b.experiment_id IS NULL
        WHERE j.credit_cost > 0 AND NOT EXISTS (SELECT FROM credit_budget_jobs c WHERE c.job_id = j.id AND c.budget_id = b.id)""",
    "5  sequences are 1..n, none after the terminal": f"""
        SELECT j.id FROM jobs j JOIN job_events e ON e.job_id = j.id GROUP BY j.id
        HAVING min(e.sequence) <> 1 OR max(e.sequence) <> count(*) OR max(e.sequence) <> j.last_sequence
          OR max(e.sequence) FILTER (WHERE e.type::text IN {TERMINAL_STATES}) <> max(e.sequence)""",
    "6  executions of a job never overlap": "SELECT job_id FROM faults.executions WHERE beside",
    "7  attempts grow by one": """
        SELECT j.id FROM jobs j LEFT JOIN job_attempts a ON a.job_id = j.id GROUP BY j.id
        HAVING count(a.number) <> j.attempt OR coalesce(max(a.number), 0) <> j.attempt
        UNION ALL
        SELECT e.job_id FROM (SELECT job_id, attempt, lag(attempt) OVER (PARTITION BY job_id ORDER BY sequence) AS before FROM job_events) e
        WHERE e.attempt - e.before NOT IN (0, 1)
        UNION ALL
        SELECT job_id FROM faults.executions x GROUP BY job_id, attempt, target HAVING count(*) > 1""",
    "7  every attempt of an ended job has an end": f"""
        SELECT j.id FROM jobs j JOIN job_attempts a ON a.job_id = j.id
        WHERE j.status IN {TERMINAL_STATES} AND (a.ended_at IS NULL OR a.outcome IS NULL)""",
    "8  an accepted cancel never completes": """
        SELECT j.id FROM faults.cancels c JOIN jobs j ON j.id = c.job_id WHERE j.status <> 'cancelled'""",
    "9  a healthy job is never FAILED": """
        SELECT j.id FROM faults.submits s JOIN jobs j ON j.id = s.job_id
        WHERE s.expected IS NOT NULL AND j.status <> s.expected
          AND NOT (j.status = 'cancelled' AND j.id IN (SELECT job_id FROM faults.cancels)) AND j.losses < 10""",
    "10 one idempotency key, one job": """
        SELECT min(job_id::text)::uuid FROM faults.submits GROUP BY owner, key HAVING count(DISTINCT job_id) > 1
        UNION ALL
        SELECT job_id FROM faults.submits GROUP BY job_id HAVING count(DISTINCT key) > 1""",
    "11 every referenced object is there, whole": """
        SELECT s.id FROM stored_objects s LEFT JOIN faults.objects o ON o.key = s.object_key
        WHERE s.reference_count > 0 AND (o.key IS NULL OR o.sha256 <> s.sha256 OR o.size <> s.size_bytes)""",
    "13 every subscriber saw 1..n, once": """
        SELECT w.job_id FROM faults.watches w JOIN jobs j ON j.id = w.job_id LEFT JOIN faults.seen s ON s.watch = w.watch
        GROUP BY w.watch, w.job_id, w.done, j.last_sequence
        HAVING NOT w.done OR count(s.sequence) <> j.last_sequence OR count(*) FILTER (WHERE s.sequence <> s.turn) > 0""",
    "-  what a body forked dies with it": f"""
        SELECT l.job_id FROM faults.left_behind l JOIN jobs j ON j.id = l.job_id WHERE j.status IN {TERMINAL_STATES}""",
    "-  an upload counts in the quota until its version is READY": """
        SELECT u.id FROM uploads u JOIN dataset_versions v ON v.id = u.version_id WHERE (u.state = 'ingested') <> (v.status = 'ready')""",
    "-  objects count their references, and accounts their objects": f"""
        SELECT s.id FROM stored_objects s WHERE s.reference_count <> {_reference_count()}
        UNION ALL
        SELECT u.id FROM users u LEFT JOIN stored_objects s ON s.owner_id = u.id
        GROUP BY u.id HAVING u.storage_bytes <> coalesce(sum(s.size_bytes), 0)""",
    "-  bodies that share a process are of tables and of one account": """
        SELECT x.job_id FROM faults.executions x WHERE x.process IN (SELECT process FROM faults.executions GROUP BY process HAVING count(*) > 1)
          AND (x.target NOT IN ('workers.ml.training:run_pipeline', 'workers.ml.studies.body:draw_point')
            OR x.job_id IN (SELECT job_id FROM faults.submits WHERE script = 'images'))
        UNION ALL
        SELECT min(x.job_id::text)::uuid FROM faults.executions x JOIN jobs j ON j.id = x.job_id
        GROUP BY x.process HAVING count(DISTINCT j.owner_id) > 1""",
    "14 a study and its trials": """
        -- trials are numbered 1..n, and each is counted once
        SELECT s.id FROM studies s LEFT JOIN trials t ON t.study_id = s.id GROUP BY s.id
        HAVING count(t.id) <> s.last_number OR coalesce(max(t.number), 0) <> s.last_number OR s.last_number > s.trials_total
          OR count(*) FILTER (WHERE t.status = 'completed') <> s.trials_completed OR count(*) FILTER (WHERE t.status = 'failed') <> s.trials_failed
          OR count(*) FILTER (WHERE t.status = 'cancelled') <> s.trials_cancelled OR count(*) FILTER (WHERE t.status = 'pruned') <> s.trials_pruned
          OR count(*) FILTER (WHERE t.status IN ('pending', 'running')) <> s.open_trials
        UNION ALL
        -- a trial follows its job, and has the value of its run
        SELECT t.id FROM trials t JOIN jobs j ON j.id = t.job_id
        WHERE j.status IN ('completed', 'failed', 'cancelled') AND t.status <> j.status AND NOT (t.status = 'pruned' AND j.status = 'completed')
        UNION ALL
        SELECT t.id FROM trials t JOIN studies s ON s.id = t.study_id LEFT JOIN run_metrics m ON m.run_id = t.run_id AND m.key = s.metric
        WHERE t.status = 'completed' AND t.value IS DISTINCT FROM m.last
        UNION ALL
        SELECT t.id FROM trials t JOIN runs r ON r.id = t.run_id WHERE r.study_id <> t.study_id OR r.job_id <> t.job_id
        UNION ALL
        -- the parameters of a trial are drawn once
        SELECT t.id FROM trials t LEFT JOIN job_events e ON e.job_id = t.job_id AND e.data ? 'parameters' GROUP BY t.id
        HAVING count(e.sequence) <> (t.parameters IS NOT NULL)::int OR bool_or(e.data -> 'parameters' IS DISTINCT FROM t.parameters AND e.sequence IS NOT NULL)
        UNION ALL
        -- a trial of a study of architectures trains the one that was drawn for it, and that is no other's
        SELECT t.id FROM trials t JOIN studies s ON s.id = t.study_id LEFT JOIN runs r ON r.id = t.run_id
        WHERE (t.architecture_hash IS NOT NULL) <> (s.kind = 'nas' AND t.parameters IS NOT NULL)
          OR t.status = 'completed' AND s.kind = 'nas' AND r.architecture ->> 'hash' IS DISTINCT FROM t.architecture_hash
        UNION ALL
        SELECT (min(t.id::text))::uuid FROM trials t GROUP BY t.study_id, t.architecture_hash HAVING t.architecture_hash IS NOT NULL AND count(*) > 1
        UNION ALL
        -- no more trials at once than the budget has
        SELECT s.id FROM studies s JOIN trials t ON t.study_id = s.id JOIN trials o ON o.study_id = s.id JOIN jobs j ON j.id = o.job_id
        WHERE o.number <= t.number AND (j.completed_at IS NULL OR j.completed_at > t.created_at)
        GROUP BY s.id, s.max_parallel, t.id HAVING count(*) > s.max_parallel
        UNION ALL
        -- a study holds and spends what its trials do, within its budget
        SELECT s.id FROM studies s LEFT JOIN trials t ON t.study_id = s.id LEFT JOIN jobs j ON j.id = t.job_id GROUP BY s.id
        HAVING coalesce(sum(j.credit_cost) FILTER (WHERE t.status IN ('pending', 'running')), 0) <> s.credits_held
          OR coalesce(sum(j.credit_cost) FILTER (WHERE j.status = 'completed' AND t.completed_at IS NOT NULL), 0) <> s.credits_charged
          OR s.credits_held + s.credits_charged > s.max_credits
        UNION ALL
        -- events of a study are numbered 1..n, and its best trial is the best
        SELECT s.id FROM studies s LEFT JOIN study_events e ON e.study_id = s.id GROUP BY s.id
        HAVING count(e.sequence) <> s.last_sequence OR coalesce(max(e.sequence), 0) <> s.last_sequence
        UNION ALL
        SELECT s.id FROM studies s LEFT JOIN trials t ON t.study_id = s.id AND t.status = 'completed' GROUP BY s.id
        HAVING s.best_value IS DISTINCT FROM CASE s.goal WHEN 'maximize' THEN max(t.value) ELSE min(t.value) END
        UNION ALL
        -- a trial ends at the first rung at which it is not among the best, of a reproducible study among those that had ended when it was made
        SELECT r.trial_id FROM trial_rungs r JOIN trials t ON t.id = r.trial_id JOIN studies s ON s.id = r.study_id CROSS JOIN LATERAL (
          SELECT 1 + count(*) FILTER (WHERE CASE s.goal WHEN 'maximize' THEN o.value > r.value ELSE o.value < r.value END
            OR (o.value = r.value AND o.number < r.number)) AS rank, count(*) AS of
          FROM trial_rungs o
          WHERE o.study_id = r.study_id AND o.rung = r.rung AND (o.number = r.number OR o.number <= r.number - s.max_parallel)) among
        WHERE s.is_reproducible AND (r.number, r.study_id) <> (t.number, t.study_id)
          OR s.is_reproducible AND (t.pruning IS NOT NULL AND r.rung = (t.pruning ->> 'rung')::int)
            <> (among.of >= s.reduction_factor AND among.rank > ceil(among.of::numeric / s.reduction_factor))
          OR s.is_reproducible AND r.rung = (t.pruning ->> 'rung')::int
            AND (r.value, among.rank, among.of) <> ((t.pruning ->> 'value')::float8, (t.pruning ->> 'rank')::int, (t.pruning ->> 'of')::int)
          OR r.rung > (t.pruning ->> 'rung')::int
        UNION ALL
        SELECT t.id FROM trials t LEFT JOIN trial_rungs r ON r.trial_id = t.id AND r.rung = (t.pruning ->> 'rung')::int
        WHERE (t.status = 'pruned') <> (t.pruning IS NOT NULL AND t.status IN ('completed', 'pruned')) OR (t.pruning IS NOT NULL AND r.trial_id IS NULL)
        UNION ALL
        -- a study ends when its trials have
        SELECT s.id FROM studies s WHERE s.status IN ('completed', 'failed', 'cancelled') AND s.open_trials > 0""",
    "-  a run follows its job": """
        SELECT j.id FROM jobs j JOIN runs r ON r.job_id = j.id
        WHERE r.status::text <> CASE j.status::text WHEN 'queued' THEN 'pending' WHEN 'cancelling' THEN 'running' ELSE j.status::text END""",
    "-  a curve has each step once, and its summary counts them": """
        SELECT r.id FROM runs r JOIN run_metrics m ON m.run_id = r.id
        WHERE m.count <> (SELECT count(*) FROM metric_points p WHERE p.run_id = r.id AND p.key = m.key)""",
    "-  a summary is one of its run's experiment": """
        SELECT r.id FROM runs r JOIN run_metrics m ON m.run_id = r.id WHERE m.experiment_id <> r.experiment_id""",
}
# Invariants that hold only after the orphan collector has run, or after ten seconds.
LATER_INVARIANTS: dict[str, str] = {
    "12 Redis names no job that ended 10 s ago": f"""
        SELECT DISTINCT n.job_id FROM faults.named_in_redis n LEFT JOIN jobs j ON j.id = n.job_id
        WHERE j.id IS NULL OR (j.status IN {TERMINAL_STATES} AND j.completed_at < clock_timestamp() - interval '10 seconds')""",
    "11 no object is unreferenced": """
        SELECT o.key FROM faults.objects o
        WHERE NOT EXISTS (SELECT FROM stored_objects s WHERE s.object_key = o.key AND s.reference_count > 0)
          AND NOT EXISTS (  -- a version whose ingest was cancelled stands UPLOADED, and `retryJob` reads its file again
            SELECT FROM uploads u JOIN dataset_versions v ON v.id = u.version_id
            WHERE u.object_key = o.key AND (u.state = 'open' OR (u.state = 'completed' AND v.status <> 'ready')))
          AND NOT EXISTS (SELECT FROM job_checkpoints c WHERE c.object_key = o.key)""",
}


async def find_violations(cluster: Cluster, workload: Workload, *, later: bool = False) -> dict[str, list[Any]]:
    """Load the facts and return the ids that violate each invariant, by its name."""
    await load_facts(cluster, workload)
    return await query_violations(cluster.rows, later=later)


async def query_violations(fetch: Callable[[str], Awaitable[list[Any]]], *, later: bool = False) -> dict[str, list[Any]]:
    """`find_violations` for loaded facts, with `fetch`: perhaps in a transaction that has just damaged rows."""
    queries = {**INVARIANTS, **LATER_INVARIANTS} if later else INVARIANTS
    return {name: list(dict.fromkeys(row[0] for row in await fetch(query))) for name, query in queries.items()}


async def assert_invariants(cluster: Cluster, workload: Workload) -> None:
    """Raise with all violations."""
    violated = {name: rows for name, rows in (await find_violations(cluster, workload)).items() if rows}
    assert not violated, violated


def print_violations(violations_by_name: dict[str, list[Any]], console: Console | None = None) -> None:
    """Print violations as a table."""
    table = Table("invariant", "violations")
    for name, rows in violations_by_name.items():
        table.add_row(name, f"[red]{len(rows)}: {', '.join(map(str, rows[:3]))}" if rows else "[green]0")
    (console or Console()).print(table)


async def load_facts(cluster: Cluster, workload: Workload) -> None:
    """Load what only the harness knows into the schema `faults`."""
    all_executions = executions(cluster.traces)
    overlaps = overlapping(all_executions)
    objects = await _objects(cluster)
    named_in_redis = await _named_in_redis(cluster)
    attempt_rows = await cluster.rows("SELECT job_id, number FROM job_attempts")
    rows: dict[str, list[tuple[Any, ...]]] = {
        "submits": [
            (submission.owner, submission.key, call, job, submission.script, submission.expected)
            for submission in workload.submissions
            for call, job in enumerate(submission.job_ids)
        ],
        "cancels": [(job,) for job in workload.accepted_cancels],
        "executions": [
            (
                execution.job,
                execution.attempt,
                execution.target,
                execution.process,
                execution.pid,
                execution.started,
                execution.ended,
                (execution.job, execution.attempt) in overlaps,
            )
            for execution in all_executions
        ],
        "watches": [(number, subscriber.job, subscriber.done) for number, subscriber in enumerate(workload.subscribers)],
        "seen": [
            (number, subscriber.job, turn, sequence)
            for number, subscriber in enumerate(workload.subscribers)
            for turn, sequence in enumerate(subscriber.sequences, start=1)
        ],
        "objects": objects,
        "named_in_redis": named_in_redis,
        "left_behind": await asyncio.to_thread(_left_behind, cluster),
        "attempt_keys": [(row["job_id"], row["number"], str(uuid.uuid5(row["job_id"], str(row["number"])))) for row in attempt_rows],
    }
    async with cluster.pool.acquire() as connection:
        await connection.execute(FACT_TABLES)
        for name, records in rows.items():
            await connection.copy_records_to_table(name, schema_name="faults", records=records)


def _left_behind(cluster: Cluster) -> list[tuple[UUID, int]]:
    """Return live processes that bodies of this cluster forked."""
    left_behind: list[tuple[UUID, int]] = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):
            if process.info["name"] == "sleep":  # pyright: ignore[reportAttributeAccessIssue] - psutil adds it
                environment = process.environ()
                if environment.get(TRACES) == str(cluster.traces) and JOB_VARIABLE in environment:
                    left_behind.append((UUID(environment[JOB_VARIABLE]), process.pid))
    return left_behind


async def _objects(cluster: Cluster) -> list[tuple[str, str, int]]:
    """Read all objects from the object store's disk."""
    environment = cluster.direct_environment
    root = cluster.folder / "servers" / "objects" / environment["TRELLIS_S3_BUCKET"]

    def read() -> Iterable[tuple[str, str, int]]:
        for folder, _, names in os.walk(root):  # it skips files that a worker removes meanwhile
            for path in (Path(folder, name) for name in names):
                with suppress(FileNotFoundError):
                    content = path.read_bytes()
                    yield str(path.relative_to(root)), hashlib.sha256(content).hexdigest(), len(content)

    return await asyncio.to_thread(lambda: list(read()))


_ENTRY = re.compile(rb"([0-9a-f]{32}):\d+")


async def _named_in_redis(cluster: Cluster) -> list[tuple[UUID, str]]:
    """Return every job that a key or a queue entry in Redis names. Pub/sub messages are not stored."""
    named: list[tuple[UUID, str]] = []
    client: Any = redis_client.Redis.from_url(cluster.direct_environment["TRELLIS_REDIS_URL"])
    async with client:
        async for key in client.scan_iter(count=1000):
            named += [(UUID(job_hex.decode()), key.decode()) for job_hex in _ENTRY.findall(key)]
            if await client.type(key) == b"zset":
                for member in await client.zrange(key, 0, -1):
                    named += [(UUID(job_hex.decode()), key.decode()) for job_hex in _ENTRY.findall(member)]
    return named
