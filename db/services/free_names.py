"""Names with a number that is free, for what gets a name by itself."""

from __future__ import annotations

from functools import cache
from uuid import UUID

from sqlalchemy import Text, TextClause, bindparam, text

from db.core.checks import NAME_LENGTH
from db.core.work import Work


def numbered_base(name: str) -> str:
    """The name, or as much of its beginning as leaves room for a number behind it."""
    return name[: NAME_LENGTH - len(" (1000000000)")]


async def free_number(work: Work, table: str, owner_id: UUID, base: str) -> int:
    """A number from 2 on for which the owner has no live row in the table that is named `base (number)`. Another transaction may take it meanwhile."""
    return await work.scalar(_free_number(table), {"owner": owner_id, "base": base})


@cache
def _free_number(table: str) -> TextClause:
    """Double up to a free number, then bisect down to the last taken one. Trying numbers in turn took one statement per earlier one."""
    statement = f"""
    WITH RECURSIVE probes (taken, free, number) AS (
        SELECT 1::bigint, NULL::bigint, 2::bigint
        UNION ALL
        SELECT CASE WHEN is_taken THEN number ELSE taken END, CASE WHEN is_taken THEN free ELSE number END,
            CASE WHEN NOT is_taken THEN (taken + number) / 2 WHEN free IS NULL THEN number * 2 ELSE (number + free) / 2 END
        FROM probes, LATERAL (SELECT EXISTS (
            SELECT FROM {table}
            WHERE owner_id = :owner AND lower(name) = lower(:base || ' (' || number || ')') AND deleted_at IS NULL
        )) AS name (is_taken)
        WHERE free IS NULL OR free - taken > 1
    )
    SELECT free FROM probes WHERE free - taken = 1"""  # noqa: S608 - the name of one of our tables
    return text(statement).bindparams(bindparam("base", type_=Text))
