"""The stage on which bodies of jobs play."""

from tests.workers.stage import calm, crew, owner, stage, working

__all__ = ["calm", "crew", "owner", "stage", "working"]
