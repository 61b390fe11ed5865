"""What a field costs, declared next to it:

    columns: list[Column] = many(versions.columns, metadata=costs(entries=100), description="...")

A field without a declaration costs one point for each object that it returns and nothing for a plain value; a list that is not a
connection counts as ten entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

METADATA_KEY = "cost"
DEFAULT_ENTRIES = 10

JOB = 100  # a mutation that submits a job
PROFILE = 50
PRESIGN = 10  # one presigned URL
COUNT = 5  # counting a whole list
COMPUTED = 50  # a value that is computed from many rows


@dataclass(frozen=True, slots=True)
class DeclaredCost:
    """`weight` in points for the field itself; `entries` of its list, or the name of the argument that has one item for each of them.

    `scaled` names an Int argument, and for how many of it all that lies below counts once more.
    """

    weight: int | None = None
    entries: int | str | None = None
    scaled: tuple[str, int] | None = None


def costs(weight: int | None = None, *, entries: int | str | None = None, scaled: tuple[str, int] | None = None) -> dict[str, Any]:
    """Return the metadata of a field. `entries=1` is for a list that is read with its parent as one value."""
    return {METADATA_KEY: DeclaredCost(weight, entries, scaled)}
