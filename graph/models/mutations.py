"""Mutations on models, their versions and aliases."""

from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import models as model_queries
from db.services import models
from graph.core.context import Info
from graph.core.edges import one
from graph.core.ids import decode
from graph.core.permissions import mutation
from graph.core.problems import InvalidInput, NameTaken, NotFound
from graph.models.inputs import RemoveModelAliasInput, SetModelAliasInput, UpdateModelInput, UpdateModelVersionInput
from graph.models.types import Model, ModelVersion


@strawberry.type(description="The alias now points to the version.")
class SetModelAliasPayload:
    model_version_id: strawberry.Private[UUID]
    model_version: ModelVersion = one(
        model_queries.version_by_id, key="model_version_id", description="The version, with the alias among its `aliases`."
    )


@strawberry.type(description="The alias points to no version of the model any more.")
class RemoveModelAliasPayload:
    model_id: strawberry.Private[UUID]
    model: Model = one(model_queries.by_id, key="model_id", description="The model, without the alias among its `aliases`.")


@strawberry.type(description="The model was changed.")
class UpdateModelPayload:
    model_id: strawberry.Private[UUID]
    model: Model = one(model_queries.by_id, key="model_id", description="The updated model.")


@strawberry.type(description="What is written about the model version was changed.")
class UpdateModelVersionPayload:
    model_version_id: strawberry.Private[UUID]
    model_version: ModelVersion = one(
        model_queries.version_by_id, key="model_version_id", description="The version with its new label and description."
    )


SetModelAliasResult = Annotated[
    SetModelAliasPayload | NotFound | InvalidInput,
    strawberry.union("SetModelAliasResult", description="The possible results of `setModelAlias`."),
]

RemoveModelAliasResult = Annotated[
    RemoveModelAliasPayload | NotFound | InvalidInput,
    strawberry.union("RemoveModelAliasResult", description="The possible results of `removeModelAlias`."),
]
UpdateModelResult = Annotated[
    UpdateModelPayload | NotFound | NameTaken | InvalidInput,
    strawberry.union("UpdateModelResult", description="The possible results of `updateModel`."),
]
UpdateModelVersionResult = Annotated[
    UpdateModelVersionPayload | NotFound | InvalidInput,
    strawberry.union("UpdateModelVersionResult", description="The possible results of `updateModelVersion`."),
]


@strawberry.type
class ModelMutations:
    @mutation(
        description="Point an alias of a model to one of its versions. The version that it pointed to before loses it; setting it to the"
        " same version again changes nothing."
    )
    async def set_model_alias(
        self, info: Info, input: Annotated[SetModelAliasInput, strawberry.argument(description="The alias and the version.")]
    ) -> SetModelAliasResult:
        async with info.context.work() as work:
            version_id = await models.set_alias(work, decode("mversion", input.model_version_id), input.name, input.reason)
        return SetModelAliasPayload(model_version_id=version_id)

    @mutation(description="Remove an alias from a model. The version that it pointed to stays, and so does the history of the alias.")
    async def remove_model_alias(
        self, info: Info, input: Annotated[RemoveModelAliasInput, strawberry.argument(description="The alias and its model.")]
    ) -> RemoveModelAliasResult:
        async with info.context.work() as work:
            model_id = await models.remove_alias(work, decode("model", input.model_id), input.name, input.reason)
        return RemoveModelAliasPayload(model_id=model_id)

    @mutation(description="Change the name or the description of a model.")
    async def update_model(
        self, info: Info, input: Annotated[UpdateModelInput, strawberry.argument(description="The changes.")]
    ) -> UpdateModelResult:
        async with info.context.work() as work:
            model_id = await models.update(work, decode("model", input.id), input.changes())
        return UpdateModelPayload(model_id=model_id)

    @mutation(description="Change the label or the description of a model version. The model itself never changes.")
    async def update_model_version(
        self, info: Info, input: Annotated[UpdateModelVersionInput, strawberry.argument(description="The changes.")]
    ) -> UpdateModelVersionResult:
        async with info.context.work() as work:
            version_id = await models.update_version(work, decode("mversion", input.id), input.changes())
        return UpdateModelVersionPayload(model_version_id=version_id)
