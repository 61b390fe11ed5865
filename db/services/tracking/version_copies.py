"""Copies of model versions, under the same or another model of the same account. A copy refers to the same stored bytes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import insert, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.annotations import changed_annotations
from db.core.audit import ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, invalid
from db.services import models, quota
from db.tables import Artifact, DatasetVersion, Model, ModelDataset, ModelVersion

_OWN = frozenset({"id", "model_id", "number", "label", "description", "annotations", "job_id", "created_at", "deleted_at", "purged_at"})
"""What a version has of its own; a copy is no result of the job that trained the original."""
_FILE = ("owner_id", "object_id", "path", "step", "role", "filename", "content_type")


async def copy(work: Work, version_id: UUID, model_id: UUID, description: str | None = None, annotations: Any = None) -> UUID:
    """Add a copy of a version to a model of the same account; return its id.

    Raises `NotFound`, `InvalidInput`, `Conflict` for a model of another problem type, or `Forbidden`; the end of the unit of work `QuotaExceeded`.
    """
    work.viewer.require_write()
    model = await models.lock(work, model_id)
    work.viewer.require_write_in(model.owner_id)
    is_live = (Model.deleted_at.is_(None), ModelVersion.deleted_at.is_(None))
    original = await work.first(
        select(*ModelVersion.__table__.c, Model.owner_id)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(ModelVersion.id == version_id, *is_live, visible(ModelVersion, work.viewer))
        .with_for_update(of=ModelVersion, read=True, key_share=True)
    )
    if original is None:
        raise NotFound(str(version_id))
    if original.owner_id != model.owner_id:
        raise invalid("source", message="This version belongs to another account than the model. Versions are copied within one account.")
    checks = Checks()
    checks.text(description, "description")
    values = {
        **{name: getattr(original, name) for name in ModelVersion.__table__.c.keys() if name not in _OWN},  # noqa: SIM118 - of columns, not of a dict
        "model_id": await models.ensure_model(work, model.owner_id, work.viewer.maker_id, original.problem_type, model.name),
        "description": description,
        "annotations": changed_annotations(checks, {}, annotations),
    }
    checks.raise_if_invalid()
    number = await models.next_number(work, model_id)
    copy_id: UUID = await work.scalar(insert(ModelVersion).values(number=number, **values).returning(ModelVersion.id))
    files = select(*(getattr(Artifact, name) for name in _FILE), literal(copy_id, Artifact.model_version_id.type))
    own = (Artifact.model_version_id == version_id, Artifact.export_id.is_(None), Artifact.explanation_id.is_(None))
    await work.run(insert(Artifact).from_select([*_FILE, "model_version_id"], files.where(*own)))
    datasets = select(literal(model_id, ModelDataset.model_id.type), DatasetVersion.dataset_id).where(
        DatasetVersion.id == original.dataset_version_id
    )
    await work.run(upsert(ModelDataset).from_select(["model_id", "dataset_id"], datasets).on_conflict_do_nothing())
    quota.check_before_commit(work, model.owner_id)
    after = {"model": ref("model", model_id), "number": number, "copied_from": ref("mversion", version_id)}
    work.record("copy_model_version", "mversion", copy_id, model.owner_id, after=after)
    return copy_id
