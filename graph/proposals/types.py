"""Proposed schemas of dataset versions."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import strawberry

from db.queries import accounts, jobs, proposals, versions
from graph.accounts.types import Profile
from graph.core.costs import costs
from graph.core.edges import connection, extend, one
from graph.core.ids import Node
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.scalars import JSON
from graph.datasets.enums import ColumnType, ProblemType
from graph.datasets.types import DatasetVersion
from graph.jobs.outputs import job_output
from graph.jobs.types import Job
from graph.proposals.enums import ColumnRole, SchemaProposalStatus


@strawberry.type(description="What is proposed for one column.")
class ProposedColumn:
    name: str = strawberry.field(description="The column's name in the version.")
    type: ColumnType = strawberry.field(description="The type of its cells.")
    semantic_type: str | None = strawberry.field(
        description="What its values mean: `identifier`, `uuid`, `email`, `url`, `phone`, `ip_address`, `date`, `datetime`, `time`, `duration`, `currency`,"
        " `currency_code`, `country`, `latitude`, `longitude`, `coordinates`, `geometry`, `percentage`, `category`, `boolean`, `number`, `text`,"
        " `json`, `binary`, or what was set when the schema was accepted; null if nothing is known."
    )
    role: ColumnRole = strawberry.field(description="What it is for.")
    nullable: bool = strawberry.field(description="Whether values may be missing: some are in the version.")
    format: str | None = strawberry.field(description="How its values are written, such as `YYYY-MM-DD`, or the currency of amounts.")
    confidence: float = strawberry.field(description="How certain meaning and role are, 0 to 1; 1 for what was set by hand.")
    reason: str = strawberry.field(description="Why this is proposed, in sentences for people.")
    samples: list[JSON] = strawberry.field(
        metadata=costs(entries=1), description="Up to 5 different values of the first rows; texts are cut to 100 characters."
    )

    @classmethod
    def of(cls, column: Mapping[str, Any]) -> Self:
        return cls(
            name=column["name"],
            type=ColumnType[column["type"]],
            semantic_type=column["semantic_type"],
            role=ColumnRole[column["role"]],
            nullable=column["nullable"],
            format=column["format"],
            confidence=float(column["confidence"]),
            reason=column["reason"],
            samples=column["samples"],
        )


@job_output(proposals.by_id)
@strawberry.type(
    description="A proposed schema of a version: types, meanings and roles of its columns. An accepted one is the contract that later versions of"
    " the dataset are compared with."
)
class SchemaProposal(Node, prefix="proposal", found_by=proposals.by_id, scope=Scope.READ):
    version_id: strawberry.Private[UUID]
    dataset_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID | None]
    decided_by_id: strawberry.Private[UUID | None]
    proposed_columns: strawberry.Private[list[Mapping[str, Any]]]
    status: SchemaProposalStatus = strawberry.field(description="Whether it was decided on.")
    confidence: float = strawberry.field(description="The mean of the confidences of its columns as proposed, 0 to 1.")
    agent: str = strawberry.field(description="What proposed it, with its version. The same agent proposes the same for the same version.")
    problem_type: ProblemType | None = strawberry.field(description="The task of models trained on the data, if one is evident.")
    target_column: str | None = strawberry.field(description="The column whose role is TARGET.")
    rejection_reason: str | None = strawberry.field(description="Why it was rejected.")
    created_at: datetime = strawberry.field(description="When it was proposed.")
    decided_at: datetime | None = strawberry.field(description="When it was accepted or rejected.")
    version: DatasetVersion = one(versions.by_id, key="version_id", description="The version that it was proposed for.")
    job: Job | None = one(jobs.by_id, key="job_id", description="The job that proposed it; null if that is deleted.")
    decided_by: Profile | None = one(accounts.profile_by_id, key="decided_by_id", description="Who accepted or rejected it.")

    @strawberry.field(metadata=costs(entries=30), description="Its columns, in the order of the file.")
    def columns(self) -> list[ProposedColumn]:
        return [ProposedColumn.of(column) for column in self.proposed_columns]


extend(
    DatasetVersion,
    "schema_proposals",
    Connection[SchemaProposal],
    connection(proposals.of_version, description="The schemas that were proposed for it, newest first; empty if its dataset is deleted."),
)
extend(
    DatasetVersion,
    "accepted_schema",
    SchemaProposal | None,
    one(
        proposals.accepted_of_dataset,
        key="dataset_id",
        description="The contract of its dataset, which may have been proposed for another version; null without one, and if the dataset is deleted.",
    ),
)
