"""Proposed schemas: written by jobs, accepted with changes, and rejected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select, update

from db.core.audit import differences
from db.core.checks import Checks
from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, WrongState
from db.services import datasets
from db.services.outputs import Result
from db.tables import DatasetVersion, SchemaProposal
from db.tables.datasets import ColumnType, ProblemType
from db.tables.proposals import ColumnRole, SchemaProposalStatus

MAX_REASON, MAX_MEANING = 1_000, 100
CHANGED = "Set when the schema was accepted."
_OPEN = (SchemaProposalStatus.PROPOSED, SchemaProposalStatus.ACCEPTED)


async def add(work: Work, job: Row[Any], version_id: UUID, proposal: Result) -> UUID:
    """Add a proposal in the transaction that settles its job; an earlier one of the version that is open is superseded."""
    # Locked, as another job of the same version may settle at this time.
    statement = select(DatasetVersion.dataset_id).where(DatasetVersion.id == version_id).with_for_update(key_share=True)
    dataset_id: UUID = await work.scalar(statement)
    is_open = (SchemaProposal.version_id == version_id) & (SchemaProposal.status == SchemaProposalStatus.PROPOSED)
    await work.run(update(SchemaProposal).where(is_open).values(status=SchemaProposalStatus.SUPERSEDED))
    problem_type = proposal["problem_type"]
    insertion = insert(SchemaProposal).values(
        version_id=version_id,
        dataset_id=dataset_id,
        job_id=job.id,
        confidence=proposal["confidence"],
        agent=proposal["agent"],
        columns=proposal["columns"],
        problem_type=None if problem_type is None else ProblemType[problem_type],
        target_column=proposal["target_column"],
    )
    return await work.scalar(insertion.returning(SchemaProposal.id))


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """Changes to a proposed column: the attributes to set by name, None clearing one that may be null."""

    name: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Changes:
    """What to accept in place of what was proposed. `values` may have the `problem_type`, None for none."""

    columns: Sequence[ColumnChange] = ()
    values: dict[str, Any] = field(default_factory=dict[str, Any])


async def accept(work: Work, proposal_id: UUID, changes: Changes) -> UUID:
    """Make a proposal the contract of its dataset; all others of the dataset that are open are superseded.

    Raises `NotFound`, `InvalidInput` or `WrongState`.
    """
    proposal, owner_id = await _lock_proposed(work, proposal_id)
    columns, target_column = _changed_columns(proposal, changes)
    values = {"columns": columns, "target_column": target_column, "problem_type": proposal.problem_type, **changes.values}
    others = (SchemaProposal.dataset_id == proposal.dataset_id) & (SchemaProposal.id != proposal_id) & SchemaProposal.status.in_(_OPEN)
    await work.run(update(SchemaProposal).where(others).values(status=SchemaProposalStatus.SUPERSEDED))
    await _decide(work, proposal, owner_id, SchemaProposalStatus.ACCEPTED, "accept_schema_proposal", values)
    return proposal_id


async def reject(work: Work, proposal_id: UUID, reason: str) -> UUID:
    """Raises `NotFound`, `InvalidInput` or `WrongState`."""
    proposal, owner_id = await _lock_proposed(work, proposal_id)
    checks = Checks()
    if not reason.strip():
        checks.add("reason", message="Say why the proposal is rejected.")
    checks.text(reason, "reason", length=MAX_REASON)
    checks.raise_if_invalid()
    await _decide(work, proposal, owner_id, SchemaProposalStatus.REJECTED, "reject_schema_proposal", {"rejection_reason": reason})
    return proposal_id


async def _lock_proposed(work: Work, proposal_id: UUID) -> tuple[Row[Any], UUID]:
    """Lock the proposal and, before it, its dataset; return the proposal and its owner. Two acceptances on one dataset wait for each other."""
    work.viewer.require_write()
    is_visible = (SchemaProposal.id == proposal_id) & visible(SchemaProposal, work.viewer)
    dataset_id = await work.scalar(select(SchemaProposal.dataset_id).where(is_visible))
    if dataset_id is None:
        raise NotFound(str(proposal_id))
    try:
        dataset = await datasets.lock(work, dataset_id)
    except NotFound:
        raise NotFound(str(proposal_id)) from None
    proposal = await work.first(select(SchemaProposal).where(SchemaProposal.id == proposal_id).with_for_update(key_share=True))
    if proposal is None:  # its version was purged
        raise NotFound(str(proposal_id))
    if proposal.status is not SchemaProposalStatus.PROPOSED:
        status = proposal.status.name
        raise WrongState(status, f"The proposal is {status}. Propose another schema for the version with `proposeSchema`.")
    return proposal, dataset.owner_id


async def _decide(
    work: Work, proposal: Row[Any], owner_id: UUID, status: SchemaProposalStatus, action: str, values: dict[str, Any]
) -> None:
    decision = {"status": status, "decided_at": func.now(), "decided_by_id": work.viewer.maker_id}
    await work.run(update(SchemaProposal).where(SchemaProposal.id == proposal.id).values({**decision, **values}))
    before, after = differences(proposal, {"status": status, **values})
    if "columns" in after:  # of what may be thousands, those that were changed
        pairs = [(old, new) for old, new in zip(before["columns"], after["columns"], strict=True) if old != new]
        before["columns"], after["columns"] = [old for old, _ in pairs], [new for _, new in pairs]
    work.record(action, "proposal", proposal.id, owner_id, before, after)


def _changed_columns(proposal: Row[Any], changes: Changes) -> tuple[list[dict[str, Any]], str | None]:
    """Return the columns with the changes, and the target. A new target takes the place of the proposed one. Raises `InvalidInput`."""
    checks = Checks()
    columns = {column["name"]: dict(column) for column in proposal.columns}
    changed: set[str] = set()
    for index, change in enumerate(changes.columns):
        place = ("changes", "columns", str(index))
        if change.name not in columns:
            checks.add(
                *place, "name", message=f"The proposal has no column {change.name[:100]!r}. Columns of the file alone can be changed."
            )
            continue
        if change.name in changed:
            checks.add(*place, "name", message=f"The column {change.name!r} is changed twice; give all of its changes at once.")
        changed.add(change.name)
        for name in ("type", "role", "nullable"):
            if name in change.values and change.values[name] is None:
                checks.add(*place, name, message="This cannot be cleared; leave the field out to keep what was proposed.")
        for name in ("semantic_type", "format"):
            checks.text(change.values.get(name), *place, "semanticType" if name == "semantic_type" else name, length=MAX_MEANING)
        values = {name: value.name if isinstance(value, ColumnType | ColumnRole) else value for name, value in change.values.items()}
        if values:
            columns[change.name].update(values, confidence=1, reason=CHANGED)
    targets = [name for name, column in columns.items() if column["role"] == ColumnRole.TARGET.name]
    chosen = [name for name in targets if name in changed] or targets
    if len(chosen) > 1:
        checks.add("changes", "columns", message=f"A schema has one target; these are {', '.join(map(repr, chosen[:10]))}.")
    checks.raise_if_invalid()
    for name in targets:
        if name not in chosen:
            columns[name].update(role=ColumnRole.FEATURE.name, reason=CHANGED)
    return list(columns.values()), chosen[0] if chosen else None
