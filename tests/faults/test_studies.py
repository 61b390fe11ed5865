"""A study outlives that its bodies are killed, its workers, or Redis: before the parameters of a trial are written, and before its model is.

What it finds does not depend on that, nor on how many workers there are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.exhaustive import exhaustive
from tests.faults.bodies import HOLD
from tests.faults.cluster import Cluster, eventually
from tests.faults.fault_injection import FaultInjector
from tests.faults.invariants import assert_invariants, query_violations
from tests.faults.workload import Workload

DRAW, TRAIN = "workers.ml.studies.body:draw_point", "workers.ml.training:run_pipeline"
ARCHITECTURES = "of architectures"
OF_STUDY = "14 a study and its trials"


@pytest.mark.parametrize(
    ("method", "what", "target", "trials"),
    [
        ("RANDOM", "body", TRAIN, 3),
        exhaustive("RANDOM", "body", DRAW, 8),
        exhaustive("RANDOM", "worker", TRAIN, 8),
        exhaustive("RANDOM", "worker", DRAW, 8),
        exhaustive("RANDOM", "redis", "", 8),
        exhaustive("HYPERBAND", "body", TRAIN, 8),
        exhaustive("HYPERBAND", "body", DRAW, 8),
        exhaustive("HYPERBAND", "worker", TRAIN, 8),
        exhaustive("HYPERBAND", "redis", "", 8),
        exhaustive(ARCHITECTURES, "body", DRAW, 5),
        exhaustive(ARCHITECTURES, "worker", TRAIN, 5),
    ],
)
@pytest.mark.timeout(400)
async def test_every_trial_is_drawn_and_counted_once(
    method: str, what: str, target: str, trials: int, cluster: Cluster, workload: Workload, fault_injector: FaultInjector
) -> None:
    study = await _end_struck(method, what, target, trials, cluster, workload, fault_injector)
    (row,) = await cluster.rows("SELECT status, reason, trials_completed + trials_pruned AS ended FROM studies WHERE id = $1", study)
    assert tuple(row) == ("completed", "trials", trials)
    attempts = await cluster.rows("SELECT j.attempt FROM trials t JOIN jobs j ON j.id = t.job_id WHERE t.study_id = $1", study)
    assert what == "redis" or all(row["attempt"] > 1 for row in attempts), "each was killed once"
    await assert_invariants(cluster, workload)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("method", "trials"), [("RANDOM", 8), ("BAYESIAN", 14), ("EVOLUTION", 26), ("HYPERBAND", 12)])
@pytest.mark.timeout(1_200)
async def test_the_same_seed_makes_the_same_trials_on_any_workers_and_after_kills(
    method: str, trials: int, cluster: Cluster, workload: Workload, fault_injector: FaultInjector
) -> None:
    made = await _trials(cluster, await _end_struck(method, "body", TRAIN, trials, cluster, workload, fault_injector))
    assert [trial["number"] for trial in made] == list(range(1, trials + 1))
    await eventually(partial(_has_workers, cluster, 2), description="the restart of a worker that the last study lost")
    assert await _trials(cluster, await _end(method, trials, cluster, workload)) == made, "by two workers"
    async with _one_worker(cluster):
        assert await _trials(cluster, await _end(method, trials, cluster, workload)) == made, "by one worker"
    struck = await _end_struck(method, "worker", DRAW, trials, cluster, workload, fault_injector)
    assert await _trials(cluster, struck) == made, "with its workers killed"
    if method == "HYPERBAND":
        assert any(trial["pruning"] for trial in made)
        assert await _is_violated(cluster, "UPDATE trials SET pruning = jsonb_set(pruning, '{rank}', '1') WHERE pruning IS NOT NULL")
        moved = "UPDATE trial_rungs r SET value = -1 FROM trials t WHERE t.id = r.trial_id AND r.rung = (t.pruning ->> 'rung')::int"
        assert await _is_violated(cluster, moved)
    elif method != "RANDOM":
        assert made[-1]["suggested_from"] == trials - 2, "the last point is drawn from all trials that it may look at"
    await assert_invariants(cluster, workload)


async def _has_workers(cluster: Cluster, count: int) -> bool:
    return len(cluster.worker_pids()) == count


async def _trials(cluster: Cluster, study: UUID) -> list[dict[str, Any]]:
    columns = "number, status, parameters, suggested_from, value, pruning"
    return [dict(row) for row in await cluster.rows(f"SELECT {columns} FROM trials WHERE study_id = $1 ORDER BY number", study)]


async def _end(method: str, trials: int, cluster: Cluster, workload: Workload) -> UUID:
    study = await workload.create_study(workload.viewers[0], trials, method)
    await _wait(cluster, study)
    return study


async def _end_struck(
    method: str, what: str, target: str, trials: int, cluster: Cluster, workload: Workload, fault_injector: FaultInjector
) -> UUID:
    """Create a study whose bodies, or whose workers, are killed when a first attempt has done its work; or Redis, whenever a trial has ended."""
    hold = Path(cluster.traces, HOLD)
    crashes = 0

    async def strike() -> None:
        nonlocal crashes
        rows = await cluster.rows("SELECT job_id, completed_at FROM trials WHERE study_id = $1", study)
        if what == "redis":
            if sum(row["completed_at"] is not None for row in rows) > crashes:
                crashes += 1
                await fault_injector.crash_redis()
        else:
            kill = fault_injector.kill_held if what == "body" else fault_injector.kill_workers_of
            await kill(*(row["job_id"] for row in rows))

    if target:
        hold.write_text(target)
    try:
        if method == ARCHITECTURES:
            study = await workload.create_architecture_study(workload.viewers[0], trials)
        else:
            study = await workload.create_study(workload.viewers[0], trials, method)
        await _wait(cluster, study, strike)
    finally:
        hold.unlink(missing_ok=True)
    assert (what == "redis") == (crashes > 0)
    return study


async def _wait(cluster: Cluster, study: UUID, strike: Callable[[], Awaitable[None]] | None = None) -> None:
    async def has_ended() -> bool:
        if strike is not None:
            await strike()
        (row,) = await cluster.rows("SELECT completed_at FROM studies WHERE id = $1", study)
        return row["completed_at"] is not None

    await eventually(has_ended, 360.0, "the end of the study")


@asynccontextmanager
async def _one_worker(cluster: Cluster) -> AsyncGenerator[None]:
    await cluster.stop_worker(cluster.workers[-1])
    try:
        assert len(cluster.worker_pids()) == 1
        yield
    finally:
        await cluster.start_worker()


async def _is_violated(cluster: Cluster, damage: str) -> bool:
    """Whether a change, which is undone, would break the invariant of studies."""
    async with cluster.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("SET LOCAL session_replication_role = replica")
            assert not (await connection.execute(damage)).endswith(" 0")
            return bool((await query_violations(connection.fetch))[OF_STUDY])
        finally:
            await transaction.rollback()
