"""Mutations on model aliases."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import models as model_queries
from db.services import models
from graph.core.context import Info
from graph.core.edges import one
from graph.core.ids import decode
from graph.core.permissions import mutation
from graph.core.problems import InvalidInput, NotFound
from graph.models.inputs import SetModelAliasInput
from graph.models.types import ModelVersion


@strawberry.type(description="The alias now points to the version.")
class SetModelAliasPayload:
    model_version_id: strawberry.Private[UUID]
    model_version: ModelVersion = one(
        model_queries.version_by_id, key="model_version_id", description="The version, with the alias among its `aliases`."
    )


SetModelAliasResult = Annotated[
    SetModelAliasPayload | NotFound | InvalidInput,
    strawberry.union("SetModelAliasResult", description="The possible results of `setModelAlias`."),
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
