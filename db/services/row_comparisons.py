"""Comparisons of the rows of two versions of a dataset, by a key: a job finds what was added, removed and changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.audit import ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.suggestions import closest
from db.core.work import Work
from db.errors import NotFound, WrongState
from db.services import datasets, idempotency, jobs
from db.tables import DatasetVersion
from db.tables.datasets import DatasetVersionStatus
from db.tables.jobs import JobKind

OPERATION = "compareRows"
MAX_KEY = 10  # columns

KIND = jobs.declare(jobs.JobKindSpec(JobKind.COMPARE, title="comparison of rows"))


@dataclass(frozen=True, slots=True)
class RowComparison:
    """Two versions of one dataset, and the columns by which their rows are the same ones."""

    from_id: UUID
    to_id: UUID
    key: Sequence[str]
    idempotency_key: str | None = None


async def submit(work: Work, new: RowComparison) -> UUID:
    """Submit the job of a comparison and return its id; its result has the answer.

    Raises `NotFound`, `InvalidInput`, `WrongState` or `Conflict`; the end of the unit of work `InsufficientCredits`.
    """
    work.viewer.require_write()
    request = {key: value for key, value in asdict(new).items() if key != "idempotency_key"}
    stored_answer = await idempotency.recall(work, OPERATION, new.idempotency_key, request)
    if stored_answer is not None:
        return UUID(stored_answer["job"])
    versions = [await _version(work, version_id) for version_id in (new.from_id, new.to_id)]
    first, second = versions
    locked = await datasets.lock_shared(work, *{version.dataset_id for version in versions})
    for version in versions:
        if version.dataset_id not in locked:
            raise NotFound(str(version.id))
    checks = Checks()
    if first.dataset_id != second.dataset_id:
        checks.add("to", message="Both versions have to be of one dataset; this one is of another than `from`.")
    checks.raise_if_invalid()
    for version in versions:
        if version.status is not DatasetVersionStatus.READY:
            status = version.status.name
            raise WrongState(status, f"Version {version.number} is {status}; only READY versions have rows. Wait for its ingest.")
    _check_key(checks, new.key, versions)
    checks.raise_if_invalid()
    dataset = locked[second.dataset_id]
    job = await jobs.submit(
        work,
        jobs.NewJob(
            owner_id=dataset.owner_id,
            kind=KIND.kind,
            queue=jobs.queue_for(KIND.kind, dataset.modality),
            parameters={"fromVersionId": str(first.id), "toVersionId": str(second.id), "key": list(new.key)},
            dataset_id=dataset.id,
            dataset_version_id=second.id,
            inputs=[first.id, second.id],
        ),
    )
    await idempotency.remember(work, new.idempotency_key, {"job": str(job.id)})
    after = {"from": ref("version", first.id), "to": ref("version", second.id), "key": list(new.key)}
    work.record("compare_rows", "job", job.id, job.owner_id, after=after)
    return job.id


async def _version(work: Work, version_id: UUID) -> Row[Any]:
    columns = (DatasetVersion.id, DatasetVersion.dataset_id, DatasetVersion.number, DatasetVersion.status, DatasetVersion.columns)
    version = await work.first(select(*columns).where(DatasetVersion.id == version_id, visible(DatasetVersion, work.viewer)))
    if version is None:
        raise NotFound(str(version_id))
    return version


def _check_key(checks: Checks, key: Sequence[str], versions: Sequence[Row[Any]]) -> None:
    if not 1 <= len(key) <= MAX_KEY or len(set(key)) < len(key):
        checks.add("key", message=f"A key is 1 to {MAX_KEY} columns, each named once.")
        return
    types = [{column["name"]: column["type"] for column in version.columns} for version in versions]
    for position, name in enumerate(key):
        missing = next((number for number, names in enumerate(types) if name not in names), None)
        if missing is not None:
            close = closest(name, types[missing])
            hint = f"Did you mean {close!r}?" if close is not None else f"Its columns are: {', '.join(list(types[missing])[:20])}."
            checks.add("key", position, message=f"Version {versions[missing].number} has no column {name[:100]!r}. {hint}")
        elif types[0][name] != types[1][name] and not {types[0][name], types[1][name]} <= _TEXTS:
            before, after = types[0][name], types[1][name]
            message = (
                f"The column {name[:100]!r} is {before} in version {versions[0].number} and {after} in version {versions[1].number},"
                " so its values are never equal. Choose another key."
            )
            checks.add("key", position, message=message)


_TEXTS = {"STRING", "CATEGORY"}
"""Types of columns that hold texts: which it is depends on how many distinct ones there are."""
