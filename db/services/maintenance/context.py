"""What a chore stands on, and how it says that something is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass

from db.core.work import Database
from db.settings import StateSettings
from db.stores.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class MaintenanceContext:
    """The state that chores work on, and the settings that say how."""

    database: Database
    objects: ObjectStore
    settings: StateSettings


class MaintenanceTaskFailed(Exception):
    """What the chore found needs a person; the message says what to do. It is recorded, logged and counted as a failure."""
