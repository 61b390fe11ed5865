"""What keeps something from being deleted. Each function returns the error to raise, or None."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, cast, func, or_, select

from db.core.sql import Rows
from db.core.work import Work
from db.errors import Blocked, BlockReason
from db.queries.models import PRODUCTION, is_current_alias
from db.services.jobs.kinds import uses_dataset
from db.tables import DatasetVersion, Explanation, Export, Job, JobInput, Model, ModelAliasEvent, ModelVersion, Run, Study
from db.tables.jobstates import TERMINAL
from db.tables.studies import STUDY_ENDS

SHOWN = 10  # ids in one error


async def _first(work: Work, rows: Rows) -> tuple[Sequence[UUID], int]:
    """The first ids of a select of ids, and how many there are."""
    key = rows.selected_columns[0]
    counted = await work.all(rows.add_columns(cast(func.count().over(), BigInteger).label("number")).order_by(key).limit(SHOWN))
    return [row[0] for row in counted], counted[0].number if counted else 0


async def jobs(work: Work, title: str, uses: ColumnElement[bool]) -> Blocked | None:
    """Jobs that use it and have not ended."""
    ids, count = await _first(work, select(Job.id).where(Job.status.not_in(TERMINAL), uses))
    if not ids:
        return None
    which = f"A job on this {title} has" if count == 1 else f"{count:,} jobs on this {title} have"
    them = "it" if count == 1 else "them"
    return Blocked(
        "BUSY", f"{which} not ended. Wait for {them} or cancel {them}, then delete the {title}.", BlockReason.JOBS, "job", ids, count
    )


async def studies(work: Work, title: str, uses: ColumnElement[bool]) -> Blocked | None:
    """Studies that use it and have not ended: they would make further trials."""
    ids, count = await _first(work, select(Study.id).where(Study.status.not_in(STUDY_ENDS), Study.deleted_at.is_(None), uses))
    if not ids:
        return None
    which = f"A study of this {title} has" if count == 1 else f"{count:,} studies of this {title} have"
    message = f"{which} not ended. Cancel {'it' if count == 1 else 'them'}, then delete the {title}."
    return Blocked("BUSY", message, BlockReason.STUDIES, "study", ids, count)


async def own_status(work: Work, row: Any) -> Blocked | None:  # noqa: ARG001 - the signature of all
    """A study that has not ended."""
    if row.status in STUDY_ENDS:
        return None
    message = f"The study {row.name!r} is {row.status.name}. Cancel it first, and delete it when it has ended."
    return Blocked(row.status.name, message, BlockReason.STUDIES, "study", [row.id], 1)


async def production(work: Work, title: str, is_it: ColumnElement[bool]) -> Blocked | None:
    """Model versions with the alias `production` of which it is, or which were trained on it."""
    versions = select(ModelVersion.id).join(Model, Model.id == ModelVersion.model_id)
    versions = versions.join(ModelAliasEvent, ModelAliasEvent.model_version_id == ModelVersion.id)
    ids, count = await _first(work, versions.where(is_it, Model.deleted_at.is_(None), *is_current_alias(PRODUCTION)))
    if not ids:
        return None
    which = "A model version" if count == 1 else f"{count:,} model versions"
    if title == "model":
        message = f"A version of this model has the alias {PRODUCTION!r}. Remove the alias with `removeModelAlias`, then delete the model."
    else:
        message = (
            f"{which} with the alias {PRODUCTION!r} {'was' if count == 1 else 'were'} trained on this {title}. Remove the alias with"
            f" `removeModelAlias`, or delete the model, then delete the {title}."
        )
    return Blocked("IN_PRODUCTION", message, BlockReason.PRODUCTION, "mversion", ids, count)


def _reads(row: Any, versions: Rows) -> ColumnElement[bool]:
    """Whether a study of the account reads one of these versions, as the data that it trains on or joined to that."""
    return (Study.owner_id == row.owner_id) & Study.input_version_ids.overlap(func.array(versions.scalar_subquery()))


async def of_dataset(work: Work, row: Any) -> list[Blocked | None]:
    """Jobs and studies on a dataset, and models in production that were trained on it."""
    versions = select(DatasetVersion.id).where(DatasetVersion.dataset_id == row.id)
    return [
        await jobs(work, "dataset", uses_dataset(row.id)),
        await studies(work, "dataset", _reads(row, versions)),
        await production(work, "dataset", ModelVersion.dataset_version_id.in_(versions)),
    ]


async def of_pipeline(work: Work, row: Any) -> list[Blocked | None]:
    """Jobs and studies of a pipeline."""
    return [await jobs(work, "pipeline", Job.pipeline_id == row.id), await studies(work, "pipeline", Study.pipeline_id == row.id)]


async def of_model(work: Work, row: Any) -> list[Blocked | None]:
    """Jobs that predict with a version of a model, explain or export it, and its alias `production`."""
    versions = select(ModelVersion.id).where(ModelVersion.model_id == row.id)
    return [
        await jobs(work, "model", uses_model_versions(versions)),
        await production(work, "model", ModelVersion.model_id == row.id),
    ]


def uses_model_versions(versions: Rows) -> ColumnElement[bool]:
    """Whether a job predicts with one of these versions, explains or exports it."""
    makers = (select(made.job_id).where(made.model_version_id.in_(versions)) for made in (Export, Explanation))
    return or_(Job.model_version_id.in_(versions), *(Job.id.in_(maker) for maker in makers))


async def of_experiment(work: Work, row: Any) -> list[Blocked | None]:
    """Jobs of the runs of an experiment, and its studies."""
    of_runs = Job.id.in_(select(Run.job_id).where(Run.experiment_id == row.id))
    return [await jobs(work, "experiment", of_runs), await studies(work, "experiment", Study.experiment_id == row.id)]


async def of_dataset_version(work: Work, row: Any) -> list[Blocked | None]:
    """Jobs and studies on a version, and models in production that were trained on it."""
    inputs = select(JobInput.job_id).where(JobInput.dataset_version_id == row.id)
    exports = select(Export.job_id).where(Export.dataset_version_id == row.id)
    return [
        await jobs(work, "dataset version", or_(Job.dataset_version_id == row.id, Job.id.in_(inputs), Job.id.in_(exports))),
        await studies(work, "dataset version", _reads(row, select(DatasetVersion.id).where(DatasetVersion.id == row.id))),
        await production(work, "dataset version", ModelVersion.dataset_version_id == row.id),
    ]


async def of_model_version(work: Work, row: Any) -> list[Blocked | None]:
    """Jobs that use a version of a model, and its aliases, which would point to nothing."""
    names = [
        alias.name
        for alias in await work.all(
            select(ModelAliasEvent.name)
            .where(ModelAliasEvent.model_version_id == row.id, ModelAliasEvent.superseded_at.is_(None))
            .order_by(ModelAliasEvent.name)
        )
    ]
    aliases = None
    if names:
        which = f"The alias {names[0]!r} points" if len(names) == 1 else f"The aliases {', '.join(map(repr, names[:SHOWN]))} point"
        message = (
            f"{which} to this model version. Remove {'it' if len(names) == 1 else 'them'} with `removeModelAlias`, then delete the version."
        )
        aliases = Blocked("ALIASED", message, BlockReason.ALIASES, "mversion", [row.id], len(names))
    is_it = select(ModelVersion.id).where(ModelVersion.id == row.id)
    return [await jobs(work, "model version", uses_model_versions(is_it)), aliases]


async def of_run(work: Work, row: Any) -> list[Blocked | None]:
    """The job of a run, and its study, which compares its trials until it has ended."""
    return [await jobs(work, "run", Job.id == row.job_id), await studies(work, "run", Study.id == row.study_id)]


async def of_study(work: Work, row: Any) -> list[Blocked | None]:
    """The study itself, if it has not ended."""
    return [await own_status(work, row)]
