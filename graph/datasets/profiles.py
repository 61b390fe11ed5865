"""What is found in a version: its columns, what is wrong with it, and its profile."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import orjson
import strawberry

from db.queries import versions
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.ids import Node
from graph.core.loading import identity
from graph.core.scalars import JSON, BigInt, Duration
from graph.datasets.enums import ColumnType
from graph.jobs.outputs import job_output


def _column_type(value: str) -> ColumnType:
    return ColumnType(value.lower())


@strawberry.type(description="A column of a version.")
class Column:
    name: str = strawberry.field(description="Its name in the processed file, unique there.")
    type: ColumnType = strawberry.field(description="What its cells are.")
    nullable: bool = strawberry.field(description="Whether a cell of it is missing anywhere.")

    @classmethod
    def of(cls, column: Mapping[str, Any]) -> Self:
        return cls(name=column["name"], type=_column_type(column["type"]), nullable=column["nullable"])


@strawberry.type(description="Something that was wrong with a file.")
class ValidationIssue:
    code: str = strawberry.field(description="Which kind of trouble, for programs: UPPER_SNAKE and stable.")
    message: str = strawberry.field(description="What was found, where, and what was done about it.")
    column: str | None = strawberry.field(description="The column that it concerns, where it is one.")
    row: BigInt | None = strawberry.field(description="The row that it concerns, where it is one: the first after the header is 1.")

    @classmethod
    def of(cls, issue: Mapping[str, Any]) -> Self:
        return cls(code=issue["code"], message=issue["message"], column=issue.get("column"), row=issue.get("row"))


@strawberry.type(description="One bar of a histogram: values from `lower` on and below `upper`; the last bar holds its upper bound too.")
class HistogramBin:
    lower: float = strawberry.field(description="Where the bar begins.")
    upper: float = strawberry.field(description="Where the bar ends.")
    count: BigInt = strawberry.field(description="How many values lie in it.")


@strawberry.type(description="A value and how often it occurs.")
class ValueCount:
    value: JSON | None = strawberry.field(description="The value.")
    count: BigInt = strawberry.field(description="How many cells have it.")


@strawberry.type(description="What the profiler found in one column.")
class ColumnProfile:
    name: str = strawberry.field(description="The column's name.")
    type: ColumnType = strawberry.field(description="What its cells are.")
    missing_count: BigInt = strawberry.field(description="How many cells are missing.")
    distinct_count: BigInt = strawberry.field(description="How many different values it has, missing ones not counted.")
    min: JSON | None = strawberry.field(description="The least value, where values have an order.")
    max: JSON | None = strawberry.field(description="The greatest value, where values have an order.")
    mean: float | None = strawberry.field(description="The arithmetic mean of a column of numbers.")
    standard_deviation: float | None = strawberry.field(description="The sample standard deviation of a column of numbers.")
    quantiles: JSON | None = strawberry.field(description='Quantiles of a column of numbers, by name: {"0.25": 1.5, "0.5": 2}.')
    histogram: list[HistogramBin] = strawberry.field(
        metadata=costs(entries=1), description="The distribution of a column of numbers; empty for other columns."
    )
    top_values: list[ValueCount] = strawberry.field(metadata=costs(entries=1), description="The most frequent values, most frequent first.")

    @classmethod
    def of(cls, column: Mapping[str, Any]) -> Self:
        return cls(
            name=column["name"],
            type=_column_type(column["type"]),
            missing_count=column["missing_count"],
            distinct_count=column["distinct_count"],
            min=column.get("min"),
            max=column.get("max"),
            mean=column.get("mean"),
            standard_deviation=column.get("standard_deviation"),
            quantiles=column.get("quantiles"),
            histogram=[HistogramBin(**bar) for bar in column.get("histogram") or ()],
            top_values=[ValueCount(**value) for value in column.get("top_values") or ()],
        )


@job_output(versions.profile_by_id)
@strawberry.type(description="What a profiler found in a version.")
class DatasetProfile(Node, prefix="profile", found_by=versions.profile_by_id):
    version_id: strawberry.Private[UUID]
    profiler_version: str = strawberry.field(description="Which profiler made it; another version may count otherwise.")
    generated_at: datetime = strawberry.field(description="When it was made.")
    generation_time: Duration = strawberry.field(description="How long that took.")
    is_exact: bool = strawberry.field(
        description="False where distinct counts, quantiles and duplicates are sketches: above 5 million rows."
    )
    row_count: BigInt = strawberry.field(description="How many rows were profiled: all of them.")
    duplicate_row_count: BigInt = strawberry.field(description="How many rows equal an earlier one.")
    missing_cell_ratio: float = strawberry.field(description="The share of cells that are missing, 0 to 1.")

    async def _report(self, info: Info) -> Mapping[str, Any]:
        """The report, from its row or from the store: which of the two depends on its size alone."""
        row = await info.context.loaders.one(versions.report_of_profile, identity).load(self.uuid)
        if row.report is not None:
            return row.report
        report_loader = info.context.loaders.unbatched("report", lambda location: info.context.objects.read(*location))
        return orjson.loads(await report_loader.load((row.object_key, row.size_bytes)))

    @strawberry.field(metadata=costs(entries=100), description="What was found in each column, in the order of the file.")
    async def columns(self, info: Info) -> list[ColumnProfile]:
        return [ColumnProfile.of(column) for column in (await self._report(info))["columns"]]

    @strawberry.field(
        description="Pearson's correlations of the first 100 columns of numbers: {column: {other: coefficient}}, null where undefined."
    )
    async def correlations(self, info: Info) -> JSON:
        return (await self._report(info))["correlations"]
