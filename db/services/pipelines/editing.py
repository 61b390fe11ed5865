"""Making and changing pipelines. A sound definition is kept, as DRAFT until it is complete; an unsound one is refused whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select
from sqlalchemy import update as update_rows

from db.core.checks import Checks
from db.core.unique import violation
from db.core.work import Work
from db.errors import Conflict, NameTaken, NotFound, WrongState
from db.queries.pipelines import visible
from db.services.pipelines import definitions
from db.tables import Pipeline
from db.tables.datasets import Modality
from db.tables.pipelines import PipelineStatus

_UNIQUE = "uq_pipelines_owner_id_name"


@dataclass(frozen=True, slots=True)
class NewPipeline:
    """A pipeline to be made; `definition` is {"nodes": [{key, step, parameters}], "links": [{source, target}]}."""

    name: str
    definition: dict[str, Any]
    description: str | None = None
    modality: Modality = Modality.TABULAR
    is_template: bool = False


async def create(work: Work, new: NewPipeline) -> UUID:
    """Raises `InvalidInput` or `NameTaken`."""
    work.viewer.must_write()
    checks = Checks()
    name = checks.name(new.name, "name")
    checks.text(new.description, "description")
    known = await definitions.steps(work)
    definition = definitions.normalised(new.definition)
    checks.issues.extend(definitions.unsound(definition, known, new.modality))
    checks.done()
    complete = not definitions.incomplete(definition, known)
    row = insert(Pipeline).values(
        owner_id=work.viewer.id,
        name=name,
        description=new.description,
        modality=new.modality,
        is_template=new.is_template,
        definition=definition,
        status=PipelineStatus.VALIDATED if complete else PipelineStatus.DRAFT,
        validated_at=func.now() if complete else None,
    )
    with violation(_UNIQUE, NameTaken("pipeline", name)):
        return await work.scalar(row.returning(Pipeline.id))


async def update(work: Work, pipeline_id: UUID, expected_version: int | None, changes: dict[str, Any]) -> UUID:
    """`changes` holds the fields to set: name, description, definition, status. Each change counts the version up.

    Raises `NotFound`, `InvalidInput`, `NameTaken`, `Conflict` (the pipeline is not at `expected_version`) or `WrongState`.
    """
    work.viewer.must_write()
    row = await locked(work, pipeline_id)
    if expected_version is not None and expected_version != row.version:
        raise Conflict(
            f"The pipeline is at version {row.version}, not {expected_version}: somebody changed it. Read it again and repeat your change."
        )
    checks = Checks()
    values = dict(changes)
    if "name" in values:
        if values["name"] is None:
            checks.add("name", message="A pipeline must have a name; leave the field out to keep the present one.")
        else:
            values["name"] = checks.name(values["name"], "name")
    if "description" in values:
        checks.text(values["description"], "description")
    for required in ("definition", "status"):
        if required in values and values[required] is None:
            checks.add(required, message="This cannot be cleared; leave the field out to keep the present one.")
    checks.done()
    if "definition" in values or "status" in values:
        values.update(await _judged(work, row, values))
    if values:
        with violation(_UNIQUE, NameTaken("pipeline", str(values.get("name")))):
            await work.run(update_rows(Pipeline).where(Pipeline.id == pipeline_id).values(version=Pipeline.version + 1, **values))
    return pipeline_id


async def _judged(work: Work, row: Row[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Definition, status and time of validation that the changes lead to."""
    asked: PipelineStatus | None = values.get("status")
    if row.status is PipelineStatus.ARCHIVED and asked in {None, PipelineStatus.ARCHIVED} and "definition" in values:
        raise WrongState(
            "ARCHIVED", "An archived pipeline's definition stays as it is. Set its status to DRAFT or VALIDATED with the change."
        )
    known = await definitions.steps(work)
    definition = definitions.normalised(values.get("definition") or row.definition)
    checks = Checks()
    checks.issues.extend(definitions.unsound(definition, known, row.modality) if "definition" in values else [])
    lacks = definitions.incomplete(definition, known)
    if asked is PipelineStatus.VALIDATED:
        checks.issues.extend(lacks)
    checks.done()
    status = asked or (PipelineStatus.DRAFT if lacks else PipelineStatus.VALIDATED)
    judged: dict[str, Any] = {"definition": definition, "status": status}
    if status is PipelineStatus.VALIDATED:
        judged["validated_at"] = func.now()
    elif status is PipelineStatus.DRAFT:
        judged["validated_at"] = None
    return judged


async def locked(work: Work, pipeline_id: UUID, *, to_run: bool = False) -> Row[Any]:
    """The live pipeline, locked against change until the work ends; to run it, only against being removed. Raises `NotFound`.

    What runs is the definition that was read, frozen: whoever runs a pipeline waits for nobody who runs or changes it.
    """
    live = select(Pipeline).where(Pipeline.id == pipeline_id, Pipeline.deleted_at.is_(None), visible(work.viewer))
    row = await work.first(live.with_for_update(read=to_run, key_share=True))
    if row is None:
        raise NotFound(str(pipeline_id))
    return row
