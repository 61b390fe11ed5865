"""Mutations that delete and restore."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry
from strawberry import ID

from db import errors
from db.services import deletions
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.ids import Node, decode, parse
from graph.core.permissions import mutation
from graph.core.problems import Blocked, InvalidInput, NotFound, Problem, WrongState, problem_of
from graph.core.scalars import BigInt
from graph.deletions.enums import DeletedKind
from graph.deletions.inputs import (
    DeleteDatasetVersionInput,
    DeleteExperimentInput,
    DeleteManyInput,
    DeleteModelInput,
    DeleteModelVersionInput,
    DeletePipelineInput,
    DeleteRunInput,
    DeleteStudyInput,
    PurgeInput,
    RestoreInput,
)
from graph.deletions.types import load_subject

_ID = "The id of what was deleted, to remove it from caches."
_UNTIL = "Until when `restore` brings it back."
_MANY_COST = 100


@strawberry.type(description="The pipeline was deleted; its name is free. Jobs, runs and models that came from it still lead to it.")
class DeletePipelinePayload:
    deleted_id: ID = strawberry.field(description=_ID)
    restorable_until: datetime = strawberry.field(description=_UNTIL)


@strawberry.type(description="The model was deleted with its versions and aliases; its name is free. Jobs and runs still lead to it.")
class DeleteModelPayload:
    deleted_id: ID = strawberry.field(description=_ID)
    restorable_until: datetime = strawberry.field(description=_UNTIL)


@strawberry.type(
    description="The experiment was deleted with its runs; its name is free. Models of the runs are kept and still lead to them."
)
class DeleteExperimentPayload:
    deleted_id: ID = strawberry.field(description=_ID)
    restorable_until: datetime = strawberry.field(description=_UNTIL)


@strawberry.type(description="The study was deleted. Its runs stay in their experiment.")
class DeleteStudyPayload:
    deleted_id: ID = strawberry.field(description=_ID)
    restorable_until: datetime = strawberry.field(description=_UNTIL)


@strawberry.type(
    description="The dataset version was deleted; its number stays taken. Jobs, runs and models that came from it still lead to it."
)
class DeleteDatasetVersionPayload:
    deleted_id: ID = strawberry.field(description=_ID)
    restorable_until: datetime = strawberry.field(description=_UNTIL)


@strawberry.type(description="The model version was deleted; its number stays taken. Jobs and runs still lead to it.")
class DeleteModelVersionPayload:
    deleted_id: ID = strawberry.field(description=_ID)
    restorable_until: datetime = strawberry.field(description=_UNTIL)


@strawberry.type(description="The run was deleted; its number stays taken. A model that it trained is kept and still leads to it.")
class DeleteRunPayload:
    deleted_id: ID = strawberry.field(description=_ID)
    restorable_until: datetime = strawberry.field(description=_UNTIL)


@strawberry.type(description="What became of one id.")
class DeletionOutcome:
    subject_id: ID = strawberry.field(description="The id as it was sent.")
    is_deleted: bool = strawberry.field(description="Whether it is deleted, by this call or an earlier one.")
    restorable_until: datetime | None = strawberry.field(
        description="Until when `restore` brings it back; null for what cannot be restored."
    )
    problem: Problem | None = strawberry.field(description="Why it is not deleted.")


@strawberry.type(description="Each of the ids was looked at; see `results` for those that could not be deleted.")
class DeleteManyPayload:
    deleted_count: int = strawberry.field(description="How many of the results are deleted.")
    results: list[DeletionOutcome] = strawberry.field(
        metadata=costs(entries=1), description="What became of each id, in the order of the input."
    )


@strawberry.type(description="It is back, with all that is a part of it.")
class RestorePayload:
    kind: strawberry.Private[DeletedKind]
    key: strawberry.Private[UUID]
    name: str = strawberry.field(description="Its name now.")
    is_renamed: bool = strawberry.field(description="Whether it has a number behind its name, because that was taken meanwhile.")

    @strawberry.field(description="What was restored.")
    async def restored(self, info: Info) -> Node:
        return await load_subject(info, self.kind, self.key)


@strawberry.type(
    description="Nothing restores it any more. Within minutes its files and rows are removed; what lineage needs of it stays as a row without contents."
)
class PurgePayload:
    purged_id: ID = strawberry.field(description="The id of what is purged.")
    bytes: BigInt = strawberry.field(
        description="How many bytes only it stored when it was deleted; they are given back to the storage quota once they are removed."
    )


DeletePipelineResult = Annotated[
    DeletePipelinePayload | NotFound | Blocked,
    strawberry.union("DeletePipelineResult", description="The possible results of `deletePipeline`."),
]
DeleteModelResult = Annotated[
    DeleteModelPayload | NotFound | Blocked,
    strawberry.union("DeleteModelResult", description="The possible results of `deleteModel`."),
]
DeleteExperimentResult = Annotated[
    DeleteExperimentPayload | NotFound | Blocked,
    strawberry.union("DeleteExperimentResult", description="The possible results of `deleteExperiment`."),
]
DeleteStudyResult = Annotated[
    DeleteStudyPayload | NotFound | Blocked,
    strawberry.union("DeleteStudyResult", description="The possible results of `deleteStudy`."),
]
DeleteDatasetVersionResult = Annotated[
    DeleteDatasetVersionPayload | NotFound | Blocked,
    strawberry.union("DeleteDatasetVersionResult", description="The possible results of `deleteDatasetVersion`."),
]
DeleteModelVersionResult = Annotated[
    DeleteModelVersionPayload | NotFound | Blocked,
    strawberry.union("DeleteModelVersionResult", description="The possible results of `deleteModelVersion`."),
]
DeleteRunResult = Annotated[
    DeleteRunPayload | NotFound | Blocked,
    strawberry.union("DeleteRunResult", description="The possible results of `deleteRun`."),
]
DeleteManyResult = Annotated[
    DeleteManyPayload | InvalidInput,
    strawberry.union("DeleteManyResult", description="The possible results of `deleteMany`."),
]
PurgeResult = Annotated[
    PurgePayload | NotFound | WrongState,
    strawberry.union("PurgeResult", description="The possible results of `purge`."),
]
RestoreResult = Annotated[
    RestorePayload | NotFound | WrongState,
    strawberry.union("RestoreResult", description="The possible results of `restore`."),
]


@strawberry.type
class DeletionMutations:
    @mutation(description="Delete a pipeline. What was made with it is kept, and edges still lead to it.")
    async def delete_pipeline(
        self, info: Info, input: Annotated[DeletePipelineInput, strawberry.argument(description="The pipeline to delete.")]
    ) -> DeletePipelineResult:
        return DeletePipelinePayload(deleted_id=input.id, restorable_until=await _delete(info, "pipeline", input.id))

    @mutation(
        description="Delete a model with its versions, unless one of them has the alias `production`. Edges still lead to them, but no longer to their files."
    )
    async def delete_model(
        self, info: Info, input: Annotated[DeleteModelInput, strawberry.argument(description="The model to delete.")]
    ) -> DeleteModelResult:
        return DeleteModelPayload(deleted_id=input.id, restorable_until=await _delete(info, "model", input.id))

    @mutation(description="Delete an experiment with its runs. Models that the runs trained are kept, and edges still lead to the runs.")
    async def delete_experiment(
        self, info: Info, input: Annotated[DeleteExperimentInput, strawberry.argument(description="The experiment to delete.")]
    ) -> DeleteExperimentResult:
        return DeleteExperimentPayload(deleted_id=input.id, restorable_until=await _delete(info, "experiment", input.id))

    @mutation(description="Delete a study that has ended. Its runs stay in their experiment, and registered models stay models.")
    async def delete_study(
        self, info: Info, input: Annotated[DeleteStudyInput, strawberry.argument(description="The study to delete.")]
    ) -> DeleteStudyResult:
        return DeleteStudyPayload(deleted_id=input.id, restorable_until=await _delete(info, "study", input.id))

    @mutation(
        description="Delete a version of a dataset, unless a job or study on it has not ended or a model version with the alias `production` was"
        " trained on it. Edges still lead to it, but no longer to its files and rows."
    )
    async def delete_dataset_version(
        self, info: Info, input: Annotated[DeleteDatasetVersionInput, strawberry.argument(description="The dataset version to delete.")]
    ) -> DeleteDatasetVersionResult:
        return DeleteDatasetVersionPayload(deleted_id=input.id, restorable_until=await _delete(info, "version", input.id))

    @mutation(description="Delete a version of a model that no alias points to. Edges still lead to it, but no longer to its files.")
    async def delete_model_version(
        self, info: Info, input: Annotated[DeleteModelVersionInput, strawberry.argument(description="The model version to delete.")]
    ) -> DeleteModelVersionResult:
        return DeleteModelVersionPayload(deleted_id=input.id, restorable_until=await _delete(info, "mversion", input.id))

    @mutation(
        description="Delete a run whose job has ended, and its study if it is a trial. A model that it trained is kept, and edges still lead to the run."
    )
    async def delete_run(
        self, info: Info, input: Annotated[DeleteRunInput, strawberry.argument(description="The run to delete.")]
    ) -> DeleteRunResult:
        return DeleteRunPayload(deleted_id=input.id, restorable_until=await _delete(info, "run", input.id))

    @mutation(
        metadata=costs(_MANY_COST),
        description="Delete up to 100 things of any types, each as its own mutation would; what cannot be deleted keeps nothing else from it. Repeated,"
        " what is deleted already is told as such.",
    )
    async def delete_many(
        self, info: Info, input: Annotated[DeleteManyInput, strawberry.argument(description="What to delete.")]
    ) -> DeleteManyResult:
        ids = [parse(text) or ("", UUID(int=0)) for text in input.ids]
        told = await deletions.delete_many(info.context.database, info.context.signed_in_viewer, ids)
        results = [
            DeletionOutcome(
                subject_id=text,
                is_deleted=deleted.error is None,
                restorable_until=deleted.restorable_until,
                problem=None if deleted.error is None else problem_of(deleted.error, text),
            )
            for text, deleted in zip(input.ids, told, strict=True)
        ]
        return DeleteManyPayload(deleted_count=sum(result.is_deleted for result in results), results=results)

    @mutation(
        description="Bring back what was deleted, whole, where `Deleted.restorableUntil` is still to come. If its name is taken by now, it gets a number behind"
        " it. What is not deleted stays as it is."
    )
    async def restore(
        self, info: Info, input: Annotated[RestoreInput, strawberry.argument(description="What to restore.")]
    ) -> RestoreResult:
        parsed = parse(input.id)
        if parsed is None:
            raise errors.NotFound(input.id)
        async with info.context.work() as work:
            restored = await deletions.restore(work, *parsed)
        return RestorePayload(kind=restored.kind, key=restored.id, name=restored.name, is_renamed=restored.is_renamed)

    @mutation(
        description="Give up what was deleted before `Deleted.restorableUntil`, to get its storage back: nothing restores it any more. `WrongState` for what is"
        " not deleted, or was deleted with what it is a part of. Repeated, it changes nothing; what is removed already is `NotFound`."
    )
    async def purge(self, info: Info, input: Annotated[PurgeInput, strawberry.argument(description="What to purge.")]) -> PurgeResult:
        parsed = parse(input.id)
        if parsed is None:
            raise errors.NotFound(input.id)
        async with info.context.work() as work:
            size = await deletions.purge(work, *parsed)
        return PurgePayload(purged_id=input.id, bytes=BigInt(size))


async def _delete(info: Info, prefix: str, id_: ID) -> datetime:
    async with info.context.work() as work:
        return await deletions.delete(work, prefix, decode(prefix, id_))
