"""What only one thing stores: objects that nothing else refers to. A purge gives back so much."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import BigInteger, cast, func, or_, select, union_all

from db.core.sql import Rows
from db.core.work import Work
from db.queries.artifacts import IS_OF_RUN
from db.tables import Artifact, DatasetProfile, DatasetVersion, Explanation, Export, ModelVersion, Run, StoredObject


async def stored_bytes(work: Work, references: Rows) -> int:
    """The bytes of the stored objects to which there is no other reference than these, by `object_id`; one of which is null counts nothing."""
    given = references.subquery("given")
    counted = select(given.c.object_id, func.count().label("number")).group_by(given.c.object_id).subquery("counted")
    total = select(cast(func.coalesce(func.sum(StoredObject.size_bytes), 0), BigInteger))
    total = total.join_from(counted, StoredObject, StoredObject.id == counted.c.object_id)
    return await work.scalar(total.where(StoredObject.reference_count == counted.c.number))


def of_dataset(dataset_id: UUID) -> Rows:
    """The files of its versions, of their exports and of explanations on their rows, and the reports of their profiles."""
    return _of_versions(select(DatasetVersion.id).where(DatasetVersion.dataset_id == dataset_id))


def of_dataset_version(version_id: UUID) -> Rows:
    """The same of one version."""
    return _of_versions(select(DatasetVersion.id).where(DatasetVersion.id == version_id))


def _of_versions(versions: Rows) -> Rows:
    made = (
        Artifact.export_id.in_(select(Export.id).where(Export.dataset_version_id.in_(versions))),
        Artifact.explanation_id.in_(select(Explanation.id).where(Explanation.dataset_version_id.in_(versions))),
    )
    files = select(Artifact.object_id).where(or_(Artifact.dataset_version_id.in_(versions), *made))
    reports = select(DatasetProfile.report_object_id).where(DatasetProfile.version_id.in_(versions))
    return select(union_all(files, reports.where(DatasetProfile.report_object_id.is_not(None))).subquery("files").c.object_id)


def of_model(model_id: UUID) -> Rows:
    """The files of its versions, of their explanations and exports."""
    return _of_model_versions(select(ModelVersion.id).where(ModelVersion.model_id == model_id))


def of_model_version(version_id: UUID) -> Rows:
    """The same of one version."""
    return _of_model_versions(select(ModelVersion.id).where(ModelVersion.id == version_id))


def _of_model_versions(versions: Rows) -> Rows:
    made = (
        Artifact.export_id.in_(select(Export.id).where(Export.model_version_id.in_(versions))),
        Artifact.explanation_id.in_(select(Explanation.id).where(Explanation.model_version_id.in_(versions))),
    )
    return select(Artifact.object_id).where(or_(Artifact.model_version_id.in_(versions), *made))


def of_experiment(experiment_id: UUID) -> Rows:
    """The files of its runs that are no part of anything else."""
    return _of_runs(select(Run.id).where(Run.experiment_id == experiment_id))


def of_run(run_id: UUID) -> Rows:
    """The same of one run."""
    return _of_runs(select(Run.id).where(Run.id == run_id))


def _of_runs(runs: Rows) -> Rows:
    return select(Artifact.object_id).where(Artifact.run_id.in_(runs), IS_OF_RUN)
