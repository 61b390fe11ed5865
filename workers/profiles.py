"""PROFILE: compute the statistics of a version again, with the profiler of this release."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from db.core.work import Work
from db.services import profiling
from db.tables import DatasetProfile, DatasetVersion
from db.tables.jobs import JobKind
from workers.datasets import store_profile
from workers.fetching import download_table, load_version
from workers.ml import stages
from workers.ml.profiler_version import PROFILER_VERSION
from workers.registry import task
from workers.runtime.attempt import Attempt, Effects

BODY = "workers.ml.profiling.body:profile_version"
FETCH, STORE = "fetch", "store"
STAGES = {FETCH: "Fetch", stages.PROFILE: "Profile", STORE: "Store"}  # with their titles


@task(JobKind.PROFILE)
async def profile(attempt: Attempt) -> Effects:
    """Profile in a body, unless the version has a profile by this profiler. A killed attempt leaves nothing, and the next one starts over."""
    job = attempt.job
    existing = select(DatasetProfile.id).where(
        DatasetProfile.version_id == job.dataset_version_id, DatasetProfile.profiler_version == PROFILER_VERSION
    )
    report, file = None, None
    if not await attempt.database.rows(existing):
        report, file = await _profile(attempt)

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        return await profiling.complete(work, settled, PROFILER_VERSION, report, file)

    return effects


async def _profile(attempt: Attempt) -> tuple[dict[str, Any], Any]:
    job = attempt.job
    version = await load_version(attempt, job.dataset_version_id, DatasetVersion.original_filename)
    await attempt.begin_nodes([(key, key) for key in STAGES], STAGES)
    attempt.progress(0, "Fetch")
    with attempt.stage(FETCH) as output:
        path = await download_table(attempt, version)
        output["bytes"] = version.size_bytes
    report = await attempt.run_body(BODY, {"parquet": str(path)}, span=(5, 95))
    attempt.progress(95, "Store")
    with attempt.stage(STORE):
        prefix = f"datasets/{job.owner_id}/{job.dataset_id}/{job.dataset_version_id}"
        stem = Path(version.original_filename or "data").stem
        file = await store_profile(attempt, prefix, report, f"{stem}.profile.json")
    return report, file
