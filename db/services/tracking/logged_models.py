"""Models that external runs log, before they are registered: their files are the run's, in a folder of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy import delete as delete_rows

from db.core.annotations import changed_annotations
from db.core.audit import ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, invalid
from db.services.tracking import artifacts
from db.services.tracking.runs import NewExternalRun, create, finish, heartbeat, lock
from db.tables import LoggedModel, Run
from db.tables.experiments import LoggedModelStatus, RunStatus

NAME_LENGTH = 500
MAX_MODELS = 1_000  # of one run
FOLDER = "models"
_ITS_OWN = {"trellis.madeFor": "a logged model"}  # an annotation of a run that was made for a model


@dataclass(frozen=True, slots=True)
class NewLoggedModel:
    """A model to be logged. One without a run gets a run of its name in the experiment, which ends with it."""

    name: str
    experiment_id: UUID
    run_id: UUID | None = None
    model_type: str | None = None
    parameters: Any = None
    annotations: Any = None


def folder(model_id: UUID) -> str:
    """The path of a logged model's files among those of its run."""
    return f"{FOLDER}/{ref('loggedmodel', model_id)}"


async def log(work: Work, new: NewLoggedModel) -> UUID:
    """Add a logged model, which is PENDING until `finalize`. Raises `InvalidInput`, `NotFound`, or `WrongState` for the run of a job."""
    checks = Checks()
    name = checks.name(new.name, "name", length=NAME_LENGTH)
    checks.text(new.model_type, "modelType", length=NAME_LENGTH)
    parameters = changed_annotations(checks, {}, new.parameters)
    annotations = changed_annotations(checks, {}, new.annotations)
    checks.raise_if_invalid()
    run_id = new.run_id
    if run_id is None:
        run_id = await create(work, NewExternalRun(experiment_id=new.experiment_id, name=name[:200], annotations=_ITS_OWN))
    run = await lock(work, run_id)
    count: int = await work.scalar(select(func.count()).select_from(LoggedModel).where(LoggedModel.run_id == run_id))
    if count >= MAX_MODELS:
        raise invalid("runId", message=f"The run has {count} logged models already; at most {MAX_MODELS} are kept.")
    values = {"run_id": run_id, "name": name, "model_type": new.model_type, "parameters": parameters, "annotations": annotations}
    model_id: UUID = await work.scalar(insert(LoggedModel).values(values).returning(LoggedModel.id))
    await work.run(update(Run).where(Run.id == run_id).values(heartbeat()))
    work.record("log_model", "run", run_id, run.owner_id, after={"model": ref("loggedmodel", model_id), "name": name})
    return model_id


async def log_parameters(work: Work, model_id: UUID, parameters: Mapping[str, str]) -> None:
    """Add parameters; one that is there already is replaced. Raises `NotFound` or `InvalidInput`."""
    model = await _lock(work, model_id)
    checks = Checks()
    changed = changed_annotations(checks, model.parameters, parameters)
    checks.raise_if_invalid()
    await _change(work, model, {"parameters": changed})


async def annotate(work: Work, model_id: UUID, annotations: Mapping[str, str | None]) -> None:
    """Change annotations, None removing one. Raises `NotFound` or `InvalidInput`."""
    model = await _lock(work, model_id)
    checks = Checks()
    changed = changed_annotations(checks, model.annotations, annotations)
    checks.raise_if_invalid()
    await _change(work, model, {"annotations": changed})


async def finalize(work: Work, model_id: UUID, status: LoggedModelStatus) -> None:
    """Say whether its files are complete. A run that was made for it ends with it. Raises `NotFound`."""
    model = await _lock(work, model_id)
    await _change(work, model, {"status": status})
    is_its_own = await work.scalar(select(Run.annotations.contains(_ITS_OWN)).where(Run.id == model.run_id))
    if is_its_own and status is not LoggedModelStatus.PENDING:
        await finish(work, model.run_id, RunStatus.COMPLETED if status is LoggedModelStatus.READY else RunStatus.FAILED)


async def name_outputs(work: Work, run_id: UUID, steps: Mapping[UUID, int]) -> None:
    """Name logged models of a run as its outputs, each at a step. Raises `NotFound` for one that is not the run's."""
    run = await lock(work, run_id)
    for model_id, step in steps.items():
        is_of_run = (LoggedModel.id == model_id) & (LoggedModel.run_id == run_id)
        if not await work.run(update(LoggedModel).where(is_of_run).values(step=step)):
            raise NotFound(str(model_id))
    after = {"models": sorted(ref("loggedmodel", model_id) for model_id in steps)}
    work.record("name_outputs", "run", run_id, run.owner_id, after=after)


async def delete(work: Work, model_id: UUID) -> None:
    """Delete a logged model and its files; versions registered from it keep theirs. Raises `NotFound`."""
    model = await _lock(work, model_id)
    await artifacts.remove(work, model.run_id, folder(model_id))
    await work.run(delete_rows(LoggedModel).where(LoggedModel.id == model_id))
    work.record("delete_logged_model", "run", model.run_id, model.owner_id, {"model": ref("loggedmodel", model_id), "name": model.name})


async def _lock(work: Work, model_id: UUID) -> Row[Any]:
    """Lock a logged model, by locking its run. Raises `NotFound`, or `Forbidden`."""
    run_id: UUID | None = await work.scalar(select(LoggedModel.run_id).where(LoggedModel.id == model_id, visible(LoggedModel, work.viewer)))
    if run_id is None:
        raise NotFound(str(model_id))
    await lock(work, run_id)
    statement = select(*LoggedModel.__table__.c, Run.owner_id).join(Run, Run.id == LoggedModel.run_id)
    model = await work.first(statement.where(LoggedModel.id == model_id))
    if model is None:
        raise NotFound(str(model_id))
    return model


async def _change(work: Work, model: Row[Any], values: dict[str, Any]) -> None:
    await work.run(update(LoggedModel).where(LoggedModel.id == model.id).values(values))
    await work.run(update(Run).where(Run.id == model.run_id).values(heartbeat()))
    changed = {name: str(value) if name == "status" else sorted(value) for name, value in values.items()}
    work.record("update_logged_model", "run", model.run_id, model.owner_id, after={"model": ref("loggedmodel", model.id), **changed})
