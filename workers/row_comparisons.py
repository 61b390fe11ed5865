"""COMPARE: what was added, removed and changed from one version of a dataset to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from db.core.work import Work
from db.services import outputs
from db.tables import DatasetVersion
from db.tables.jobs import JobKind
from workers.fetching import load_version
from workers.registry import task
from workers.runtime.attempt import Attempt, Effects

BODY = "workers.ml.row_comparison:compare_rows"


@task(JobKind.COMPARE)
async def compare(attempt: Attempt) -> Effects:
    """Compare. A killed attempt leaves nothing, and the next one starts over."""
    parameters = attempt.job.parameters
    attempt.progress(0, "Download")
    spec: dict[str, Any] = {"key": parameters["key"]}
    for side, parameter in (("from", "fromVersionId"), ("to", "toVersionId")):
        version = await load_version(attempt, UUID(parameters[parameter]), DatasetVersion.columns)
        name = f"The file of version {version.number} of the dataset {version.name!r}"
        path = await attempt.download(version, attempt.folder / f"{side}.parquet", name, "Ingest its file again, as a new version.")
        spec[side] = {"parquet": str(path), "number": version.number, "columns": version.columns}
    answer = await attempt.run_body(BODY, spec, span=(10, 99))

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        await outputs.add_result(work, settled.id, answer)
        return ()

    return effects
