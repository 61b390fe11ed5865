"""Pause, resume, cancel and change a study."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.audit import differences
from db.core.checks import Checks
from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, WrongState
from db.services.studies import budgets
from db.services.studies.budgets import Budget, BudgetChange
from db.services.studies.halving import HALVING_FIELDS
from db.services.studies.scheduling import schedule_after_commit
from db.services.studies.state import State, lock
from db.tables import Study
from db.tables.studies import STUDY_ENDS, StudyMethod, StudyReason, StudyStatus


async def pause(work: Work, study_id: UUID) -> None:
    """Make no further trials until it is resumed; those that were made go on. Idempotent. Raises `NotFound` or `WrongState`."""
    state = await _lock(work, study_id)
    row = state.row
    _require_going(row, "paused")
    if row.status is not StudyStatus.PAUSED:
        state.stop_clock()
        state.set(status=StudyStatus.PAUSED, reason=StudyReason.USER)
        await state.write(work)
        _record(work, "pause_study", row, status=StudyStatus.PAUSED)


async def resume(work: Work, study_id: UUID) -> None:
    """Go on with a paused study. Idempotent. Raises `NotFound` or `WrongState`."""
    state = await _lock(work, study_id)
    row = state.row
    _require_going(row, "resumed")
    if row.status is StudyStatus.PAUSED:
        status = StudyStatus.PENDING if row.started_at is None else StudyStatus.RUNNING
        state.values["running_since"] = None if row.started_at is None else row.now
        state.set(status=status, reason=None)
        await state.write(work)
        _record(work, "resume_study", row, status=status)
    schedule_after_commit(work, study_id)


async def cancel(work: Work, study_id: UUID) -> None:
    """Make no further trials and cancel those that have not ended; it is CANCELLED when the last one has. Idempotent.

    Raises `NotFound`, or `WrongState` for a study that has ended otherwise, or is about to.
    """
    state = await _lock(work, study_id)
    row = state.row
    if row.status is StudyStatus.CANCELLED:
        return
    if row.ends_as is not StudyStatus.CANCELLED:
        _require_going(row, "cancelled")
        state.set(ends_as=StudyStatus.CANCELLED, reason=StudyReason.USER)
        await state.write(work)
        _record(work, "cancel_study", row, ends_as=StudyStatus.CANCELLED)
    schedule_after_commit(work, study_id)


async def update(work: Work, study_id: UUID, change: BudgetChange, action: str = "update_study") -> None:
    """Change limits of the budget; `action` is the name of it in the audit. Raises `NotFound`, `WrongState` for a study that has ended, or `InvalidInput`."""
    state = await _lock(work, study_id)
    row = state.row
    _require_going(row, "changed")
    checks = Checks()
    present = Budget.of(row)
    budget = budgets.check(checks, present, change)
    if budget.max_trials < row.last_number:
        message = f"{row.last_number:,} trials were made already. Give as many or more, or cancel the study."
        checks.add("budget", "maxTrials", message=message)
    if row.method is StudyMethod.GRID and budget.max_trials < row.trials_total:
        checks.add(
            "budget", "maxTrials", message=f"The grid has {row.trials_total:,} points, and all are tried. Cancel the study to end it."
        )
    if row.is_reproducible and budget.max_parallel != present.max_parallel:
        message = "The trials of a reproducible study depend on how many may run at once. Leave it as it is, or create another study."
        checks.add("budget", "maxParallel", message=message)
    for name, field in HALVING_FIELDS.items():
        if getattr(budget, name) != getattr(present, name):
            message = (
                "Its trials have been compared by it already, or the method compares none. Leave it as it is, or create another study."
            )
            checks.add("budget", field, message=message)
    checks.raise_if_invalid()
    values: dict[str, Any] = {name: getattr(budget, name) for name in Budget.__dataclass_fields__}
    before, after = differences(row, values)
    if row.method is not StudyMethod.GRID:
        values["trials_total"] = budget.max_trials
    state.values |= values
    await state.write(work)
    work.record(action, "study", row.id, row.owner_id, before, after)
    schedule_after_commit(work, study_id)


async def _lock(work: Work, study_id: UUID) -> State:
    work.viewer.require_write()
    is_visible = select(Study.id).where(Study.id == study_id, Study.deleted_at.is_(None), visible(Study, work.viewer))
    state = await lock(work, study_id) if await work.scalar(is_visible) is not None else None
    if state is None or state.row.deleted_at is not None:
        raise NotFound(str(study_id))
    return state


def _require_going(row: Row[Any], change: str) -> None:
    """Raise `WrongState` for a study that has ended, or of which it is decided that it ends."""
    if row.status in STUDY_ENDS:
        message = f"The study {row.name!r} is {row.status.name} and final, so it cannot be {change}. Create another study."
        raise WrongState(row.status.name, message)
    if row.ends_as is not None:
        message = f"The study {row.name!r} is about to be {row.ends_as.name}, once its last trials have ended, so it cannot be {change}."
        raise WrongState(row.ends_as.name, message)


def _record(work: Work, action: str, row: Row[Any], **values: Any) -> None:
    before, after = differences(row, values)
    work.record(action, "study", row.id, row.owner_id, before, after)
