"""Filters and orders of lists of models, and inputs of mutations on models."""

from __future__ import annotations

import strawberry
from strawberry import ID

from graph.core.filters import DateTimeFilter, Filter, StringFilter, order_input, reference
from graph.datasets.enums import ProblemType


@strawberry.input(description="Conditions on models, all of which must hold. A list of values means any of them.")
class ModelFilter(Filter):
    name: StringFilter | None = strawberry.field(description="The model's name.")
    problem_type: list[ProblemType] | None = strawberry.field(description="The task of the model.")
    alias: str | None = strawberry.field(description="The alias that one of its versions has now, such as `production`.")
    algorithm: str | None = strawberry.field(
        description="The algorithm of one of its versions, such as `RandomForestClassifier`; case matters."
    )
    created_at: DateTimeFilter | None = strawberry.field(description="When it was created.")
    owner_id: ID | None = reference("user", description="The owner; useful to admins, who see everybody's.")


ModelOrder = order_input(
    "Model",
    "models",
    created_at="When it was created.",
    updated_at="When it was last changed; a new version is a change too.",
    name="Its name, ignoring case.",
)


@strawberry.input(description="An alias and the version to point it to.")
class SetModelAliasInput:
    model_version_id: ID = strawberry.field(description="The version.")
    name: str = strawberry.field(
        description="The alias, such as `production`: 1 to 64 lower-case letters, digits, dots, dashes and underscores, starting with a letter."
    )
    reason: str | None = strawberry.field(description="The reason, as free text; kept in the history of the alias.")
