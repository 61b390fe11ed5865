"""Log what data an external run reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Text, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.checks import Checks
from db.core.policy import visible
from db.core.sql import equals_any
from db.core.work import Work
from db.errors import invalid
from db.services.tracking.runs import heartbeat, lock
from db.tables import Artifact, Dataset, DatasetVersion, Run, RunInput, StoredObject
from db.tables.datasets import DatasetVersionStatus

MAX_INPUTS = 100  # of one run
SOURCE_LENGTH, DIGEST_LENGTH, TEXT_LENGTH = 1_000, 250, 500
_ID = re.compile(r"(?:trellis://)?version_([0-9a-f]{32})", re.ASCII)
_LIKE_AN_ID = re.compile(r"trellis://|version_[0-9a-f]{32}$", re.ASCII)
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NamedInput:
    """Data as the code that reads it names it: an id of a version, `trellis://` and an id, a SHA-256, or anything else."""

    source: str
    digest: str | None = None
    name: str | None = None
    context: str | None = None

    @property
    def version_id(self) -> UUID | None:
        """The version that it names by its id."""
        match = _ID.fullmatch(self.source)
        return None if match is None else UUID(hex=match[1])

    @property
    def sha256s(self) -> list[str]:
        """The SHA-256 that it names, if it names any."""
        matches = (_SHA256.fullmatch(text) for text in (self.source, self.digest or ""))
        return [match[1].lower() for match in matches if match is not None]


async def log(work: Work, run_id: UUID, inputs: Sequence[NamedInput]) -> UUID:
    """Add inputs, all of them or none. One that the run has stays as it is; what names no version of the run's owner is kept as it was named.

    Raises `InvalidInput`, also for an id of no version of the run's owner, `NotFound`, or `WrongState` for the run of a job.
    """
    run = await lock(work, run_id)
    _check(inputs)
    by_id, by_sha256 = await _versions(work, run.owner_id, inputs)
    checks = Checks()
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for position, given in enumerate(inputs):
        version = by_id.get(given.version_id) if given.version_id is not None else None
        if version is None and _LIKE_AN_ID.match(given.source):
            checks.add(
                "inputs",
                str(position),
                "source",
                message="This is the id of no dataset version that you can see and that the run's owner owns.",
            )
        version = version or next((by_sha256[text] for text in given.sha256s if text in by_sha256), None)
        values = {"source": given.source, "digest": given.digest or "", "name": given.name, "context": given.context}
        rows.setdefault((given.source, given.digest or ""), {"run_id": run_id, **values, "dataset_version_id": version})
    checks.raise_if_invalid()
    insertion = upsert(RunInput).values(list(rows.values())).on_conflict_do_nothing()
    added = await work.all(insertion.returning(RunInput.source, RunInput.digest, RunInput.dataset_version_id))
    count: int = await work.scalar(select(func.count()).select_from(RunInput).where(RunInput.run_id == run_id))
    if count > MAX_INPUTS:
        raise invalid("inputs", message=f"The run would have {count} inputs; at most {MAX_INPUTS} are kept.")
    changes = heartbeat()
    first = next((row["dataset_version_id"] for row in rows.values() if row["dataset_version_id"] is not None), None)
    if run.dataset_version_id is None and first is not None:
        dataset_id = select(DatasetVersion.dataset_id).where(DatasetVersion.id == first).scalar_subquery()
        changes |= {"dataset_version_id": first, "dataset_id": dataset_id}
    if added:
        work.record("log_inputs", "run", run_id, run.owner_id, after={"inputs": sorted(row.source for row in added)})
    else:  # a sign of life is no change of the run
        changes["last_batch"] = Run.last_batch + 1
    await work.run(update(Run).where(Run.id == run_id).values(changes))
    return run_id


def _check(inputs: Sequence[NamedInput]) -> None:
    if not 1 <= len(inputs) <= MAX_INPUTS:
        raise invalid("inputs", message=f"These are {len(inputs)} inputs; between 1 and {MAX_INPUTS} are logged at once.")
    checks = Checks()
    for position, given in enumerate(inputs):
        place = ("inputs", str(position))
        if not given.source.strip():
            checks.add(*place, "source", message="An input needs a source: an id, a SHA-256, or another name of the data.")
        checks.text(given.source, *place, "source", length=SOURCE_LENGTH)
        checks.text(given.digest, *place, "digest", length=DIGEST_LENGTH)
        checks.text(given.name, *place, "name", length=TEXT_LENGTH)
        checks.text(given.context, *place, "context", length=TEXT_LENGTH)
    checks.raise_if_invalid()


async def _versions(work: Work, owner_id: UUID, inputs: Sequence[NamedInput]) -> tuple[Mapping[UUID, UUID], Mapping[str, UUID]]:
    """The versions of this owner that are named by an id; and the newest READY one of each SHA-256: of its raw, or of its processed file."""
    of_owner = (
        select(DatasetVersion.id, DatasetVersion.sha256)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(Dataset.owner_id == owner_id, DatasetVersion.deleted_at.is_(None), Dataset.deleted_at.is_(None))
        .where(visible(DatasetVersion, work.viewer))
    )
    ids = [given.version_id for given in inputs if given.version_id is not None]
    by_id = {row.id: row.id for row in await work.all(of_owner.where(equals_any(DatasetVersion.id, ids)))} if ids else {}
    sha256s = [text for given in inputs for text in given.sha256s]
    if not sha256s:
        return by_id, {}
    is_ready = DatasetVersion.status == literal_column(f"'{DatasetVersionStatus.READY.value}'", Text)  # as the index has it
    files = select(Artifact.dataset_version_id, StoredObject.sha256).join(StoredObject, StoredObject.id == Artifact.object_id)
    files = files.where(StoredObject.owner_id == owner_id, equals_any(StoredObject.sha256, sha256s)).subquery("files")
    by_file = of_owner.with_only_columns(DatasetVersion.id, files.c.sha256).join(files, files.c.dataset_version_id == DatasetVersion.id)
    rows = [
        *await work.all(of_owner.where(is_ready, equals_any(DatasetVersion.sha256, sha256s))),
        *await work.all(by_file.where(is_ready)),
    ]
    return by_id, {row.sha256: row.id for row in sorted(rows, key=lambda row: row.id)}
