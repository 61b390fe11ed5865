"""Create and end external runs. Their last write is their heartbeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BindParameter, ColumnElement, Row, and_, case, exists, func, insert, literal, null, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased

from db.core.annotations import changed_annotations
from db.core.audit import ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.sql import equals_any
from db.core.viewer import SYSTEM, Viewer
from db.core.work import Database, Notice, Work
from db.errors import NotFound, WrongState, invalid
from db.services import experiments, idempotency, tags
from db.tables import Dataset, DatasetVersion, Experiment, Run, RunInput
from db.tables.experiments import RunSource, RunStatus

ABANDONED = "ABANDONED"
ENDS = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
BATCH_SIZE = 500
PARAMETERS_BYTES = 262_144
_COLUMNS = (Run.id, Run.owner_id, Run.source, Run.status, Run.started_at, Run.completed_at, Run.hyperparameters, Run.dataset_version_id)


@dataclass(frozen=True, slots=True)
class NewExternalRun:
    """A run to be created. Without an experiment it is in that of its parent, or in the viewer's "Default"."""

    experiment_id: UUID | None = None
    name: str | None = None
    dataset_version_id: UUID | None = None
    parent_run_id: UUID | None = None
    hyperparameters: Any = None
    config: Any = None
    notes: str | None = None
    annotations: Any = None
    tags: Sequence[str] = ()
    started_at: datetime | None = None
    idempotency_key: str | None = None


async def create(work: Work, new: NewExternalRun) -> UUID:
    """Create a run, which is RUNNING from then on.

    Raises `InvalidInput`, `NotFound`, also for an idempotency key whose run was deleted since, or `Conflict` for a key of another input.
    """
    work.viewer.require_write()
    request = {key: value for key, value in asdict(new).items() if key != "idempotency_key"}
    answer = await idempotency.recall(work, "createRun", new.idempotency_key, request)
    if answer is not None:
        run_id = UUID(answer["run"])
        if await work.first(_live(work, run_id)) is None:  # it was deleted since
            raise NotFound(str(run_id))
        return run_id
    checks = Checks()
    name = None if new.name is None else checks.name(new.name, "name")
    hyperparameters = checks.document(new.hyperparameters, "hyperparameters", size=PARAMETERS_BYTES)
    config = checks.document(new.config, "config")
    annotations = changed_annotations(checks, {}, new.annotations)
    checks.text(new.notes, "notes", length=experiments.NOTES_LENGTH)
    checks.raise_if_invalid()
    experiment_id, owner_id = await _experiment(work, new)
    dataset_id = None if new.dataset_version_id is None else await _dataset(work, owner_id, new.dataset_version_id)
    run_id = await experiments.add_run(
        work,
        experiments.NewRun(
            owner_id=owner_id,
            experiment_id=experiment_id,
            job_id=None,
            dataset_id=dataset_id,
            dataset_version_id=new.dataset_version_id,
            seed=0,
            hyperparameters=hyperparameters,
            config=config,
            name=name,
            notes=new.notes,
            source=RunSource.EXTERNAL,
            parent_run_id=new.parent_run_id,
            started_at=new.started_at,
            annotations=annotations,
        ),
    )
    if new.dataset_version_id is not None:
        source = ref("version", new.dataset_version_id)
        await work.run(insert(RunInput).values(run_id=run_id, source=source, dataset_version_id=new.dataset_version_id))
    if new.tags:
        await tags.put_on_new(work, tags.Thing("run", run_id), owner_id, new.tags)
    after = {"experiment": ref("experiment", experiment_id), "name": name, "source": RunSource.EXTERNAL.name, "tags": sorted(new.tags)}
    work.record("create_run", "run", run_id, owner_id, after=after)
    await idempotency.remember(work, new.idempotency_key, {"run": str(run_id)})
    return run_id


async def _experiment(work: Work, new: NewExternalRun) -> tuple[UUID, UUID]:
    """The experiment of a new run, and the account that owns both."""
    parent: Row[Any] | None = None
    if new.parent_run_id is not None:
        statement = select(Run.experiment_id, Run.owner_id).join(Experiment, Experiment.id == Run.experiment_id)
        is_live = (Run.deleted_at.is_(None), Experiment.deleted_at.is_(None))
        parent = await work.first(statement.where(Run.id == new.parent_run_id, *is_live, visible(Run, work.viewer)))
        if parent is None:
            raise NotFound(str(new.parent_run_id))
    experiment_id = new.experiment_id
    if experiment_id is None and parent is None:
        return await experiments.default_experiment(work, work.viewer.id), work.viewer.id
    if experiment_id is None:
        assert parent is not None
        experiment_id = parent.experiment_id
    is_it = (Experiment.id == experiment_id, Experiment.deleted_at.is_(None))
    owner_id: UUID | None = await work.scalar(select(Experiment.owner_id).where(*is_it, visible(Experiment, work.viewer)))
    if owner_id is None:
        raise NotFound(str(experiment_id))
    if parent is not None and parent.owner_id != owner_id:
        raise invalid("parentRunId", message="This run belongs to another account than the experiment. Runs are nested within one account.")
    return experiment_id, owner_id


async def _dataset(work: Work, owner_id: UUID, version_id: UUID) -> UUID:
    """The dataset of a version that a run of this account may name."""
    statement = select(Dataset.id, Dataset.owner_id).join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
    is_live = (DatasetVersion.deleted_at.is_(None), Dataset.deleted_at.is_(None))
    dataset = await work.first(statement.where(DatasetVersion.id == version_id, *is_live, visible(DatasetVersion, work.viewer)))
    if dataset is None:
        raise NotFound(str(version_id))
    if dataset.owner_id != owner_id:
        raise invalid("datasetVersionId", message="This version belongs to another account than the experiment.")
    return dataset.id


