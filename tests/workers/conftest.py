"""The stage on which bodies of jobs play."""

from tests.workers.stage import calm, crew, owner, stage
from tests.workers.working import working

__all__ = ["calm", "crew", "owner", "stage", "working"]
