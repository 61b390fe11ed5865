"""Create and change pipelines. A sound definition is saved, as DRAFT until it is complete; an unsound one is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select
from sqlalchemy import update as update_rows

from db.core.audit import differences
from db.core.checks import Checks
from db.core.policy import visible_or_shipped
from db.core.unique import translate_unique_violation
from db.core.viewer import SHIPPED_ACCOUNT
from db.core.work import Work
from db.errors import Conflict, Issue, NameTaken, NotFound, WrongState, invalid
from db.services.pipelines import contents, definitions
from db.tables import Pipeline, User
from db.tables.datasets import Modality
from db.tables.pipelines import PipelineStatus

_UNIQUE = "uq_pipelines_owner_id_name"


@dataclass(frozen=True, slots=True)
class NewPipeline:
    """A pipeline to be created; `definition` is {"nodes": [{key, step, parameters}], "links": [{source, target}]}."""

    name: str
    definition: dict[str, Any]
    description: str | None = None
    modality: Modality = Modality.TABULAR
    is_template: bool = False
    owner_id: UUID | None = None
    """A team, or the viewer if None."""
    task_key: str | None = None


async def create(work: Work, new: NewPipeline) -> UUID:
    """Raises `InvalidInput` or `NameTaken`."""
    pipeline_id, owner_id, values = await insert_pipeline(work, new)
    work.record("create_pipeline", "pipeline", pipeline_id, owner_id, after=values)
    return pipeline_id


async def insert_pipeline(work: Work, new: NewPipeline) -> tuple[UUID, UUID, dict[str, Any]]:
    """Check and insert a pipeline; return its id, its owner and its other columns. Raises `InvalidInput` or `NameTaken`."""
    work.viewer.require_write()
    owner_id = work.viewer.owner_of_new(new.owner_id)
    checks = Checks()
    name = checks.name(new.name, "name")
    checks.text(new.description, "description")
    steps = await definitions.load_steps(work)
    definition = definitions.normalise(new.definition)
    checks.issues.extend(definitions.soundness_issues(definition, steps, new.modality))
    checks.raise_if_invalid()
    is_complete = not _missing(definition, steps, new.modality)
    values = {
        "name": name,
        "description": new.description,
        "modality": new.modality,
        "is_template": new.is_template,
        "definition": definition,
        "status": PipelineStatus.VALIDATED if is_complete else PipelineStatus.DRAFT,
        **({} if new.task_key is None else {"task_key": new.task_key}),
    }
    statement = insert(Pipeline).values(
        owner_id=owner_id, created_by_id=work.viewer.maker_id, validated_at=func.now() if is_complete else None, **values
    )
    with translate_unique_violation(_UNIQUE, NameTaken("pipeline", name)):
        pipeline_id: UUID = await work.scalar(statement.returning(Pipeline.id))
    return pipeline_id, owner_id, values


async def update(work: Work, pipeline_id: UUID, expected_version: int | None, changes: dict[str, Any]) -> UUID:
    """`changes` holds the fields to set: name, description, definition, status, is_template. Each change increments the version.

    Raises `NotFound`, `InvalidInput`, `NameTaken`, `Conflict` (the pipeline is not at `expected_version`) or `WrongState`.
    """
    work.viewer.require_write()
    pipeline = await lock(work, pipeline_id)
    refuse_shipped(pipeline, "id", "change")
    if expected_version is not None and expected_version != pipeline.version:
        raise Conflict(
            f"The pipeline is at version {pipeline.version}, not {expected_version}: somebody changed it. Read it again and repeat your change."
        )
    checks = Checks()
    values = dict(changes)
    checks.new_name(values, "A pipeline")
    if "description" in values:
        checks.text(values["description"], "description")
    for field, path in (("definition", "definition"), ("status", "status"), ("is_template", "isTemplate")):
        if field in values and values[field] is None:
            checks.add(path, message="This cannot be cleared; leave the field out to keep the present one.")
    checks.raise_if_invalid()
    if "definition" in values or "status" in values:
        values.update(await _validated_changes(work, pipeline, values))
    if values:
        with translate_unique_violation(_UNIQUE, NameTaken("pipeline", str(values.get("name")))):
            await work.run(update_rows(Pipeline).where(Pipeline.id == pipeline_id).values(version=Pipeline.version + 1, **values))
        # The pipeline is locked, so this is the version that the update sets.
        before, after = differences(pipeline, {"version": pipeline.version + 1, **values})
        work.record("update_pipeline", "pipeline", pipeline_id, pipeline.owner_id, before, after)
    return pipeline_id


async def _validated_changes(work: Work, pipeline: Row[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the new definition, status and `validated_at`."""
    requested_status: PipelineStatus | None = values.get("status")
    if pipeline.status is PipelineStatus.ARCHIVED and requested_status in {None, PipelineStatus.ARCHIVED} and "definition" in values:
        raise WrongState(
            "ARCHIVED", "An archived pipeline's definition stays as it is. Set its status to DRAFT or VALIDATED with the change."
        )
    steps = await definitions.load_steps(work)
    definition = definitions.normalise(values.get("definition") or pipeline.definition)
    checks = Checks()
    checks.issues.extend(definitions.soundness_issues(definition, steps, pipeline.modality) if "definition" in values else [])
    missing = _missing(definition, steps, pipeline.modality)
    if requested_status is PipelineStatus.VALIDATED:
        checks.issues.extend(missing)
    checks.raise_if_invalid()
    status = requested_status or (PipelineStatus.DRAFT if missing else PipelineStatus.VALIDATED)
    result: dict[str, Any] = {"definition": definition, "status": status}
    if status is PipelineStatus.VALIDATED:
        result["validated_at"] = func.now()
    elif status is PipelineStatus.DRAFT:
        result["validated_at"] = None
    return result


def _missing(definition: definitions.Definition, steps: definitions.Steps, modality: Modality) -> list[Issue]:
    """Return what keeps a sound definition from being run."""
    return definitions.completeness_issues(definition, steps) or contents.effect_issues(definition, steps, modality)


async def lock(work: Work, pipeline_id: UUID, *, to_run: bool = False) -> Row[Any]:
    """Lock a live pipeline against changes until the transaction ends; `to_run`, only against removal of the row. It may be a template that ships.
    Raises `NotFound`.

    A run freezes the definition that it read, so it need not wait for other runs or changes. The row has also `owner_tier`.
    """
    owner_tier = select(User.tier).where(User.id == Pipeline.owner_id).scalar_subquery().label("owner_tier")
    statement = select(Pipeline, owner_tier).where(
        Pipeline.id == pipeline_id, Pipeline.deleted_at.is_(None), visible_or_shipped(Pipeline, work.viewer)
    )
    row = await work.first(statement.with_for_update(read=to_run, key_share=True))
    if row is None:
        raise NotFound(str(pipeline_id))
    return row


def refuse_shipped(pipeline: Row[Any], path: str, action: str) -> None:
    """Raise `InvalidInput` for a template that ships: not even an admin changes one, and what a run makes belongs to the owner of its pipeline."""
    if pipeline.owner_id == SHIPPED_ACCOUNT:
        raise invalid(
            path, message=f"{pipeline.name!r} is a template that ships with Trellis. Copy it with `copyPipeline`, and {action} the copy."
        )
