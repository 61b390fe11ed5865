"""The grounds that these tests stand on. One takes long to make, so all modules of a group share one; the groups run beside each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.crowd import NAMES, Crowd
from tests.faults.ground import QUICK, ROOT, Ground
from tests.faults.mischief import Mischief
from tests.groups import GROUPS

SEED = 7
SCRIPTS = ("nap 0.05", "nap 0.1", "nap 0.2", "nap 0.3", "nap 0.5", "linger 0.6 0.1", "nap 600")


@dataclass(frozen=True)
class Kind:
    """How a ground with two APIs and two workers differs from the usual, and whether `trellis up` keeps one of each."""

    settings: Mapping[str, str]
    has_up: bool


KINDS: Mapping[str, Kind] = {
    "faults": Kind({}, has_up=True),
    "numbers": Kind({"TRELLIS_WORKER_CANCEL_PATIENCE": "2", "TRELLIS_SOCKETS_PER_VIEWER": "1000"}, has_up=False),
}


@asynccontextmanager
async def _standing(folder: Path, kind: Kind) -> AsyncGenerator[Crowd]:
    with Ground(folder, SEED, {**QUICK, **kind.settings}) as ground:
        crowd = Crowd(ground, random.Random(SEED))
        async with asyncio.TaskGroup() as starting:
            if kind.has_up:
                starting.create_task(ground.start_up(1))  # it waits for the schema by itself, and people settle in without it
            await ground.connect()
            apis = [ground.start_api() for _ in range(2 - kind.has_up)]
            workers = [ground.start_worker() for _ in range(2 - kind.has_up)]
            await asyncio.gather(*apis, *workers)
            await crowd.gather(NAMES[:2])
            await crowd.prepare(list(SCRIPTS))
        yield crowd
        await crowd.leave()
        await ground.pool.close()


@pytest.fixture(scope="session")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Callable[[str], Awaitable[Crowd]]]:
    """The crowd on the ground of a group."""
    crowds: dict[str, Crowd] = {}
    async with AsyncExitStack() as stack:

        async def of(group: str) -> Crowd:
            if group not in crowds:
                crowds[group] = await stack.enter_async_context(_standing(tmp_path_factory.mktemp(group), KINDS[group]))
            return crowds[group]

        yield of


@pytest.fixture(scope="module")
async def crowd(request: pytest.FixtureRequest, standing: Callable[[str], Awaitable[Crowd]]) -> Crowd:
    """That of the module's group."""
    return await standing(GROUPS[request.path.relative_to(ROOT).as_posix()])


@pytest.fixture(scope="module")
def ground(crowd: Crowd) -> Ground:
    return crowd.ground


@pytest.fixture
def mischief(ground: Ground, crowd: Crowd) -> Mischief:
    return Mischief(ground, crowd, random.Random(SEED))
