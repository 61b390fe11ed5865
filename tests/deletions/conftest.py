"""What maintenance tasks work on."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from db.core.work import Database
from db.services import maintenance
from db.settings import StateSettings
from db.stores.objects import ObjectStore


@pytest.fixture
async def context(clean: None, database: Database, settings: StateSettings) -> AsyncGenerator[maintenance.MaintenanceContext]:
    async with ObjectStore.open(settings) as objects:
        yield maintenance.MaintenanceContext(database, objects, settings)
