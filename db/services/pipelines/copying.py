"""Copy a pipeline that the viewer may see, or a template that ships, to an account of theirs."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from db.core.audit import ref
from db.core.policy import visible_or_shipped
from db.core.work import Work
from db.errors import NotFound
from db.services import idempotency
from db.services.pipelines.editing import NewPipeline, insert_pipeline
from db.tables import Pipeline

OPERATION = "copyPipeline"


async def copy(work: Work, pipeline_id: UUID, name: str | None, owner_id: UUID | None, idempotency_key: str | None) -> UUID:
    """Return the id of the copy, which is no template and at version 1. It has the name of the original where none is given.

    Raises `NotFound`, `NameTaken`, `InvalidInput` (for a definition, too, that steps of this release do not accept) or `Conflict`.
    """
    work.viewer.require_write()
    work.viewer.owner_of_new(owner_id)
    request = {"pipeline": pipeline_id, "name": name, "owner": owner_id}
    stored_answer = await idempotency.recall(work, OPERATION, idempotency_key, request)
    if stored_answer is not None:
        return UUID(stored_answer["pipeline"])
    columns = (Pipeline.name, Pipeline.description, Pipeline.modality, Pipeline.task_key, Pipeline.definition)
    statement = select(*columns).where(Pipeline.id == pipeline_id, Pipeline.deleted_at.is_(None), visible_or_shipped(Pipeline, work.viewer))
    original = await work.first(statement)
    if original is None:
        raise NotFound(str(pipeline_id))
    copy_id, copy_owner_id, values = await insert_pipeline(
        work,
        NewPipeline(
            name=original.name if name is None else name,
            description=original.description,
            modality=original.modality,
            definition=original.definition,
            owner_id=owner_id,
            task_key=original.task_key,
        ),
    )
    await idempotency.remember(work, idempotency_key, {"pipeline": str(copy_id)})
    work.record("copy_pipeline", "pipeline", copy_id, copy_owner_id, after={**values, "copied_from": ref("pipeline", pipeline_id)})
    return copy_id
