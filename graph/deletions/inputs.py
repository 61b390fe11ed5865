"""Inputs of mutations that delete and restore."""

import strawberry
from strawberry import ID


@strawberry.input(description="The pipeline to delete.")
class DeletePipelineInput:
    id: ID = strawberry.field(description="The pipeline.")


@strawberry.input(description="The model to delete.")
class DeleteModelInput:
    id: ID = strawberry.field(description="The model.")


@strawberry.input(description="The experiment to delete.")
class DeleteExperimentInput:
    id: ID = strawberry.field(description="The experiment.")


@strawberry.input(description="The study to delete.")
class DeleteStudyInput:
    id: ID = strawberry.field(description="The study.")


@strawberry.input(description="The dataset version to delete.")
class DeleteDatasetVersionInput:
    id: ID = strawberry.field(description="The dataset version.")


@strawberry.input(description="The model version to delete.")
class DeleteModelVersionInput:
    id: ID = strawberry.field(description="The model version.")


@strawberry.input(description="The run to delete.")
class DeleteRunInput:
    id: ID = strawberry.field(description="The run.")


@strawberry.input(description="What to delete.")
class DeleteManyInput:
    ids: list[ID] = strawberry.field(
        description="1 to 100 ids, of whatever types: all that can be restored, and exports, explanations, tags, saved searches and schedules,"
        " which are gone at once."
    )


@strawberry.input(description="What to purge.")
class PurgeInput:
    id: ID = strawberry.field(description="The id of what was deleted, such as `dataset_…`; see `Deleted.subject`.")


@strawberry.input(description="What to restore.")
class RestoreInput:
    id: ID = strawberry.field(description="The id of what was deleted, such as `dataset_…`; see `Deleted.subject`.")
