"""Inputs of mutations on proposed schemas."""

from typing import Any

import strawberry
from strawberry import ID, Maybe

from db.services.proposals import Changes, ColumnChange
from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.datasets.enums import ColumnType, ProblemType
from graph.proposals.enums import ColumnRole


@strawberry.input(description="The version to propose a schema for.")
class ProposeSchemaInput:
    dataset_version_id: ID = strawberry.field(description="The version; it must be READY.")
    idempotency_key: str | None = strawberry.field(description=IDEMPOTENCY_KEY)


@strawberry.input(description="Changes to a proposed column. Omitted fields stay as proposed; null clears a field.")
class ColumnChangeInput:
    name: str = strawberry.field(description="The column's name, as proposed.")
    type: Maybe[ColumnType | None] = strawberry.field(description="The type that later versions have to have; it cannot be cleared.")
    semantic_type: Maybe[str | None] = strawberry.field(description="What its values mean, such as `email`.")
    role: Maybe[ColumnRole | None] = strawberry.field(
        description="What it is for. A new TARGET takes the place of the proposed one; it cannot be cleared."
    )
    nullable: Maybe[bool | None] = strawberry.field(description="Whether values may be missing; it cannot be cleared.")
    format: Maybe[str | None] = strawberry.field(description="How its values are written.")

    def change(self) -> ColumnChange:
        fields: dict[str, Any] = {
            "type": self.type,
            "semantic_type": self.semantic_type,
            "role": self.role,
            "nullable": self.nullable,
            "format": self.format,
        }
        return ColumnChange(self.name, {name: change.value for name, change in fields.items() if change is not None})


@strawberry.input(description="What to accept in place of what was proposed.")
class SchemaChangesInput:
    columns: list[ColumnChangeInput] | None = strawberry.field(default=None, description="Changes to columns; the others stay as proposed.")
    problem_type: Maybe[ProblemType | None] = strawberry.field(description="The task of models trained on the data.")

    def changes(self) -> Changes:
        values = {} if self.problem_type is None else {"problem_type": self.problem_type.value}
        return Changes([column.change() for column in self.columns or ()], values)


@strawberry.input(description="The proposal to accept.")
class AcceptSchemaProposalInput:
    id: ID = strawberry.field(description="The proposal; it must be PROPOSED.")
    changes: SchemaChangesInput | None = strawberry.field(default=None, description="Changes to it; it is accepted as it is without any.")


@strawberry.input(description="The proposal to reject.")
class RejectSchemaProposalInput:
    id: ID = strawberry.field(description="The proposal; it must be PROPOSED.")
    reason: str = strawberry.field(description="Why it is wrong, for whoever proposes the next one; at most 1,000 characters.")
