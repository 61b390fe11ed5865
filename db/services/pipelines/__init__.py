"""Pipelines: editing their definitions and running them."""

from db.services.pipelines.editing import NewPipeline, create, update
from db.services.pipelines.running import RunAnswer, RunRequest, run

__all__ = ["NewPipeline", "RunAnswer", "RunRequest", "create", "run", "update"]
