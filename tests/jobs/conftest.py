"""The stage on which bodies of jobs play, and a database whose changes are told."""

from __future__ import annotations

from tests.jobs.desk import desk
from tests.telling import announcing
from tests.workers.stage import calm, crew, owner, stage

__all__ = ["announcing", "calm", "crew", "desk", "owner", "stage"]
