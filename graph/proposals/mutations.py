"""Mutations on proposed schemas."""

from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import jobs
from db.queries import proposals as proposal_queries
from db.services import deducing, proposals
from graph.core.context import Info
from graph.core.costs import JOB, costs
from graph.core.edges import one
from graph.core.ids import decode
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NotFound, WrongState
from graph.jobs.types import Job
from graph.proposals.inputs import AcceptSchemaProposalInput, ProposeSchemaInput, RejectSchemaProposalInput
from graph.proposals.types import SchemaProposal


@strawberry.type(description="A job was submitted that proposes a schema.")
class ProposeSchemaPayload:
    job_id: strawberry.Private[UUID]
    job: Job = one(jobs.by_id, key="job_id", description="The DEDUCE_SCHEMA job; the proposal is its output.")


@strawberry.type(description="The schema is the contract of its dataset.")
class AcceptSchemaProposalPayload:
    proposal_id: strawberry.Private[UUID]
    schema_proposal: SchemaProposal = one(proposal_queries.by_id, key="proposal_id", description="The accepted proposal, with the changes.")


@strawberry.type(description="The proposal was rejected.")
class RejectSchemaProposalPayload:
    proposal_id: strawberry.Private[UUID]
    schema_proposal: SchemaProposal = one(proposal_queries.by_id, key="proposal_id", description="The rejected proposal.")


ProposeSchemaResult = Annotated[
    ProposeSchemaPayload | NotFound | InvalidInput | WrongState | Conflict | InsufficientCredits,
    strawberry.union("ProposeSchemaResult", description="The possible results of `proposeSchema`."),
]
AcceptSchemaProposalResult = Annotated[
    AcceptSchemaProposalPayload | NotFound | InvalidInput | WrongState,
    strawberry.union("AcceptSchemaProposalResult", description="The possible results of `acceptSchemaProposal`."),
]
RejectSchemaProposalResult = Annotated[
    RejectSchemaProposalPayload | NotFound | InvalidInput | WrongState,
    strawberry.union("RejectSchemaProposalResult", description="The possible results of `rejectSchemaProposal`."),
]


@strawberry.type
class ProposalMutations:
    @mutation(
        scope=Scope.RUN,
        metadata=costs(JOB),
        description="Propose a schema for a version again, such as after another target was set. Every ingest proposes one by itself.",
    )
    async def propose_schema(
        self, info: Info, input: Annotated[ProposeSchemaInput, strawberry.argument(description="The version.")]
    ) -> ProposeSchemaResult:
        version_id = decode("version", input.dataset_version_id)
        async with info.context.work() as work:
            job_id = await deducing.propose(work, version_id, input.idempotency_key)
        return ProposeSchemaPayload(job_id=job_id)

    @mutation(
        description="Accept a proposed schema, with changes if some are given. Later versions of the dataset are compared with it: what breaks it is told"
        " in their issues, or fails them, as `Dataset.schemaPolicy` says. The schema accepted before is superseded."
    )
    async def accept_schema_proposal(
        self, info: Info, input: Annotated[AcceptSchemaProposalInput, strawberry.argument(description="The proposal, and the changes.")]
    ) -> AcceptSchemaProposalResult:
        changes = proposals.Changes() if input.changes is None else input.changes.changes()
        async with info.context.work() as work:
            proposal_id = await proposals.accept(work, decode("proposal", input.id), changes)
        return AcceptSchemaProposalPayload(proposal_id=proposal_id)

    @mutation(description="Reject a proposed schema, for a reason. The accepted schema of the dataset, if it has one, stays.")
    async def reject_schema_proposal(
        self, info: Info, input: Annotated[RejectSchemaProposalInput, strawberry.argument(description="The proposal, and the reason.")]
    ) -> RejectSchemaProposalResult:
        async with info.context.work() as work:
            proposal_id = await proposals.reject(work, decode("proposal", input.id), input.reason)
        return RejectSchemaProposalPayload(proposal_id=proposal_id)
