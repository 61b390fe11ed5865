"""The parameters that training steps share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters


class TrainParameters(Parameters):
    exclude: list[ColumnName] = Field(
        default=[],
        title="Exclude",
        description="Columns that are not features, such as row numbers.",
        max_length=20_000,
        json_schema_extra={"x-column": True},
    )


class SupervisedParameters(TrainParameters):
    target: ColumnName | None = Field(
        default=None,
        title="Target",
        description="The column to predict; by default the dataset's target column.",
        json_schema_extra={"x-column": True},
    )


class ClassifierOrRegressorParameters(SupervisedParameters):
    problem_type: Literal["auto", "classification", "regression"] = Field(
        default="auto",
        title="Problem type",
        description="Whether classes or numbers are predicted. `auto`: as set in the dataset; otherwise classes for text, booleans and integers with "
        "at most 20 distinct values, and numbers for the rest.",
    )