async def lock(work: Work, run_id: UUID) -> Row[Any]:
    """Lock an external run that the viewer may change. Raises `NotFound`, `WrongState` for the run of a job, or `Forbidden`."""
    work.viewer.require_write()
    row = await work.first(_live(work, run_id).with_for_update(of=Run, key_share=True))
    return _require_external(work, run_id, row)


async def raise_unwritable(work: Work, run_id: UUID) -> None:
    """Raise why a statement found no external run with this id that the viewer may see."""
    _require_external(work, run_id, await work.first(_live(work, run_id)))
    raise NotFound(str(run_id))  # it was deleted meanwhile


def _live(work: Work, run_id: UUID) -> Any:
    statement = select(*_COLUMNS).join(Experiment, Experiment.id == Run.experiment_id)
    return statement.where(Run.id == run_id, Run.deleted_at.is_(None), Experiment.deleted_at.is_(None), visible(Run, work.viewer))


def _require_external(work: Work, run_id: UUID, row: Row[Any] | None) -> Row[Any]:
    if row is None:
        raise NotFound(str(run_id))
    if row.source is not RunSource.EXTERNAL:
        raise WrongState(
            row.source.name,
            "This run is that of a job, which alone writes to it. Create a run of your own with `createRun`, and log to that.",
        )
    work.viewer.require_write_in(row.owner_id)
    return row


def is_writable(viewer: Viewer, run_id: UUID | BindParameter[UUID]) -> ColumnElement[bool]:
    """The condition of an UPDATE of an external run that is live and visible. Whoever uses it calls `require_write_in` for the owner that it returns."""
    is_live = exists().where(Experiment.id == Run.experiment_id, Experiment.deleted_at.is_(None))
    return and_(Run.id == run_id, Run.deleted_at.is_(None), Run.source == RunSource.EXTERNAL, is_live, visible(Run, viewer))


def heartbeat() -> dict[str, Any]:
    """The values of a write to an external run. One that was taken for abandoned goes on; one that somebody ended stays as it is."""
    was_abandoned = Run.error["code"].astext == ABANDONED
    return {
        "last_written_at": func.now(),
        "status": case((was_abandoned, literal(RunStatus.RUNNING, Run.status.type)), else_=Run.status),
        "completed_at": case((was_abandoned, null()), else_=Run.completed_at),
        "error": case((was_abandoned, null()), else_=Run.error),
    }


async def finish(work: Work, run_id: UUID, status: RunStatus, completed_at: datetime | None = None) -> UUID:
    """Set the status of an external run; RUNNING lets one that has ended go on. The same status again changes nothing.

    Raises `NotFound`, `WrongState` for the run of a job, or `InvalidInput`.
    """
    run = await lock(work, run_id)
    if status is RunStatus.PENDING:
        raise invalid("status", message="A run ends as COMPLETED, FAILED or CANCELLED; RUNNING lets it go on.")
    if status not in ENDS and completed_at is not None:
        raise invalid("completedAt", message="A run that goes on has not ended: leave this out, or give a status that ends it.")
    if completed_at is not None and run.started_at is not None and completed_at < run.started_at:
        raise invalid("completedAt", message=f"The run started at {run.started_at.isoformat()}; it cannot end before that.")
    if status is run.status and completed_at in {None, run.completed_at}:
        return run_id
    now = func.greatest(func.now(), Run.started_at)
    ended = null() if status not in ENDS else now if completed_at is None else completed_at
    values = {"status": status, "completed_at": ended, "error": null(), "last_written_at": func.now(), "last_batch": Run.last_batch + 1}
    last_batch = await work.scalar(update(Run).where(Run.id == run_id).values(values).returning(Run.last_batch))
    work.notify(Notice(run_id, last_batch))  # its followers look at the status
    work.record("finish_run", "run", run_id, run.owner_id, {"status": run.status.name}, {"status": status.name})
    return run_id


async def abandon_silent(database: Database, silence: timedelta) -> int:
    """End the external runs that nothing was written to for so long, nor to a run within them; return how many. They end when they were last heard of."""
    child = aliased(Run)
    heard = func.now() - silence
    is_alone = ~exists().where(
        child.parent_run_id == Run.id,
        child.source == RunSource.EXTERNAL,
        (child.last_written_at > heard) & child.last_written_at.is_not(None),
    )
    is_silent = and_(
        Run.source == RunSource.EXTERNAL, Run.status.in_([RunStatus.PENDING, RunStatus.RUNNING]), Run.last_written_at <= heard, is_alone
    )
    batch = select(Run.id).where(is_silent).order_by(Run.id).limit(BATCH_SIZE).with_for_update(of=Run, key_share=True, skip_locked=True)
    message = (
        f"Nothing was logged for {silence.total_seconds() / 3_600:g} hours, so its code seems to have died. If it has not: whatever it logs next lets the run"
        " go on."
    )
    changes = {
        "status": RunStatus.FAILED,
        "completed_at": func.greatest(Run.last_written_at, Run.started_at),
        "error": sql_cast(literal({"code": ABANDONED, "message": message}, JSON), JSONB),
        "last_batch": Run.last_batch + 1,
    }
    total = 0
    while True:
        async with database.work(SYSTEM) as work:
            ids = [row.id for row in await work.all(batch)]
            rows = await work.all(update(Run).where(equals_any(Run.id, ids)).values(changes).returning(Run.id, Run.last_batch))
            for row in rows:
                work.notify(Notice(row.id, row.last_batch))
        total += len(ids)
        if len(ids) < BATCH_SIZE:
            return total
