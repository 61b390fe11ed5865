"""Jobs that make a new version of a dataset from a version: what they read, and the dataset that gets the new version."""

from __future__ import annotations

import secrets
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Executable, Row, Table, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.work import Work
from db.errors import NotFound, WrongState, invalid
from db.services import datasets
from db.services.free_names import free_number, numbered_base
from db.services.jobs.kinds import target_of
from db.services.jobs.retrying import lock_dataset
from db.tables import Dataset, DatasetVersion
from db.tables.datasets import MODALITIES_WITH_ITEMS, DatasetSource, DatasetVersionStatus, Modality


def _insert_dataset() -> Executable:
    table = cast("Table", Dataset.__table__)
    columns = ("owner_id", "created_by_id", "name", "description", "modality", "problem_type", "target_column", "source")
    insertion = upsert(table).values({name: bindparam(f"p_{name}", type_=table.c[name].type) for name in columns})
    is_live = table.c.deleted_at.is_(None)
    statement = insertion.on_conflict_do_nothing(index_elements=[table.c.owner_id, func.lower(table.c.name)], index_where=is_live)
    return statement.returning(table.c.id)


_INSERT_DATASET = _insert_dataset()


async def load_inputs(work: Work, version_id: UUID, output_id: UUID | None) -> tuple[Row[Any], Row[Any], Row[Any] | None]:
    """Load a READY version, its dataset and the output dataset, if one is named; lock both datasets against deletion.

    Raises `NotFound` or `WrongState`.
    """
    columns = (
        DatasetVersion.id,
        DatasetVersion.dataset_id,
        DatasetVersion.status,
        DatasetVersion.item_count,
        DatasetVersion.item_summary["splits"].label("item_splits"),
        DatasetVersion.columns.label("file_columns"),
    )
    version = await datasets.lock_version_shared(work, version_id, select(*columns))
    if version is None:
        raise NotFound(str(version_id))
    live_datasets = await datasets.lock_shared(work, version.dataset_id, output_id)
    dataset = live_datasets.get(version.dataset_id)
    if dataset is None:
        raise NotFound(str(version_id))
    if version.status is not DatasetVersionStatus.READY:
        status = version.status.name
        raise WrongState(
            status, f"The dataset version is {status}; only a READY one can be used. Wait for its ingest, or choose another version."
        )
    return version, dataset, None if output_id is None else live_datasets.get(output_id)


def require_same_owner(output_id: UUID, output: Row[Any] | None, dataset: Row[Any]) -> UUID:
    """Return the id of the named output dataset. Raises `NotFound`, or `InvalidInput` if it is not of the account of `dataset`."""
    if output is None:
        raise NotFound(str(output_id))
    if output.owner_id != dataset.owner_id:
        raise invalid("outputDatasetId", message="The output dataset belongs to another user than the dataset; both must belong to one.")
    return output.id


async def create(work: Work, dataset: Row[Any], maker: str, description: str, *, has_items: bool = False) -> UUID:
    """Create the dataset for a version that `maker` makes from one of `dataset`, named after both. `has_items` if the version is of items as well."""
    base = numbered_base(f"{dataset.name} – {maker}")
    values = {
        "owner_id": dataset.owner_id,
        "created_by_id": work.viewer.maker_id,
        "name": base,
        "description": description,
        # What is derived from items is a table of their features, unless they are written again.
        "modality": Modality.TABULAR if dataset.modality in MODALITIES_WITH_ITEMS and not has_items else dataset.modality,
        "problem_type": dataset.problem_type,
        "target_column": dataset.target_column,
        "source": DatasetSource.DERIVED,
    }
    collisions = 0
    while True:
        created_id = await work.scalar(_INSERT_DATASET, {f"p_{name}": value for name, value in values.items()})
        if created_id is not None:
            return created_id
        number = await free_number(work, "datasets", dataset.owner_id, base)
        # Concurrent transactions found the same number and one took it: the others pick at random from a growing range to collide less.
        values["name"] = f"{base} ({number + (secrets.randbelow(4**collisions) if collisions else 0)})"
        collisions += 1


async def lock_for_retry(work: Work, old: Row[Any], _new: Row[Any]) -> None:
    """Lock the output dataset of a job that is retried against deletion. Raises `WrongState` if it is deleted already."""
    await lock_dataset(work, old, target_of(old))
