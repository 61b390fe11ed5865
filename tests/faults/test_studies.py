"""A study outlives that its bodies are killed, or their workers: before the parameters of a trial are written, and before its model is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exhaustive import exhaustive
from tests.faults.bodies import HOLD
from tests.faults.cluster import Cluster, eventually
from tests.faults.fault_injection import FaultInjector
from tests.faults.invariants import assert_invariants
from tests.faults.workload import Workload

DRAW, TRAIN = "workers.ml.studies.body:draw_point", "workers.ml.training:run_pipeline"


@pytest.mark.parametrize(
    ("what", "target", "trials", "kind"),
    [
        ("body", TRAIN, 3, "HPO"),
        exhaustive("body", DRAW, 8, "HPO"),
        exhaustive("worker", TRAIN, 8, "HPO"),
        exhaustive("worker", DRAW, 8, "HPO"),
        exhaustive("body", DRAW, 5, "NAS"),
        exhaustive("worker", TRAIN, 5, "NAS"),
    ],
)
async def test_every_trial_is_drawn_and_counted_once(
    what: str, target: str, trials: int, kind: str, cluster: Cluster, workload: Workload, fault_injector: FaultInjector
) -> None:
    hold = Path(cluster.traces, HOLD)
    hold.write_text(target)
    try:
        create = workload.create_study if kind == "HPO" else workload.create_architecture_study
        study = await create(workload.viewers[0], trials)

        async def has_ended() -> bool:
            jobs = [row["job_id"] for row in await cluster.rows("SELECT job_id FROM trials WHERE study_id = $1", study)]
            await (fault_injector.kill_held(*jobs) if what == "body" else fault_injector.kill_workers_of(*jobs))
            (row,) = await cluster.rows("SELECT completed_at FROM studies WHERE id = $1", study)
            return row["completed_at"] is not None

        await eventually(has_ended, 240.0, "the end of the study")
    finally:
        hold.unlink()
    (row,) = await cluster.rows("SELECT status, reason, trials_completed FROM studies WHERE id = $1", study)
    assert tuple(row) == ("completed", "trials", trials)
    attempts = await cluster.rows("SELECT j.attempt FROM trials t JOIN jobs j ON j.id = t.job_id WHERE t.study_id = $1", study)
    assert all(row["attempt"] > 1 for row in attempts), "each was killed once"
    await assert_invariants(cluster, workload)
