"""Comparison of two versions by their schemas and profiles."""

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import strawberry

from db.core.drift import column_drift
from db.queries import versions
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.enums import describe
from graph.core.loading import identity
from graph.core.scalars import BigInt
from graph.datasets.enums import ColumnType
from graph.datasets.profiles import DatasetProfile
from graph.datasets.types import DatasetVersion

AT_ONCE = 100  # columns that are compared without a break


class ColumnChange(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    TYPE_CHANGED = "type_changed"
    KEPT = "kept"


describe(
    ColumnChange,
    "What became of a column from one version to another.",
    ADDED="Only the second version has it.",
    REMOVED="Only the first version has it.",
    TYPE_CHANGED="Both versions have it, with different types.",
    KEPT="Both versions have it, with one type.",
)


@strawberry.type(description="A column of either of two versions.")
class ComparedColumn:
    name: str = strawberry.field(description="Its name.")
    change: ColumnChange = strawberry.field(description="What became of it.")
    from_type: ColumnType | None = strawberry.field(description="Its type in the first version; null if that does not have it.")
    to_type: ColumnType | None = strawberry.field(description="Its type in the second version; null if that does not have it.")
    drift: float | None = strawberry.field(
        description="How much the distribution of its values differs: the Jensen-Shannon distance (Lin, 1991), 0 for equal distributions to 1 for those"
        " without a common value. sqrt((Σ p log2(p / m) + Σ q log2(q / m)) / 2) with m = (p + q) / 2, of the shares p and q of each value among those that"
        " are not missing. Exact where both profiles list all values; else by the bins of the histograms, or, for what has none, a lower bound from the"
        " most frequent values. Null if it is not KEPT, a version has no profile, or neither lists a value."
    )
    from_missing_ratio: float | None = strawberry.field(
        description="The share of its cells that are missing in the first version; null without a profile."
    )
    to_missing_ratio: float | None = strawberry.field(
        description="The share of its cells that are missing in the second version; null without a profile."
    )


@strawberry.type(description="Two versions, and how their columns differ.")
class VersionComparison:
    from_: DatasetVersion = strawberry.field(name="from", description="The first version.")
    to: DatasetVersion = strawberry.field(description="The second version.")
    added_rows: BigInt | None = strawberry.field(
        description="How many more rows the second version has; negative for fewer, null while one of them is not READY."
    )
    is_schema_equal: bool = strawberry.field(description="Whether both have the same columns with the same types, in any order.")
    columns: list[ComparedColumn] = strawberry.field(
        metadata=costs(entries=100), description="The columns of the second version in their order, then those that only the first one has."
    )


async def compare(info: Info, before: DatasetVersion, after: DatasetVersion) -> VersionComparison:
    """Compare two versions. Of a version without a profile, or of a deleted dataset, the schema alone is compared."""
    loaders = info.context.loaders
    schemas = [
        {column["name"]: column for column in await loaders.one(versions.columns, identity).load(version.uuid) or ()}
        for version in (before, after)
    ]
    reports: list[Mapping[str, Any]] = []
    rows: list[int] = []
    for version in (before, after):
        profile: DatasetProfile | None = await loaders.one(versions.profile_of_version, DatasetProfile.of).load(version.uuid)
        reports.append({} if profile is None else {column["name"]: column for column in (await profile.report(info))["columns"]})
        rows.append(0 if profile is None else profile.row_count)
    first, second = schemas
    names = (*second, *(name for name in first if name not in second))
    columns: list[ComparedColumn] = []
    for number, name in enumerate(names):
        old, new = reports[0].get(name), reports[1].get(name)
        columns.append(_column(name, first.get(name), second.get(name), old, new, (rows[0], rows[1])))
        if number % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)  # others have their turn: a version has up to 2,000 columns
    added = None if before.row_count is None or after.row_count is None else after.row_count - before.row_count
    is_equal = all(column.change is ColumnChange.KEPT for column in columns)
    return VersionComparison(from_=before, to=after, added_rows=added, is_schema_equal=is_equal, columns=columns)


Document = Mapping[str, Any] | None


def _column(name: str, before: Document, after: Document, old: Document, new: Document, rows: tuple[int, int]) -> ComparedColumn:
    if before is None or after is None:
        change = ColumnChange.ADDED if before is None else ColumnChange.REMOVED
    else:
        change = ColumnChange.KEPT if before["type"] == after["type"] else ColumnChange.TYPE_CHANGED
    is_told = change is ColumnChange.KEPT and old is not None and new is not None
    return ComparedColumn(
        name=name,
        change=change,
        from_type=None if before is None else ColumnType(before["type"].lower()),
        to_type=None if after is None else ColumnType(after["type"].lower()),
        drift=column_drift(old, new, rows) if is_told and old is not None and new is not None else None,
        from_missing_ratio=_missing(old, rows[0]),
        to_missing_ratio=_missing(new, rows[1]),
    )


def _missing(report: Document, rows: int) -> float | None:
    return None if report is None or not rows else report["missing_count"] / rows
