"""Explaining step: what the predictions of the trained model depend on."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from workers.ml.steps.step import Parameters, PipelineNode, Step


class ExplainParameters(Parameters):
    method: Literal["auto", "tree_shap", "linear", "permutation", "partial_dependence"] = Field(
        default="auto",
        title="Method",
        description="The method, as `createExplanation` has them. `auto` is tree_shap for models of trees, linear for linear ones, permutation for others"
        " with a target, and partial_dependence for outliers.",
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


def run(_bundle: Any, node: PipelineNode) -> dict[str, Any]:
    """The worker explains the model, once the body that trains it has ended: the plan lists no such node among those that run here."""
    raise AssertionError(f"{node.key} has no part in the body")


EXPLAIN = Step(
    key="explain",
    type="EXPLAIN",
    title="Explain",
    description="Explains what the predictions of the trained model depend on, on the rows that it is measured on, as `createExplanation` does. A model that"
    " cannot be explained is kept without it.",
    parameters=ExplainParameters,
    place="end",
    run=run,
)
"""It comes after the training."""
