"""DEDUCE_SCHEMA: propose a schema for a version from its profile and its first rows, without reading its file again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Row, select

from db.core.work import Work
from db.services import deducing
from db.services.jobs import Failure
from db.tables import Dataset, DatasetProfile, DatasetVersion, StoredObject
from db.tables.jobs import JobKind
from workers.datasets import declared
from workers.registry import task
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.failures import BodyFailed

BODY = "workers.ml.schema_proposal.body:propose_stored"


@task(JobKind.DEDUCE_SCHEMA)
async def deduce_schema(attempt: Attempt) -> Effects:
    """Propose in a body; the settle adds the proposal. A killed attempt leaves nothing, and the next one starts over."""
    statement = (
        select(
            Dataset.target_column,
            Dataset.problem_type,
            DatasetVersion.number,
            DatasetVersion.preview,
            DatasetProfile.row_count,
            DatasetProfile.is_exact,
            DatasetProfile.report,
            StoredObject.object_key,
            StoredObject.size_bytes,
            StoredObject.sha256,
        )
        .join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
        .join(DatasetProfile, DatasetProfile.version_id == DatasetVersion.id)
        .outerjoin(StoredObject, StoredObject.id == DatasetProfile.report_object_id)
        .where(DatasetVersion.id == attempt.job.dataset_version_id)
        .order_by(DatasetProfile.generated_at.desc(), DatasetProfile.id.desc())
        .limit(1)
    )
    rows = await attempt.database.rows(statement)
    if not rows:
        raise BodyFailed(
            Failure("NO_PROFILE", "The version has no profile to propose a schema from. Ingest its file again.", retryable=False)
        )
    version = rows[0]
    attempt.progress(5, "Propose a schema")
    profile = {"columns": (await _report(attempt, version))["columns"], "row_count": version.row_count, "is_exact": version.is_exact}
    path = attempt.folder / "version.json"
    path.write_bytes(orjson.dumps({"profile": profile, "rows": version.preview}))
    proposal = await attempt.run_body(BODY, {"source": str(path), "declared": declared(version)}, span=(5, 99))

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        await deducing.complete(work, settled, proposal)
        return ()

    return effects


async def _report(attempt: Attempt, version: Row[Any]) -> dict[str, Any]:
    """Return the profile's report from its row or, if it is large, from its object."""
    if version.report is not None:
        return version.report
    name, remedy = f"The profile of version {version.number}", "Ingest its file again, as a new version."
    path = await attempt.download(version, attempt.folder / "profile.json", name, remedy)
    return orjson.loads(path.read_bytes())
