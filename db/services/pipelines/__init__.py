"""Pipelines: editing their definitions and running them."""

from db.services.pipelines.copying import copy
from db.services.pipelines.editing import NewPipeline, create, update
from db.services.pipelines.running import RunRequest, RunResult, run
from db.services.pipelines.templates import publish_templates

__all__ = ["NewPipeline", "RunRequest", "RunResult", "copy", "create", "publish_templates", "run", "update"]
