"""Complete the steps of tutorials, and begin again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, select
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.policy import visible_or_shipped
from db.core.work import Work
from db.errors import NotFound, invalid
from db.tables import Tutorial, TutorialProgress


async def complete_step(work: Work, tutorial_id: UUID, step_key: str) -> None:
    """Note that the viewer has completed a step. One that they had completed before keeps its time.

    Raises `NotFound`, or `InvalidInput` for a step that the tutorial does not have.
    """
    tutorial = await _tutorial(work, tutorial_id)
    keys = [step["key"] for step in tutorial.steps]
    if step_key not in keys:
        raise invalid("stepKey", message=f"The tutorial {tutorial.slug!r} has no step {step_key[:100]!r}. Its steps are {', '.join(keys)}.")
    values = {"user_id": work.viewer.id, "tutorial_id": tutorial_id, "step_key": step_key}
    statement = upsert(TutorialProgress).values(values).on_conflict_do_nothing().returning(TutorialProgress.step_key)
    if await work.scalar(statement) is not None:
        work.record("complete_tutorial_step", "user", work.viewer.id, work.viewer.id, after={"tutorial": tutorial.slug, "step": step_key})


async def reset(work: Work, tutorial_id: UUID) -> None:
    """Forget which steps of a tutorial the viewer has completed. Raises `NotFound`."""
    tutorial = await _tutorial(work, tutorial_id)
    is_own = (TutorialProgress.user_id == work.viewer.id, TutorialProgress.tutorial_id == tutorial_id)
    rows = await work.all(delete(TutorialProgress).where(*is_own).returning(TutorialProgress.step_key))
    if rows:
        steps = sorted(row.step_key for row in rows)
        work.record("reset_tutorial", "user", work.viewer.id, work.viewer.id, before={"tutorial": tutorial.slug, "steps": steps})


async def _tutorial(work: Work, tutorial_id: UUID) -> Row[Any]:
    is_present = (Tutorial.id == tutorial_id, Tutorial.retired_at.is_(None), visible_or_shipped(Tutorial, work.viewer))
    row = await work.first(select(Tutorial.slug, Tutorial.steps).where(*is_present))
    if row is None:
        raise NotFound(str(tutorial_id))
    return row
