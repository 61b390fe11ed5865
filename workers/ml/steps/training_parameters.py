"""The parameters that training steps share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.config import JsonDict

from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters

STEPS: JsonDict = {"x-steps": True}
"""Marks the parameter that says how many steps a training has at most, after each of which it reports its measures: a study may end it earlier."""


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


class EarlyStoppingParameters(Parameters):
    """Of trainings that iterate, and measure the validation rows after each step."""

    early_stopping_rounds: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        title="Early stopping",
        description="Stops when the validation rows have not been predicted better for this many steps (rounds or epochs), and keeps the model of the"
        " best one; the split must hold out validation rows.",
        json_schema_extra={"x-needs-validation-rows": True},
    )
    early_stopping_metric: Literal["validation_loss", "validation_accuracy", "validation_r2"] = Field(
        default="validation_loss",
        title="Early stopping by",
        description="The curve that tells which step is best: the loss, or the accuracy of a classification or the R² of a regression.",
    )
    early_stopping_min_delta: float = Field(
        default=0.0,
        ge=0,
        le=1e9,
        title="Least improvement",
        description="How much better than the best step another must be to count as better.",
    )
    checkpoint_every: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        title="Checkpoints",
        description="Keeps the model after every so many steps as a file: the last 10 such, and that of the best step.",
    )
