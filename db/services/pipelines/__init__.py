"""Pipelines: editing their definitions and running them."""

from db.services.pipelines.copying import copy
from db.services.pipelines.costs import CostEstimate, estimate_cost
from db.services.pipelines.editing import NewPipeline, create, update
from db.services.pipelines.running import RunRequest, RunResult, run
from db.services.pipelines.templates import publish_templates

__all__ = [
    "CostEstimate",
    "NewPipeline",
    "RunRequest",
    "RunResult",
    "copy",
    "create",
    "estimate_cost",
    "publish_templates",
    "run",
    "update",
]
