"""Explanations of what model versions predict: made by a job, kept until they are deleted."""

from db.services.explanations.requests import NewExplanation
from db.services.explanations.results import complete, remove
from db.services.explanations.submitting import create

__all__ = ["NewExplanation", "complete", "create", "remove"]
