"""The stage on which bodies of jobs play, and a database whose changes are told."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from db.core.work import Database
from db.settings import StateSettings
from db.stores.events import RedisPost, connect
from tests.jobs.desk import desk
from tests.workers.stage import calm, crew, owner, stage

__all__ = ["announcing", "calm", "crew", "desk", "owner", "stage"]


@pytest.fixture
async def announcing(settings: StateSettings) -> AsyncGenerator[Database]:
    """The state, whose changes are announced as those of the API and the workers are."""
    redis = connect(settings.redis_url)
    async with redis, Database.open(settings, RedisPost(redis)) as opened:
        yield opened
