"""What lists of models can be narrowed and ordered by, and what the mutations on models take."""

from __future__ import annotations

import strawberry
from strawberry import ID

from graph.core.filters import DateTimeFilter, Filter, StringFilter, order_input, reference
from graph.datasets.enums import ProblemType


@strawberry.input(description="Conditions on models, all of which must hold. A list of values means any of them.")
class ModelFilter(Filter):
    name: StringFilter | None = strawberry.field(description="The model's name.")
    problem_type: list[ProblemType] | None = strawberry.field(description="What it is to do.")
    alias: str | None = strawberry.field(description="It has a version with this alias now, such as `production`.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was created.")
    owner_id: ID | None = reference("user", description="The owner; useful to admins, who see everybody's.")


ModelOrder = order_input(
    "Model",
    "models",
    created_at="When it was created.",
    updated_at="When it was last changed; a new version is a change too.",
    name="Its name, ignoring case.",
)


@strawberry.input(description="An alias and the version that it is to point to from now on.")
class SetModelAliasInput:
    model_version_id: ID = strawberry.field(description="The version.")
    name: str = strawberry.field(
        description="The alias: 1 to 64 lower-case letters, digits, dots, dashes and underscores, beginning with a letter, such as `production`."
    )
    reason: str | None = strawberry.field(description="Why, for people; kept in the alias's history.")
