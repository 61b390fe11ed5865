"""The analysis of a version: its columns, validation issues and profile."""

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
from graph.core.permissions import Scope
from graph.core.scalars import JSON, BigInt, Duration
from graph.datasets.enums import ColumnType
from graph.jobs.outputs import job_output


def _column_type(value: str) -> ColumnType:
    return ColumnType(value.lower())


def _float(value: float | None) -> float | None:
    """PostgreSQL's jsonb returns a large float without fraction as an integer, which GraphQL's Float refuses as inexact."""
    return None if value is None else float(value)


@strawberry.type(description="A column of a version.")
class Column:
    name: str = strawberry.field(description="Its name in the processed file, unique there.")
    type: ColumnType = strawberry.field(description="The type of its cells.")
    nullable: bool = strawberry.field(description="Whether any of its cells is missing.")

    @classmethod
    def of(cls, column: Mapping[str, Any]) -> Self:
        return cls(name=column["name"], type=_column_type(column["type"]), nullable=column["nullable"])


@strawberry.type(description="A problem found in a file.")
class ValidationIssue:
    code: str = strawberry.field(description="The kind of problem, a stable UPPER_SNAKE code to branch on.")
    message: str = strawberry.field(description="What was found, where, and what was done about it; for display.")
    column: str | None = strawberry.field(description="The column that it concerns; null if it is not about one column.")
    row: BigInt | None = strawberry.field(
        description="The row that it concerns, 1 being the first after the header; null if it is not about one row."
    )

    @classmethod
    def of(cls, issue: Mapping[str, Any]) -> Self:
        return cls(code=issue["code"], message=issue["message"], column=issue.get("column"), row=issue.get("row"))


@strawberry.type(
    description="A bin of a histogram: values from `lower` up to but not including `upper`; the last bin includes its upper bound."
)
class HistogramBin:
    lower: float = strawberry.field(description="The inclusive lower bound.")
    upper: float = strawberry.field(description="The upper bound.")
    count: BigInt = strawberry.field(description="How many values are in it.")


@strawberry.type(description="A value and how often it occurs.")
class ValueCount:
    value: JSON | None = strawberry.field(description="The value.")
    count: BigInt = strawberry.field(description="How many cells have it.")


@strawberry.type(description="The profile of one column.")
class ColumnProfile:
    name: str = strawberry.field(description="The column's name.")
    type: ColumnType = strawberry.field(description="The type of its cells.")
    missing_count: BigInt = strawberry.field(description="How many cells are missing.")
    infinite_count: BigInt | None = strawberry.field(
        description="How many cells are infinite, which `preview`, `min` and `max` show as null; null unless the type is FLOAT, and in profiles"
        " that were made before it was counted."
    )
    distinct_count: BigInt = strawberry.field(description="How many distinct values it has, not counting missing ones.")
    min: JSON | None = strawberry.field(description="The least value, if the values are ordered.")
    max: JSON | None = strawberry.field(description="The greatest value, if the values are ordered.")
    mean: float | None = strawberry.field(description="The arithmetic mean of a numeric column.")
    standard_deviation: float | None = strawberry.field(description="The sample standard deviation of a numeric column.")
    quantiles: JSON | None = strawberry.field(description='The quantiles of a numeric column, by name: {"0.25": 1.5, "0.5": 2}.')
    histogram: list[HistogramBin] = strawberry.field(
        metadata=costs(entries=1), description="The distribution of a numeric column; empty for other columns."
    )
    top_values: list[ValueCount] = strawberry.field(metadata=costs(entries=1), description="The most frequent values, most frequent first.")

    @classmethod
    def of(cls, column: Mapping[str, Any]) -> Self:
        return cls(
            name=column["name"],
            type=_column_type(column["type"]),
            missing_count=column["missing_count"],
            infinite_count=column.get("infinite_count"),
            distinct_count=column["distinct_count"],
            min=column.get("min"),
            max=column.get("max"),
            mean=_float(column.get("mean")),
            standard_deviation=_float(column.get("standard_deviation")),
            quantiles=column.get("quantiles"),
            histogram=[
                HistogramBin(lower=float(bar["lower"]), upper=float(bar["upper"]), count=bar["count"])
                for bar in column.get("histogram") or ()
            ],
            top_values=[ValueCount(**value) for value in column.get("top_values") or ()],
        )


@job_output(versions.profile_by_id)
@strawberry.type(description="The statistics that the profiler computed for a version.")
class DatasetProfile(Node, prefix="profile", found_by=versions.live_profile_by_id, scope=Scope.READ):
    version_id: strawberry.Private[UUID]
    profiler_version: str = strawberry.field(description="The version of the profiler; another one may compute values differently.")
    generated_at: datetime = strawberry.field(description="When it was computed.")
    generation_time: Duration = strawberry.field(description="How long the computation took.")
    is_exact: bool = strawberry.field(
        description="False if distinct counts, quantiles and duplicates are estimates from sketches, as above 5 million rows."
    )
    row_count: BigInt = strawberry.field(description="How many rows were profiled, which are all rows.")
    duplicate_row_count: BigInt = strawberry.field(description="How many rows are equal to an earlier one.")
    missing_cell_ratio: float = strawberry.field(description="The share of cells that are missing, 0 to 1.")

    async def report(self, info: Info) -> Mapping[str, Any]:
        """Load the report from its row or, if it is large, from the object store; an empty one if the dataset is deleted."""
        row = await info.context.loaders.one(versions.report_of_profile, identity).load(self.uuid)
        if row is None:
            return {"columns": [], "correlations": {}}
        if row.report is not None:
            return row.report
        report_loader = info.context.loaders.unbatched("report", lambda location: info.context.objects.read(*location))
        return orjson.loads(await report_loader.load((row.object_key, row.size_bytes)))

    @strawberry.field(
        metadata=costs(entries=100), description="The profile of each column, in the order of the file; empty if the dataset is deleted."
    )
    async def columns(self, info: Info) -> list[ColumnProfile]:
        return [ColumnProfile.of(column) for column in (await self.report(info))["columns"]]

    @strawberry.field(
        description="Pearson correlations of the first 100 numeric columns: {column: {other: coefficient}}; null if undefined."
        " Empty if the dataset is deleted."
    )
    async def correlations(self, info: Info) -> JSON:
        return (await self.report(info))["correlations"]
