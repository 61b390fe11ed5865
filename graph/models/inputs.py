"""What lists of models can be narrowed and ordered by, and what the mutations on models take."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry import ID

from db.queries import models
from graph.core.filters import DateTimeFilter, OrderDirection, StringFilter, field_order
from graph.core.ids import filter_id
from graph.datasets.enums import ProblemType
from graph.models.enums import ModelOrderField


@strawberry.input(description="Conditions on models, all of which must hold. A list of values means any of them.")
class ModelFilter:
    name: StringFilter | None = strawberry.field(description="The model's name.")
    problem_type: list[ProblemType] | None = strawberry.field(description="What it is to do.")
    alias: str | None = strawberry.field(description="It has a version with this alias now, such as `production`.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was made.")
    owner_id: ID | None = strawberry.field(description="Whose it is; of use to admins, who see everybody's.")

    def to_criteria(self) -> models.ModelFilter:
        return models.ModelFilter(
            name=self.name.to_criteria() if self.name else None,
            problem_type=None if self.problem_type is None else tuple(self.problem_type),
            alias=self.alias,
            created_at=self.created_at.to_criteria() if self.created_at else None,
            owner_id=filter_id("user", self.owner_id),
        )


@strawberry.input(description="The order of a list of models.")
class ModelOrder:
    field: ModelOrderField = strawberry.field(description="What to order by.")
    direction: OrderDirection = strawberry.field(default=OrderDirection.DESC, description="Which end comes first.")

    def to_order(self) -> Any:
        return field_order(self.field, self.direction)


@strawberry.input(description="An alias and the version that it is to point to from now on.")
class SetModelAliasInput:
    model_version_id: ID = strawberry.field(description="The version.")
    name: str = strawberry.field(
        description="The alias: 1 to 64 lower-case letters, digits, dots, dashes and underscores, beginning with a letter, such as `production`."
    )
    reason: str | None = strawberry.field(description="Why, for people; kept in the alias's history.")
