"""The dataset versions that steps of a pipeline read besides the one that it is run on (`x-version` in the step's parameter schema)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.checks import Checks, canonical_name
from db.core.policy import visible
from db.core.sql import equals_any
from db.core.work import Work
from db.errors import Issue
from db.services import datasets
from db.services.pipelines.definitions import Definition, Steps, marked, parameter_issues
from db.tables import Dataset, DatasetVersion
from db.tables.datasets import DatasetVersionStatus

PREFIX = "version_"
MAX_COLUMNS = 10_000  # a pipeline of some kilobytes can join a wide version a hundred times


@dataclass(frozen=True, slots=True)
class Joined:
    """The versions that are read, the columns of the table that the steps after them get, [{name, type}], and what is wrong."""

    versions: list[UUID]
    columns: list[Mapping[str, Any]]
    issues: list[Issue]


async def load(work: Work, definition: Definition, steps: Steps, owner_id: UUID, columns: Sequence[Mapping[str, Any]]) -> Joined:
    """Check the versions that the steps join, and lock their datasets against deletion. Versions of others do not exist."""
    checks, table = Checks(), list(columns)
    named: list[tuple[int, str, UUID]] = []
    for index, node in enumerate(definition["nodes"]):
        step = steps.get(node["step"])
        versions = [] if step is None else list(marked(step.parameter_schema, node["parameters"], "x-version"))
        if step is None or not versions or parameter_issues(step, node["parameters"]):
            continue  # reads no other version, or is reported with the definition
        named += [(index, str(path[-1]), UUID(hex=id_.removeprefix(PREFIX))) for path, id_ in versions]
    if not named:
        return Joined([], table, [])
    rows = await _versions(work, [id_ for _, _, id_ in named])
    live = await datasets.lock_shared(work, *{row.dataset_id for row in rows.values()})
    for index, parameter, id_ in named:
        place = ("definition", "nodes", index, "parameters", parameter)
        row = rows.get(id_)
        if row is None or row.dataset_id not in live:
            checks.add(*place, message="There is no dataset version with this id. Name one of yours.")
        elif row.owner_id != owner_id:
            checks.add(*place, message="This version belongs to another account than the dataset; both must belong to one.")
        elif row.status is not DatasetVersionStatus.READY:
            checks.add(
                *place,
                message=f"The dataset version is {row.status.name}; only a READY one can be joined. Wait for its ingest, or name another.",
            )
        else:
            parameters = definition["nodes"][index]["parameters"]
            schema = steps[definition["nodes"][index]["step"]].parameter_schema
            _check_columns(checks, index, schema, parameters, row)
            table += _added(parameters, row.file_columns, {column["name"] for column in table})
            if len(table) > MAX_COLUMNS:
                checks.add(*place, message=f"The table would have more than {MAX_COLUMNS:,} columns. Name the ones to add in `columns`.")
                break
    return Joined(list(dict.fromkeys(id_ for _, _, id_ in named)), table, checks.issues)


async def _versions(work: Work, ids: list[UUID]) -> dict[UUID, Row[Any]]:
    statement = (
        select(
            DatasetVersion.id,
            DatasetVersion.dataset_id,
            DatasetVersion.status,
            DatasetVersion.columns.label("file_columns"),
            Dataset.owner_id,
        )
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(equals_any(DatasetVersion.id, ids), DatasetVersion.deleted_at.is_(None), visible(DatasetVersion, work.viewer))
        .order_by(DatasetVersion.id)
        .with_for_update(of=DatasetVersion, read=True, key_share=True)
    )
    return {row.id: row for row in await work.all(statement)}


def _check_columns(checks: Checks, index: int, schema: Mapping[str, Any], parameters: Mapping[str, Any], row: Row[Any]) -> None:
    present = {canonical_name(column["name"]) for column in row.file_columns}
    named = list(marked(schema, parameters, "x-other-column"))
    if parameters.get("other_on") is None:
        named += [(("on", position), name) for position, name in enumerate(parameters["on"])]
    for path, name in named:
        if canonical_name(name) not in present:
            message = f"The joined version has no column {name[:100]!r}."
            checks.add("definition", "nodes", index, "parameters", *path, message=message)


def _added(parameters: Mapping[str, Any], columns: Sequence[Mapping[str, Any]], taken: set[str]) -> list[Mapping[str, Any]]:
    """Return the columns that are added, under the names that they get: a taken one gets the first free number from 2."""
    keys = {canonical_name(name) for name in parameters.get("other_on") or parameters["on"]}
    chosen = None if parameters.get("columns") is None else {canonical_name(name) for name in parameters["columns"]}
    added: list[Mapping[str, Any]] = []
    for column in columns:
        name = canonical_name(column["name"])
        if name in chosen if chosen is not None else name not in keys:
            unique = name if name not in taken else next(other for number in count(2) if (other := f"{name}_{number}") not in taken)
            taken.add(unique)
            added.append({"name": unique, "type": column["type"]})
    return added
