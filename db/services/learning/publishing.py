"""Write the tutorials of the code to the table that the API reads."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.viewer import SHIPPED_ACCOUNT
from db.core.work import Work
from db.services.learning.content import TUTORIALS, TutorialContent
from db.tables import Tutorial


async def publish_tutorials(work: Work) -> None:
    """Write the tutorials of this release, after the account of what ships. Safe to run concurrently.

    One that was removed keeps its row, and with it the progress of users, and is marked as retired.
    """
    statement = upsert(Tutorial).values([_row(tutorial) for tutorial in sorted(TUTORIALS.values(), key=lambda tutorial: tutorial.slug)])
    updated = ("position", "title", "summary", "level", "minutes", "steps")
    changes: dict[str, Any] = {name: statement.excluded[name] for name in updated}
    await work.run(statement.on_conflict_do_update(index_elements=["id"], set_={**changes, "retired_at": None}))
    is_removed = (Tutorial.owner_id == SHIPPED_ACCOUNT, Tutorial.slug.not_in(TUTORIALS), Tutorial.retired_at.is_(None))
    await work.run(update(Tutorial).where(*is_removed).values(retired_at=func.now()))


def _row(tutorial: TutorialContent) -> dict[str, Any]:
    return {
        "id": tutorial.id,
        "owner_id": SHIPPED_ACCOUNT,
        "slug": tutorial.slug,
        "position": tutorial.order,
        "title": tutorial.title,
        "summary": tutorial.summary,
        "level": tutorial.level,
        "minutes": tutorial.minutes,
        "steps": tutorial.stored_steps,
    }
