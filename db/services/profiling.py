"""Profile a version that exists: a PROFILE job computes the statistics again, with the profiler of the workers' release."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row

from db.core.work import Work
from db.services import jobs, outputs, version_jobs, versions
from db.services.outputs import Result, StoredFile
from db.tables import DatasetProfile
from db.tables.jobs import JobKind

OPERATION = "profileVersion"
PROFILE = jobs.declare(jobs.JobKindSpec(JobKind.PROFILE, title="profile", queue="upload", outputs=(DatasetProfile,)))


async def submit(work: Work, version_id: UUID, idempotency_key: str | None = None) -> UUID:
    """Submit the job; see `version_jobs.submit`."""
    return await version_jobs.submit(work, PROFILE, OPERATION, "profile_version", version_id, idempotency_key)


async def complete(work: Work, job: Row[Any], profiler_version: str, report: Result | None, file: StoredFile | None) -> list[str]:
    """Add the profile, and tell in the job's result whether it is new; return the keys of objects that are not needed.

    Without a `report`, and where another job was faster, the version has a profile by this profiler already. Its data never change, so that
    one stays, with the id that clients know.
    """
    duplicate_keys: list[str] = []
    profile_id = None
    if report is not None:
        profile_id = await versions.add_profile(work, job, job.dataset_version_id, report, file, duplicate_keys)
    await outputs.add_result(work, job.id, {"profilerVersion": profiler_version, "isNew": profile_id is not None})
    if profile_id is not None:
        await outputs.add_outputs(work, job, [(DatasetProfile, profile_id)])
    return duplicate_keys
