"""Models: add versions, and set aliases, whose history is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Uuid, bindparam, func, insert, select
from sqlalchemy import update as update_rows
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.annotations import changed_annotations
from db.core.audit import differences, ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.unique import translate_unique_violation
from db.core.work import Work
from db.errors import Conflict, NameTaken, NotFound, invalid
from db.services import outputs
from db.services.outputs import Result, StoredFile, WrittenOutput
from db.tables import Model, ModelAliasEvent, ModelDataset, ModelVersion, Run, RunMetric
from db.tables.datasets import ProblemType
from db.tables.models import ModelFormat

_ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_PROBLEM_TYPE = select(Model.problem_type).where(
    Model.owner_id == bindparam("p_owner_id", type_=Uuid()),
    func.lower(Model.name) == func.lower(bindparam("p_name")),
    Model.deleted_at.is_(None),
)


@dataclass(frozen=True, slots=True)
class NewModel:
    """A model without versions; the viewer owns it if no owner is given."""

    name: str
    description: str | None = None
    annotations: Any = None
    owner_id: UUID | None = None


async def create(work: Work, new: NewModel) -> UUID:
    """Create a model, to which versions are registered later. Raises `InvalidInput`, `NameTaken`, or `NotFound` for the owner."""
    work.viewer.require_write()
    owner_id = work.viewer.owner_of_new(new.owner_id)
    checks = Checks()
    name = checks.name(new.name, "name")
    checks.text(new.description, "description")
    annotations = changed_annotations(checks, {}, new.annotations)
    checks.raise_if_invalid()
    values = {"name": name, "description": new.description, "annotations": annotations}
    with translate_unique_violation("uq_models_owner_id_name", NameTaken("model", name)):
        insertion = insert(Model).values(owner_id=owner_id, created_by_id=work.viewer.maker_id, **values)
        model_id: UUID = await work.scalar(insertion.returning(Model.id))
    work.record("create_model", "model", model_id, owner_id, after=values)
    return model_id


async def update(work: Work, model_id: UUID, changes: dict[str, Any]) -> UUID:
    """`changes` holds the fields to set, None clearing one. Raises `NotFound`, `InvalidInput` or `NameTaken`."""
    work.viewer.require_write()
    model = await lock(work, model_id)
    checks = Checks()
    values = dict(changes)
    checks.new_name(values, "A model")
    checks.text(values.get("description"), "description")
    if "annotations" in values:
        values["annotations"] = changed_annotations(checks, model.annotations, values["annotations"])
    checks.raise_if_invalid()
    if values:
        with translate_unique_violation("uq_models_owner_id_name", NameTaken("model", str(values.get("name")))):
            await work.run(update_rows(Model).where(Model.id == model_id).values(values))
        work.record("update_model", "model", model_id, model.owner_id, *differences(model, values))
    return model_id


async def update_version(work: Work, version_id: UUID, changes: dict[str, Any]) -> UUID:
    """`changes` holds the fields to set, None clearing one. Raises `NotFound` or `InvalidInput`."""
    work.viewer.require_write()
    statement = (
        select(ModelVersion.id, ModelVersion.label, ModelVersion.description, ModelVersion.annotations, Model.owner_id)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(
            ModelVersion.id == version_id, Model.deleted_at.is_(None), ModelVersion.deleted_at.is_(None), visible(ModelVersion, work.viewer)
        )
    )
    version = await work.first(statement.with_for_update(of=ModelVersion, key_share=True))
    if version is None:
        raise NotFound(str(version_id))
    checks = Checks()
    values = dict(changes)
    if values.get("label") is not None:
        values["label"] = checks.name(values["label"], "label")
    checks.text(values.get("description"), "description")
    if "annotations" in values:
        values["annotations"] = changed_annotations(checks, version.annotations, values["annotations"])
    checks.raise_if_invalid()
    if values:
        await work.run(update_rows(ModelVersion).where(ModelVersion.id == version_id).values(values))
        work.record("update_model_version", "mversion", version_id, version.owner_id, *differences(version, values))
    return version_id


async def lock(work: Work, model_id: UUID) -> Row[Any]:
    """Lock a live model's row, which serializes changes of its aliases too. Raises `NotFound`."""
    statement = select(*Model.__table__.c).where(Model.id == model_id, Model.deleted_at.is_(None), visible(Model, work.viewer))
    row = await work.first(statement.with_for_update(key_share=True))
    if row is None:
        raise NotFound(str(model_id))
    return row


