"""Explaining step: what the predictions of the trained model depend on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from workers.ml.steps.step import Parameters, Step, no_part_in_the_body


class ExplainParameters(Parameters):
    method: Literal["auto", "tree_shap", "linear", "integrated_gradients", "permutation", "partial_dependence"] = Field(
        default="auto",
        title="Method",
        description="The method, as `createExplanation` has them. `auto` is tree_shap for models of trees, linear for linear ones,"
        " integrated_gradients for neural networks, permutation for others with a target, and partial_dependence for outliers.",
    )
    features: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=1_000,
        title="Columns",
        description="The columns to explain; by default all that the model takes.",
    )
    class_label: str | None = Field(
        default=None,
        max_length=1_000,
        title="Class",
        description="The class to explain, as text; by default the second of two, and each of several.",
    )
    max_rows: int = Field(default=1_000, ge=1, le=10_000, title="Rows", description="The most held-out rows that are explained.")


EXPLAIN = Step(
    key="explain",
    type="EXPLAIN",
    title="Explain",
    description="Explains what the predictions of the trained model depend on, on the rows that it is measured on, as `createExplanation` does. A model that"
    " cannot be explained is kept without it.",
    parameters=ExplainParameters,
    place="end",
    run=no_part_in_the_body,
)
"""It comes after the training."""
