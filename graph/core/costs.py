"""What a field costs, declared next to it:

    columns: list[Column] = many(versions.columns, metadata=costs(entries=100), description="...")

A field that declares nothing costs one point for each object that it answers and nothing for a plain value; a list that is no connection
is taken to have ten entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

METADATA_KEY = "cost"
DEFAULT_ENTRIES = 10

JOB = 100  # a mutation that makes a job
PROFILE = 50
PRESIGN = 10  # one signed address
COUNT = 5  # counting a whole list
COMPUTED = 50  # an answer that is worked out from many rows


@dataclass(frozen=True, slots=True)
class DeclaredCost:
    """`weight` in points for the field itself; `entries` of its list, or the name of the argument that has one item for each of them.

    `scaled` names an Int argument, and for how many of it all that lies below counts once more.
    """

    weight: int | None = None
    entries: int | str | None = None
    scaled: tuple[str, int] | None = None


def costs(weight: int | None = None, *, entries: int | str | None = None, scaled: tuple[str, int] | None = None) -> dict[str, Any]:
    """The metadata of a field. `entries=1` is for a list that comes with its parent as one value."""
    return {METADATA_KEY: DeclaredCost(weight, entries, scaled)}
