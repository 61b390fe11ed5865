"""The rows that an explanation looks at: held-out ones of the training, those of a version, one item, or rows of the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.checks import Checks, composed
from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, WrongState
from db.queries.artifacts import RESULTS
from db.services import datasets
from db.services.explanations.requests import NewExplanation
from db.services.predictions.inputs import check_columns
from db.services.predictions.signatures import Signature
from db.tables import Artifact, DatasetItem, DatasetVersion
from db.tables.datasets import DatasetVersionStatus, Modality
from db.tables.explanations import ExplanationMethod

NEEDS_ROWS = (ExplanationMethod.PERMUTATION, ExplanationMethod.PARTIAL_DEPENDENCE)
"""Methods that tell nothing of a single row."""


@dataclass(frozen=True, slots=True)
class Source:
    """The version that the rows are of, with its dataset, which is locked against deletion; None for held-out rows and rows of the request."""

    version: Row[Any] | None = None
    dataset: Row[Any] | None = None


def check_source(checks: Checks, new: NewExplanation) -> None:
    """Add an issue for each source that the method cannot take, or that is one too many."""
    named = [name for name, value in (("datasetVersionId", new.dataset_version_id), ("itemId", new.item_id), ("rows", new.rows)) if value]
    if new.rows is not None and not new.rows:
        checks.add("rows", message="Send at least one row, or leave this out.")
    for name in named[1:]:
        checks.add(name, message=f"Name one of datasetVersionId, itemId and rows; there is {named[0]} already.")
    if new.method is ExplanationMethod.OCCLUSION and new.item_id is None:
        checks.add("itemId", message="OCCLUSION hides parts of one item: name it.")
    if new.method in NEEDS_ROWS and new.item_id is not None:
        checks.add("itemId", message=f"{new.method.name} compares many rows. Name a datasetVersionId, or leave this out.")
    if new.rows and new.method is ExplanationMethod.PERMUTATION:
        message = "PERMUTATION compares predictions with the target. Name a datasetVersionId that has it, or leave the rows out."
        checks.add("rows", message=message)
    if new.rows and new.method is ExplanationMethod.PARTIAL_DEPENDENCE and len(new.rows) < 2:
        checks.add("rows", message="PARTIAL_DEPENDENCE compares rows: send at least two.")


async def find_source(work: Work, new: NewExplanation, model: Row[Any], signature: Signature, checks: Checks) -> Source:
    """Find and lock what the rows are of. Raises `NotFound` or `WrongState`; adds what the model cannot take to the checks."""
    if new.item_id is not None or new.dataset_version_id is not None:
        return await _source_of_version(work, new, model, signature, checks)
    if new.rows is None and not await _has_results(work, model.id):
        message = "The model version has no file of held-out rows, as imported ones have not. Name a dataset version, an item or rows."
        checks.add("datasetVersionId", message=message)
    return Source()


async def _source_of_version(work: Work, new: NewExplanation, model: Row[Any], signature: Signature, checks: Checks) -> Source:
    version_id = new.dataset_version_id if new.item_id is None else await _version_of_item(work, new.item_id, checks)
    columns = (
        DatasetVersion.id,
        DatasetVersion.dataset_id,
        DatasetVersion.status,
        DatasetVersion.item_count,
        DatasetVersion.columns.label("file_columns"),
    )
    version = None if version_id is None else await datasets.lock_version_shared(work, version_id, select(*columns))
    dataset = None if version is None else (await datasets.lock_shared(work, version.dataset_id)).get(version.dataset_id)
    if version is None or dataset is None:
        raise NotFound(str(new.item_id or new.dataset_version_id))
    if version.status is not DatasetVersionStatus.READY:
        status = version.status.name
        message = f"The dataset version is {status}; only a READY one can be explained. Wait for its ingest, or choose another version."
        raise WrongState(status, message)
    field = "datasetVersionId" if new.item_id is None else "itemId"
    if dataset.owner_id != model.owner_id:
        checks.add(field, message="Model and dataset belong to different users; both must belong to one.")
    if new.item_id is not None and dataset.modality is Modality.MULTIMODAL:
        checks.add(field, message="Items of MULTIMODAL data are parts of rows. Explain rows: name the datasetVersionId instead.")
    found = Checks()
    check_columns(found, version.file_columns, signature, dataset.modality, version.item_count)
    for issue in found.issues:
        checks.add(field, message=issue.message)
    if new.method is ExplanationMethod.PERMUTATION and not _has_column(version.file_columns, signature.target):
        message = f"The version does not have the model's target {signature.target!r}, which PERMUTATION compares predictions with."
        checks.add(field, message=f"{message} Choose another version, or leave it out.")
    return Source(version, dataset)


async def _version_of_item(work: Work, item_id: UUID, checks: Checks) -> UUID:
    statement = select(DatasetItem.version_id, DatasetItem.info.is_not(None).label("is_readable"))
    item = await work.first(statement.where(DatasetItem.id == item_id, visible(DatasetItem, work.viewer)))
    if item is None:
        raise NotFound(str(item_id))
    if not item.is_readable:
        checks.add("itemId", message="The item could not be read, so there is nothing to explain. Choose another one.")
    return item.version_id


async def _has_results(work: Work, model_version_id: UUID) -> bool:
    is_results = (Artifact.model_version_id == model_version_id) & (Artifact.role == RESULTS)
    return await work.scalar(select(Artifact.id).where(is_results).limit(1)) is not None


def _has_column(columns: list[Mapping[str, Any]], name: str | None) -> bool:
    return name is not None and any(composed(str(column["name"])) == name for column in columns)
