"""Filters and orders of lists of models, and inputs of mutations on models."""

from typing import Any

import strawberry
from strawberry import ID, Maybe

from graph.core.annotations import CHANGED_ANNOTATIONS
from graph.core.filters import DateTimeFilter, Filter, StringFilter, order_input, reference
from graph.core.scalars import JSON
from graph.datasets.enums import ProblemType
from graph.tags.filters import tagged_with


@strawberry.input(description="Conditions on models, all of which must hold. A list of values means any of them.")
class ModelFilter(Filter):
    name: StringFilter | None = strawberry.field(description="The model's name.")
    problem_type: list[ProblemType] | None = strawberry.field(description="The task of the model.")
    alias: str | None = strawberry.field(description="The alias that one of its versions has now, such as `production`.")
    algorithm: str | None = strawberry.field(
        description="The algorithm of one of its versions, such as `RandomForestClassifier`; case matters."
    )
    tags: list[ID] | None = tagged_with()
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


@strawberry.input(description="An alias to remove from a model.")
class RemoveModelAliasInput:
    model_id: ID = strawberry.field(description="The model.")
    name: str = strawberry.field(description="The alias; case is ignored.")
    reason: str | None = strawberry.field(default=None, description="The reason, as free text; kept in the history of the alias.")


@strawberry.input(description="Changes to a model. Omitted fields stay unchanged; null clears a field.")
class UpdateModelInput:
    id: ID = strawberry.field(description="The model.")
    name: Maybe[str | None] = strawberry.field(
        description="A new name; it cannot be cleared. A training under way still adds its version to the model that has the name it was given."
    )
    description: Maybe[str | None] = strawberry.field(description="Free text that describes its purpose.")
    annotations: Maybe[JSON | None] = strawberry.field(description=CHANGED_ANNOTATIONS)

    def changes(self) -> dict[str, Any]:
        """Return the given fields; None clears one."""
        fields = {"name": self.name, "description": self.description, "annotations": self.annotations}
        return {name: change.value for name, change in fields.items() if change is not None}


@strawberry.input(description="Changes to what is written about a model version. Omitted fields stay unchanged; null clears a field.")
class UpdateModelVersionInput:
    id: ID = strawberry.field(description="The model version.")
    label: Maybe[str | None] = strawberry.field(description="A short name, at most 200 characters.")
    description: Maybe[str | None] = strawberry.field(description="Free text, such as what is different in it.")
    annotations: Maybe[JSON | None] = strawberry.field(description=CHANGED_ANNOTATIONS)

    def changes(self) -> dict[str, Any]:
        """Return the given fields; None clears one."""
        fields = {"label": self.label, "description": self.description, "annotations": self.annotations}
        return {name: change.value for name, change in fields.items() if change is not None}