async def set_alias(work: Work, version_id: UUID, name: str, reason: str | None = None) -> UUID:
    """Point an alias to this version and end its previous period. Does nothing if it points there already.

    Raises `NotFound` or `InvalidInput`.
    """
    work.viewer.require_write()
    checks = Checks()
    alias = name.strip().lower()
    if not _ALIAS.fullmatch(alias):
        checks.add(
            "name", message="An alias is 1 to 64 lower-case letters, digits, dots, dashes and underscores, and begins with a letter."
        )
    elif re.fullmatch(r"v?\d+|latest", alias):
        checks.add("name", message=f"{alias!r} reads like a version number or the newest version; choose a word such as 'production'.")
    checks.text(reason, "reason", length=2_000)
    checks.raise_if_invalid()
    # Lock the model's row to serialize changes of one alias.
    statement = (
        select(Model.id, Model.owner_id)
        .join(ModelVersion, ModelVersion.model_id == Model.id)
        .where(
            ModelVersion.id == version_id, Model.deleted_at.is_(None), ModelVersion.deleted_at.is_(None), visible(ModelVersion, work.viewer)
        )
        .with_for_update(of=[Model, ModelVersion], key_share=True)
    )
    model = await work.first(statement)
    if model is None:
        raise NotFound(str(version_id))
    is_current = _is_current(model.id, alias)
    previous_id: UUID | None = await work.scalar(select(ModelAliasEvent.model_version_id).where(is_current))
    if previous_id == version_id:
        return version_id
    await _point(work, model.id, alias, version_id, reason)
    before = {"version": None if previous_id is None else ref("mversion", previous_id)}
    after = {"name": alias, "version": ref("mversion", version_id), "reason": reason}
    work.record("set_model_alias", "model", model.id, model.owner_id, before, after)
    return version_id


async def remove_alias(work: Work, model_id: UUID, name: str, reason: str | None = None) -> UUID:
    """Let an alias point to no version any more; its history stays. Raises `NotFound`, or `InvalidInput` if the model has no such alias."""
    work.viewer.require_write()
    checks = Checks()
    checks.text(reason, "reason", length=2_000)
    checks.raise_if_invalid()
    model = await lock(work, model_id)
    alias = name.strip().lower()
    current = select(ModelAliasEvent.model_version_id).where(_is_current(model_id, alias))
    version_id: UUID | None = await work.scalar(current) if _ALIAS.fullmatch(alias) else None
    if version_id is None:
        raise invalid("name", message="This model has no alias of this name. Its `aliases` are those that it has.")
    await _point(work, model_id, alias, None, reason)
    before = {"version": ref("mversion", version_id)}
    work.record("remove_model_alias", "model", model_id, model.owner_id, before, {"name": alias, "version": None, "reason": reason})
    return model_id


def _is_current(model_id: UUID, alias: str) -> ColumnElement[bool]:
    return (ModelAliasEvent.model_id == model_id) & (ModelAliasEvent.name == alias) & ModelAliasEvent.superseded_at.is_(None)


async def _point(work: Work, model_id: UUID, alias: str, version_id: UUID | None, reason: str | None) -> None:
    """End the present period of an alias and begin another one; the model's row is locked."""
    moment = await work.scalar(select(func.clock_timestamp()))
    await work.run(update_rows(ModelAliasEvent).where(_is_current(model_id, alias)).values(superseded_at=moment))
    values = {"model_id": model_id, "model_version_id": version_id, "name": alias, "reason": reason, "set_at": moment}
    await work.run(insert(ModelAliasEvent).values(set_by_id=work.viewer.id, **values))


async def problem_type(work: Work, owner_id: UUID, name: str) -> ProblemType | None:
    """Return the problem type of the owner's live model of this name; None if there is no such model, or no version has set it."""
    return await work.scalar(_PROBLEM_TYPE, {"p_owner_id": owner_id, "p_name": name})


def other_problem_type(name: str, existing: ProblemType, trained: ProblemType) -> str:
    """The message for a training whose problem type is not that of its model."""
    return (
        f"The model {name!r} is a {existing.name} model, and this is a {trained.name} training; all versions of a model have one problem type. "
        "Run the pipeline with another modelName."
    )


