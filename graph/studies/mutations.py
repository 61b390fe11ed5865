"""Mutations on studies and trials."""

from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import models
from db.queries import studies as study_queries
from db.services.studies import changing, creating, registering
from db.services.studies.budgets import BudgetChange
from graph.core.context import Info
from graph.core.costs import JOB, costs
from graph.core.edges import one
from graph.core.ids import decode, decode_optional
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NameTaken, NotFound, QuotaExceeded, WrongState
from graph.models.types import ModelVersion
from graph.studies.inputs import (
    CancelStudyInput,
    CreateStudyInput,
    PauseStudyInput,
    RegisterTrialInput,
    ResumeStudyInput,
    UpdateStudyInput,
)
from graph.studies.types import Study


@strawberry.type(description="The study was created, and its first trials are made.")
class CreateStudyPayload:
    study_id: strawberry.Private[UUID]
    study: Study = one(study_queries.by_id, key="study_id", description="The new study; follow it with `studyTrials`.")


@strawberry.type(description="The study makes no trials until it is resumed.")
class PauseStudyPayload:
    study_id: strawberry.Private[UUID]
    study: Study = one(study_queries.by_id, key="study_id", description="The paused study.")


@strawberry.type(description="The study goes on.")
class ResumeStudyPayload:
    study_id: strawberry.Private[UUID]
    study: Study = one(study_queries.by_id, key="study_id", description="The resumed study.")


@strawberry.type(description="The study makes no further trials, and those that have not ended are being cancelled.")
class CancelStudyPayload:
    study_id: strawberry.Private[UUID]
    study: Study = one(
        study_queries.by_id,
        key="study_id",
        description="The study: CANCELLED at once, or RUNNING with a `reason` until its last trial has ended.",
    )


@strawberry.type(description="The limits of the study were changed.")
class UpdateStudyPayload:
    study_id: strawberry.Private[UUID]
    study: Study = one(study_queries.by_id, key="study_id", description="The changed study.")


@strawberry.type(description="The model of the trial is a version of a model.")
class RegisterTrialPayload:
    model_version_id: strawberry.Private[UUID]
    model_version: ModelVersion = one(models.version_by_id, key="model_version_id", description="The new version.")


CreateStudyResult = Annotated[
    CreateStudyPayload | NotFound | NameTaken | InvalidInput | WrongState | Conflict | QuotaExceeded | InsufficientCredits,
    strawberry.union("CreateStudyResult", description="The possible results of `createStudy`."),
]
PauseStudyResult = Annotated[
    PauseStudyPayload | NotFound | WrongState, strawberry.union("PauseStudyResult", description="The possible results of `pauseStudy`.")
]
ResumeStudyResult = Annotated[
    ResumeStudyPayload | NotFound | WrongState, strawberry.union("ResumeStudyResult", description="The possible results of `resumeStudy`.")
]
CancelStudyResult = Annotated[
    CancelStudyPayload | NotFound | WrongState, strawberry.union("CancelStudyResult", description="The possible results of `cancelStudy`.")
]
UpdateStudyResult = Annotated[
    UpdateStudyPayload | NotFound | WrongState | InvalidInput,
    strawberry.union("UpdateStudyResult", description="The possible results of `updateStudy`."),
]
RegisterTrialResult = Annotated[
    RegisterTrialPayload | NotFound | WrongState | InvalidInput,
    strawberry.union("RegisterTrialResult", description="The possible results of `registerTrial`."),
]


@strawberry.type
class StudyMutations:
    @mutation(
        scope=Scope.RUN,
        metadata=costs(JOB),
        description="Create a study, which searches for the parameters of a pipeline with which a metric is best. Each trial is a TRAIN job and a run.",
    )
    async def create_study(
        self, info: Info, input: Annotated[CreateStudyInput, strawberry.argument(description="The study to create.")]
    ) -> CreateStudyResult:
        new_study = creating.NewStudy(
            name=input.name,
            kind=input.kind,
            method=input.method,
            pipeline_id=decode("pipeline", input.pipeline_id),
            dataset_version_id=decode("version", input.dataset_version_id),
            metric=input.objective.metric,
            goal=input.objective.goal,
            target=input.objective.target,
            space=tuple(parameter.to_parameter() for parameter in input.space),
            experiment_id=decode_optional("experiment", input.experiment_id),
            budget=BudgetChange() if input.budget is None else input.budget.to_change(),
            seed=input.seed,
            is_reproducible=input.reproducible,
            idempotency_key=input.idempotency_key,
        )
        async with info.context.work() as work:
            study_id = await creating.create(work, new_study)
        return CreateStudyPayload(study_id=study_id)

    @mutation(scope=Scope.RUN, description="Pause a study: it makes no trials until it is resumed. Trials that were made go on.")
    async def pause_study(
        self, info: Info, input: Annotated[PauseStudyInput, strawberry.argument(description="The study to pause.")]
    ) -> PauseStudyResult:
        study_id = decode("study", input.id)
        async with info.context.work() as work:
            await changing.pause(work, study_id)
        return PauseStudyPayload(study_id=study_id)

    @mutation(scope=Scope.RUN, metadata=costs(JOB), description="Resume a paused study.")
    async def resume_study(
        self, info: Info, input: Annotated[ResumeStudyInput, strawberry.argument(description="The study to resume.")]
    ) -> ResumeStudyResult:
        study_id = decode("study", input.id)
        async with info.context.work() as work:
            await changing.resume(work, study_id)
        return ResumeStudyPayload(study_id=study_id)

    @mutation(scope=Scope.RUN, description="Cancel a study and its trials that have not ended. It keeps what was found.")
    async def cancel_study(
        self, info: Info, input: Annotated[CancelStudyInput, strawberry.argument(description="The study to cancel.")]
    ) -> CancelStudyResult:
        study_id = decode("study", input.id)
        async with info.context.work() as work:
            await changing.cancel(work, study_id)
        return CancelStudyPayload(study_id=study_id)

    @mutation(scope=Scope.RUN, metadata=costs(JOB), description="Change the limits of a study that has not ended.")
    async def update_study(
        self, info: Info, input: Annotated[UpdateStudyInput, strawberry.argument(description="The study and its new limits.")]
    ) -> UpdateStudyResult:
        study_id = decode("study", input.id)
        async with info.context.work() as work:
            await changing.update(work, study_id, input.budget.to_change())
        return UpdateStudyPayload(study_id=study_id)

    @mutation(
        description="Register the model of a completed trial as the next version of a model. Until then, its files are kept with its job."
    )
    async def register_trial(
        self, info: Info, input: Annotated[RegisterTrialInput, strawberry.argument(description="The trial whose model is registered.")]
    ) -> RegisterTrialResult:
        async with info.context.work() as work:
            version_id = await registering.register(work, decode("trial", input.id), input.model_name)
        return RegisterTrialPayload(model_version_id=version_id)
