"""The dataset node, the start of every pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle


class DatasetParameters(Parameters):
    """No parameters: dataset and version are chosen when the pipeline is run."""


def run(bundle: Bundle, _node: PipelineNode) -> dict[str, Any]:
    return {"rows": bundle.count(), "columns": len(bundle.columns)}


DATASET = Step(
    key="dataset",
    type="DATASET",
    title="Dataset",
    description="The rows and columns of the dataset version that the pipeline is run on. Every pipeline has exactly one.",
    parameters=DatasetParameters,
    place="source",
    run=run,
)