async def add_version(work: Work, job: Row[Any], run: Row[Any], result: Result, files: Sequence[StoredFile]) -> WrittenOutput:
    """Add a trained model as the next version of the model that the job's parameters name; create that model if missing.

    `result` is a `PipelineResult` of kind "model". All points of the run must be written before. Raises `Conflict` if the model has another
    problem type: one without versions gets it from whichever training settles first.
    """
    output = WrittenOutput(await register_version(work, job, run, result, job.parameters["modelName"]))
    await outputs.add_artifacts(work, job, files, output.duplicate_keys, model_version_id=output.id, run_id=run.id)
    await record_training(work, run.id, result)
    return output


async def record_training(work: Work, run_id: UUID, result: Result) -> None:
    """Write what was trained to the run."""
    values = {
        "hyperparameters": result["hyperparameters"],
        "algorithm": result["algorithm"],
        "architecture": result["network"],
        "best_step": result["best_step"],
    }
    await work.run(update_rows(Run).where(Run.id == run_id).values(values))


async def register_version(work: Work, job: Row[Any], run: Row[Any], result: Result, name: str) -> UUID:
    """Add what a run trained, without its files, as the next version of the model of this name, and as an output of its job; return its id.

    Creates that model if missing. Raises `Conflict` if it has another problem type.
    """
    trained = ProblemType[result["problem_type"]]
    model_id = await ensure_model(work, job.owner_id, job.created_by_id, trained, name)
    number = await next_number(work, model_id)
    statement = insert(ModelVersion).values(
        model_id=model_id,
        number=number,
        algorithm=result["algorithm"],
        architecture=result["architecture"],
        config=result["config"],
        framework=result["framework"],
        problem_type=trained,
        metrics=await metric_summaries(work, run.id),
        hyperparameters=result["hyperparameters"],
        packages=result["versions"],
        format=ModelFormat.SKOPS,
        is_trusted=True,
        seed=run.seed,
        job_id=job.id,
        run_id=run.id,
        snapshot_id=job.snapshot_id,
        dataset_version_id=job.dataset_version_id,
    )
    version_id: UUID = await work.scalar(statement.returning(ModelVersion.id))
    # The model's row is locked, so no other transaction inserts the same.
    await work.run(upsert(ModelDataset).values(model_id=model_id, dataset_id=job.dataset_id).on_conflict_do_nothing())
    await outputs.add_outputs(work, job, [(ModelVersion, version_id)])
    return version_id


async def next_number(work: Work, model_id: UUID) -> int:
    """Take the number of a new version; the model's row is locked until the commit."""
    increment = update_rows(Model).where(Model.id == model_id).values(last_number=Model.last_number + 1)
    return await work.scalar(increment.returning(Model.last_number))


async def metric_summaries(work: Work, run_id: UUID) -> list[dict[str, Any]]:
    """The metrics of a run as `ModelVersion.metrics` keeps them."""
    columns = (
        RunMetric.key,
        RunMetric.last,
        RunMetric.last_step,
        RunMetric.min,
        RunMetric.min_step,
        RunMetric.max,
        RunMetric.max_step,
        RunMetric.count,
    )
    cursor_result = await work.connection.execute(select(*columns).where(RunMetric.run_id == run_id).order_by(RunMetric.key))
    return [{**row, "last": _finite_or_none(row["last"])} for row in cursor_result.mappings().all()]


def _finite_or_none(value: float | None) -> float | None:
    """JSON has no NaN and no infinities; they become null."""
    return value if value is not None and value - value == 0 else None


async def ensure_model(work: Work, owner_id: UUID, created_by_id: UUID | None, trained: ProblemType | None, name: str) -> UUID:
    """The live model of this name, created if missing; one without a problem type gets this one, if any. Raises `Conflict` if it has another."""
    insertion = upsert(Model).values(owner_id=owner_id, created_by_id=created_by_id, name=name, problem_type=trained)
    is_live = Model.deleted_at.is_(None)
    given = insertion.excluded.problem_type
    upsert_statement = insertion.on_conflict_do_update(
        index_elements=[Model.owner_id, func.lower(Model.name)],
        index_where=is_live,
        set_={"problem_type": func.coalesce(Model.problem_type, given)},
        where=Model.problem_type.is_(None) | given.is_(None) | (Model.problem_type == given),
    )
    model_id = await work.scalar(upsert_statement.returning(Model.id))
    if model_id is None:
        existing = await problem_type(work, owner_id, name)
        assert existing is not None
        assert trained is not None
        raise Conflict(other_problem_type(name, existing, trained))
    return model_id
