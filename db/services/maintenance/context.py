"""The context of maintenance tasks, and the error by which they report a finding."""

from __future__ import annotations

from dataclasses import dataclass

from db.core.work import Database
from db.settings import StateSettings
from db.stores.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class MaintenanceContext:
    """What maintenance tasks work on, and their settings."""

    database: Database
    objects: ObjectStore
    settings: StateSettings


class MaintenanceTaskFailed(Exception):
    """The task found something that an operator must repair; the message says how. Recorded, logged and counted as a failure."""
