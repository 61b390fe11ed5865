"""Pipelines: editing their definitions and running them."""

from db.services.pipelines.editing import NewPipeline, create, update
from db.services.pipelines.running import RunRequest, RunResult, run

__all__ = ["NewPipeline", "RunRequest", "RunResult", "create", "run", "update"]
