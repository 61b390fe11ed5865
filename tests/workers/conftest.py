"""The stage on which bodies of jobs play."""

from tests.workers.stage import calm, crew, owner, stage

__all__ = ["calm", "crew", "owner", "stage"]
