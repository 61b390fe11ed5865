"""The cost of a field, declared next to it:

    columns: list[Column] = many(versions.columns, metadata=costs(entries=100), description="...")

Without a declaration, a field costs one point for each object that it returns and nothing for a plain value. A list that is not a
connection counts as ten entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

METADATA_KEY = "cost"
DEFAULT_ENTRIES = 10

JOB = 100  # a mutation that submits a job
PROFILE = 50
RESULT = 50  # of a job
PRESIGN = 10  # one presigned URL
COUNT = 5  # counting all entries of a list
COMPUTED = 50  # a value computed from many rows


@dataclass(frozen=True, slots=True)
class DeclaredCost:
    """`weight` is the points for the field itself; `entries` the length of its list, or the name of a list argument with one item per entry.

    `scaled` names an Int argument and a unit: the cost below the field is multiplied by the argument's value in units, rounded up.
    """

    weight: int | None = None
    entries: int | str | None = None
    scaled: tuple[str, int] | None = None


def costs(weight: int | None = None, *, entries: int | str | None = None, scaled: tuple[str, int] | None = None) -> dict[str, Any]:
    """Return the metadata of a field. Use `entries=1` for a list that is read with its parent as one value."""
    return {METADATA_KEY: DeclaredCost(weight, entries, scaled)}
