"""Create and change datasets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, insert, select
from sqlalchemy import update as update_rows

from db.core.audit import differences
from db.core.checks import Checks
from db.core.policy import visible
from db.core.sql import Rows, equals_any
from db.core.unique import translate_unique_violation
from db.core.work import Work
from db.errors import NameTaken, NotFound
from db.tables import Dataset, DatasetVersion
from db.tables.datasets import DatasetSource, Modality, ProblemType, SchemaPolicy

_UNIQUE = "uq_datasets_owner_id_name"


@dataclass(frozen=True, slots=True)
class NewDataset:
    """A dataset to be created; names are unique per owner, ignoring case."""

    name: str
    description: str | None = None
    modality: Modality = Modality.TABULAR
    problem_type: ProblemType | None = None
    target_column: str | None = None
    metadata: dict[str, Any] | None = None
    source: DatasetSource = DatasetSource.UPLOAD
    schema_policy: SchemaPolicy = SchemaPolicy.WARN
    owner_id: UUID | None = None
    """A team, or the viewer if None."""


class InsertedDataset(NamedTuple):
    """A new dataset, and the columns that its maker gave."""

    id: UUID
    owner_id: UUID
    values: dict[str, Any]


async def create(work: Work, new: NewDataset) -> UUID:
    """Raises `InvalidInput` or `NameTaken`."""
    dataset = await insert_new(work, new)
    work.record("create_dataset", "dataset", dataset.id, dataset.owner_id, after=dataset.values)
    return dataset.id


async def insert_new(work: Work, new: NewDataset) -> InsertedDataset:
    """`create` without an event of the audit, for what creates a dataset on its way. Raises `InvalidInput` or `NameTaken`."""
    work.viewer.require_write()
    owner_id = work.viewer.owner_of_new(new.owner_id)
    checks = Checks()
    name = checks.name(new.name, "name")
    values = {
        "name": name,
        "description": checks.text(new.description, "description"),
        "target_column": checks.text(new.target_column, "targetColumn", length=1_000),
        "meta": checks.document(new.metadata, "metadata"),
        "modality": new.modality,
        "problem_type": new.problem_type,
        "source": new.source,
        "schema_policy": new.schema_policy,
    }
    checks.raise_if_invalid()
    with translate_unique_violation(_UNIQUE, NameTaken("dataset", name)):
        dataset_id: UUID = await work.scalar(
            insert(Dataset).values(owner_id=owner_id, created_by_id=work.viewer.maker_id, **values).returning(Dataset.id)
        )
    return InsertedDataset(dataset_id, owner_id, values)


async def update(work: Work, dataset_id: UUID, changes: dict[str, Any]) -> UUID:
    """`changes` holds the fields to set, None clearing one. Raises `NotFound`, `InvalidInput` or `NameTaken`."""
    work.viewer.require_write()
    dataset = await lock(work, dataset_id)
    checks = Checks()
    values = dict(changes)
    checks.new_name(values, "A dataset")
    if "schema_policy" in values and values["schema_policy"] is None:
        checks.add("schemaPolicy", message="A dataset must have a policy; leave the field out to keep the present one.")
    if "description" in values:
        checks.text(values["description"], "description")
    if "target_column" in values:
        checks.text(values["target_column"], "targetColumn", length=1_000)
    if "metadata" in values:
        values["meta"] = checks.document(values.pop("metadata"), "metadata")
    checks.raise_if_invalid()
    if values:
        with translate_unique_violation(_UNIQUE, NameTaken("dataset", str(values.get("name")))):
            await work.run(update_rows(Dataset).where(Dataset.id == dataset_id).values(values))
        work.record("update_dataset", "dataset", dataset_id, dataset.owner_id, *differences(dataset, values))
    return dataset_id


async def lock_shared(work: Work, *dataset_ids: UUID | None) -> dict[UUID, Row[Any]]:
    """Lock those of these datasets that are not deleted against deletion until the transaction ends; return them by id.

    So no job is submitted while its dataset is deleted. The lock is shared and permits changes: submissions wait neither for each other
    nor for jobs that settle.
    """
    ids = [dataset_id for dataset_id in dataset_ids if dataset_id is not None]
    statement = select(Dataset).where(equals_any(Dataset.id, ids), Dataset.deleted_at.is_(None), visible(Dataset, work.viewer))
    rows = await work.all(statement.order_by(Dataset.id).with_for_update(read=True, key_share=True))
    return {row.id: row for row in rows}


async def lock_version_shared(work: Work, version_id: UUID, columns: Rows) -> Row[Any] | None:
    """Lock a live version against its own deletion until the transaction ends, as `lock_shared` its dataset; return these columns of it."""
    is_it = (DatasetVersion.id == version_id, DatasetVersion.deleted_at.is_(None), visible(DatasetVersion, work.viewer))
    return await work.first(columns.where(*is_it).with_for_update(of=DatasetVersion, read=True, key_share=True))


async def lock(work: Work, dataset_id: UUID) -> Row[Any]:
    """Lock a live dataset against changes until the transaction ends. Raises `NotFound`.

    Foreign keys may still refer to the row: each report of a running job does, while it holds other locks.
    """
    statement = select(Dataset).where(Dataset.id == dataset_id, Dataset.deleted_at.is_(None), visible(Dataset, work.viewer))
    row = await work.first(statement.with_for_update(key_share=True))
    if row is None:
        raise NotFound(str(dataset_id))
    return row
