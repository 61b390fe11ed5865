"""What an attempt keeps for the next one: files that its body hands over, stored beside the work, and the rows that name them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict
from uuid import uuid4

import structlog

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import StateError
from db.services.jobs import Claim, checkpoints, metrics
from db.services.jobs.checkpoints import Checkpoint
from db.stores.objects import ObjectMissing, ObjectStore
from workers.runtime.reports import Reports, Superseded

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class _State(TypedDict):
    """A row's state: the body's own, and what the job had told by then."""

    body: dict[str, Any]
    percent: int
    reach: dict[str, int]


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint of a series, and where its object was written."""

    checkpoint: Checkpoint
    path: Path


@dataclass(frozen=True, slots=True)
class _Handed:
    """What a body handed over."""

    name: str
    position: int
    state: _State
    file: Path | None
    is_disposable: bool


class Checkpoints:
    """Of one attempt. Storing goes on beside the body; of a name, only the newest that waits is stored.

    The order makes each of them whole: first the points up to it, then its object, then the row that names the object. `place` and
    `content_type` are of the objects. A checkpoint that cannot be stored is given up: there will be another.
    """

    def __init__(self, database: Database, objects: ObjectStore, claim: Claim, reports: Reports) -> None:
        self._database = database
        self._objects = objects
        self._claim = claim
        self._reports = reports
        self.place = ""
        self.content_type = "application/octet-stream"
        self.keys: set[str] = set()  # objects that go when the job has ended
        self._found: dict[str, Checkpoint] = {}
        self._series: list[str] = []  # names of those that hang together
        self._stored: dict[str, Checkpoint] = {}
        self._waiting: dict[str, _Handed] = {}
        self._storing: asyncio.Task[None] | None = None

    # Going on from an earlier attempt

    async def find(self, name: str, path: Path | None = None) -> Checkpoint | None:
        """The checkpoint that an earlier attempt left, its object written to `path` and held against its checksum. A damaged one is as none.

        Without a path, only that the object is there and of its size.
        """
        if self._claim.attempt == 1:
            return None
        found = (await self._of_job()).get(name)
        if found is None:
            return None
        damage = await self._damage(found, path)
        if damage is not None:
            self._found[name] = found
            await self.start_over(
                name, f"The checkpoint of an earlier attempt cannot be used: {damage}. The work starts from its beginning."
            )
            return None
        self._found[name] = found
        self._reports.go_on_at(found.state["percent"], found.state["reach"])
        return found

    async def find_series(self, series: str, folder: Path, follows: Callable[[Checkpoint | None, Checkpoint], bool]) -> list[Found]:
        """The checkpoints named "series-0001" and so on, as far as each is whole and follows the one before; the others are removed.

        Their objects are written to the folder. Going on with the last means going on with all.
        """
        if self._claim.attempt == 1:
            return []
        there = {name: found for name, found in (await self._of_job()).items() if name.startswith(f"{series}-")}
        whole: list[Found] = []
        while (found := there.get(f"{series}-{len(whole) + 1:04}")) is not None:
            if not follows(whole[-1].checkpoint if whole else None, found):
                break
            path = folder / found.name
            damage = await self._damage(found, path)
            if damage is not None:
                self._reports.line(f"A checkpoint of an earlier attempt cannot be used: {damage}. The work goes on from the one before it.")
                break
            whole.append(Found(found, path))
            del there[found.name]
        await self._drop(list(there))
        if whole:
            self._series = [found.checkpoint.name for found in whole]
            last = self._found[self._series[-1]] = whole[-1].checkpoint
            self._reports.go_on_at(last.state["percent"], last.state["reach"])
        return whole

    async def forget_series(self, series: str) -> None:
        """None of them is of use."""
        if self._claim.attempt > 1:
            await self._drop([name for name in await self._of_job() if name.startswith(f"{series}-")])

    async def _of_job(self) -> dict[str, Checkpoint]:
        """Their objects go when the job has ended, whether this attempt uses them or not."""
        found = await checkpoints.of_job(self._database, self._claim.job_id)
        self.keys.update(checkpoint.object_key for checkpoint in found.values() if checkpoint.object_key is not None)
        return found

    async def _damage(self, found: Checkpoint, path: Path | None) -> str | None:
        if found.object_key is None:
            return None
        if path is None:
            info = await self._objects.head(found.object_key)
            return None if info is not None and info.size == found.size else "its file is gone from the store, or is another one"
        try:
            size, sha256 = await self._objects.download(found.object_key, path)
        except ObjectMissing:
            return "its file is gone from the store"
        if (size, sha256) != (found.size, found.sha256):
            await asyncio.to_thread(path.unlink)
            return f"its file has {size:,} bytes with the SHA-256 {sha256}, and {found.size:,} with {found.sha256} were stored"
        return None

    async def go_on(self, name: str, message: str) -> None:
        """The body uses it: what was reported past it goes. Raises `Superseded`."""
        self._reports.line(message)
        await self._rewind(self._found[name].state["reach"])

    async def start_over(self, name: str, message: str) -> None:
        """It is of no use: it goes, its series with it, and all that was reported before. Raises `Superseded`."""
        self._reports.line(message)
        self._reports.start_over()
        self._found.pop(name, None)
        await self._drop(self._series if name in self._series else [name])
        await self._rewind({})

    async def _drop(self, names: Sequence[str]) -> None:
        if not names:
            return
        async with self._database.work(SYSTEM) as work:
            gone = await checkpoints.drop(work, self._claim, names)
        if gone is None:
            raise Superseded
        await self._remove(gone)

    async def _rewind(self, reach: dict[str, int]) -> None:
        run_id = self._reports.run_id
        if run_id is not None:
            async with self._database.work(SYSTEM) as work:
                if not await metrics.rewind(work, self._claim, run_id, reach):
                    raise Superseded

    # Keeping what was done

    def take(self, name: str, position: int, state: dict[str, Any], file: Path | None, *, is_disposable: bool) -> None:
        """Store this as soon as the one before it is. A disposable file is removed afterwards."""
        told: _State = {"body": state, "percent": self._reports.percent, "reach": dict(self._reports.reach)}
        before = self._waiting.get(name)
        if before is not None:
            _dispose(before)
        self._waiting[name] = _Handed(name, position, told, file, is_disposable)
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_all(), name=f"checkpoints of {self._claim.job_id}")

    async def keep(self, name: str, position: int, state: dict[str, Any], key: str, size: int, sha256: str) -> bool:
        """A checkpoint whose object is in the store already. False where it was not written: then the object is the caller's as before."""
        told = {"body": state, "percent": self._reports.percent, "reach": dict(self._reports.reach)}
        return await self._save(Checkpoint(name, position, told, key, size, sha256))

    async def stored(self, name: str) -> Checkpoint | None:
        """What this attempt stored under the name, once it has; None where it could not."""
        while self._storing is not None and not self._storing.done():
            await asyncio.wait([self._storing])
        return self._stored.get(name)

    async def close(self, *, patience: float) -> None:
        """The body has ended; what it handed over last is still worth storing, for so many seconds, if another attempt may come."""
        if self._storing is None:
            return
        if patience:
            await asyncio.wait([self._storing], timeout=patience)
        self._storing.cancel()
        await asyncio.wait([self._storing])

    async def _store_all(self) -> None:
        while self._waiting:
            handed = self._waiting.pop(next(iter(self._waiting)))
            try:
                await self._store(handed)
            except Exception:  # the body must not suffer; the next checkpoint will do
                log.warning("checkpoint_not_stored", job=str(self._claim.job_id), name=handed.name, exc_info=True)
            finally:
                _dispose(handed)

    async def _store(self, handed: _Handed) -> None:
        await self._reports.flush_points()
        if handed.file is None:
            await self._save(Checkpoint(handed.name, handed.position, dict(handed.state)))
            return
        key = f"{self.place}/{uuid4()}"
        try:
            size, sha256 = await self._objects.upload(handed.file, key, self.content_type)
        except BaseException:
            self.keys.add(key)  # it may have arrived, and there is no row that would tell
            raise
        checkpoint = Checkpoint(handed.name, handed.position, dict(handed.state), key, size, sha256)
        self._stored[handed.name] = checkpoint  # also where nobody knows whether its row was written
        if not await self._save(checkpoint):
            del self._stored[handed.name]
            await self._remove([key])

    async def _save(self, checkpoint: Checkpoint) -> bool:
        if checkpoint.object_key is not None:
            self.keys.add(checkpoint.object_key)
        async with self._database.work(SYSTEM) as work:
            saved = await checkpoints.save(work, self._claim, checkpoint)
        if not saved.is_kept and checkpoint.object_key is not None:
            self.keys.discard(checkpoint.object_key)
        if saved.replaced is not None:
            await self._remove([saved.replaced])
        return saved.is_kept

    async def _remove(self, keys: list[str]) -> None:
        """Best effort: what stays is named by no row and collected later."""
        try:
            await self._objects.delete(keys)
        except StateError:
            log.warning("checkpoint_object_not_removed", count=len(keys), exc_info=True)
        else:
            self.keys.difference_update(keys)


def _dispose(handed: _Handed) -> None:
    if handed.is_disposable and handed.file is not None:
        handed.file.unlink(missing_ok=True)
