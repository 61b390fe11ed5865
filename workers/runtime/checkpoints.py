"""Checkpoints of an attempt: objects that are uploaded while the body runs, and the rows that refer to them."""

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
from workers.runtime import body_files
from workers.runtime.reports import Reports, Superseded

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class _State(TypedDict):
    """The state column: the body's own state, and the job's progress and last metric steps at that time."""

    body: dict[str, Any]
    percent: int
    reach: dict[str, int]


@dataclass(frozen=True, slots=True)
class DownloadedCheckpoint:
    """A checkpoint of a series, and the path that its object was downloaded to."""

    checkpoint: Checkpoint
    path: Path


@dataclass(frozen=True, slots=True)
class _PendingCheckpoint:
    """A checkpoint that waits for its upload."""

    name: str
    position: int
    state: _State
    file: Path | None
    is_disposable: bool


class Checkpoints:
    """The checkpoints of one attempt, stored while the body runs. Of those pending under one name only the newest is stored.

    Each is written in an order that keeps it consistent: first the metric points up to it, then its object, then its row. Files lie in
    `folder`; `key_prefix` and `content_type` apply to the objects. A checkpoint that cannot be stored is dropped: there will be another.
    """

    def __init__(self, database: Database, objects: ObjectStore, claim: Claim, reports: Reports) -> None:
        self._database = database
        self._objects = objects
        self._claim = claim
        self._reports = reports
        self.folder = Path()
        self.key_prefix = ""
        self.content_type = "application/octet-stream"
        self.keys: set[str] = set()  # objects to delete when the job has ended
        self._earlier: dict[str, Checkpoint] = {}
        self._series_names: list[str] = []  # a series is discarded as a whole
        self._stored: dict[str, Checkpoint] = {}
        self._pending: dict[str, _PendingCheckpoint] = {}
        self._store_task: asyncio.Task[None] | None = None

    # Resuming from an earlier attempt

    async def load(self, name: str, path: Path | None = None) -> Checkpoint | None:
        """Return the checkpoint of an earlier attempt; None if there is none or it is damaged, in which case it is discarded.

        Its object is downloaded to `path` and its checksum verified. Without a path, only existence and size are verified.
        """
        if self._claim.attempt == 1:
            return None
        checkpoint = (await self._job_checkpoints()).get(name)
        if checkpoint is None:
            return None
        damage = await self._damage(checkpoint, path)
        if damage is not None:
            self._earlier[name] = checkpoint
            await self.discard(name, f"The checkpoint of an earlier attempt cannot be used: {damage}. The job starts from the beginning.")
            return None
        self._earlier[name] = checkpoint
        self._reports.resume_at(checkpoint.state["percent"], checkpoint.state["reach"])
        return checkpoint

    async def load_series(
        self, series: str, folder: Path, is_next: Callable[[Checkpoint | None, Checkpoint], bool]
    ) -> list[DownloadedCheckpoint]:
        """Return the checkpoints named "series-0001" and so on, up to the first that is damaged or does not follow its predecessor; drop the rest.

        Their objects are downloaded to the folder. Resuming from the last one uses all of them.
        """
        if self._claim.attempt == 1:
            return []
        candidates = {name: checkpoint for name, checkpoint in (await self._job_checkpoints()).items() if name.startswith(f"{series}-")}
        valid: list[DownloadedCheckpoint] = []
        while (checkpoint := candidates.get(f"{series}-{len(valid) + 1:04}")) is not None:
            if not is_next(valid[-1].checkpoint if valid else None, checkpoint):
                break
            path = folder / checkpoint.name
            damage = await self._damage(checkpoint, path)
            if damage is not None:
                self._reports.log_line(
                    f"A checkpoint of an earlier attempt cannot be used: {damage}. The job resumes from the one before it."
                )
                break
            valid.append(DownloadedCheckpoint(checkpoint, path))
            del candidates[checkpoint.name]
        await self._drop(list(candidates))
        if valid:
            self._series_names = [downloaded.checkpoint.name for downloaded in valid]
            last = self._earlier[self._series_names[-1]] = valid[-1].checkpoint
            self._reports.resume_at(last.state["percent"], last.state["reach"])
        return valid

    async def drop_series(self, series: str) -> None:
        """Remove all checkpoints of the series."""
        if self._claim.attempt > 1:
            await self._drop([name for name in await self._job_checkpoints() if name.startswith(f"{series}-")])

    async def _job_checkpoints(self) -> dict[str, Checkpoint]:
        """Load the job's checkpoints by name, and note all their objects for deletion when the job has ended."""
        by_name = await checkpoints.load(self._database, self._claim.job_id)
        self.keys.update(checkpoint.object_key for checkpoint in by_name.values() if checkpoint.object_key is not None)
        return by_name

    async def _damage(self, checkpoint: Checkpoint, path: Path | None) -> str | None:
        if checkpoint.object_key is None:
            return None
        if path is None:
            info = await self._objects.head(checkpoint.object_key)
            return (
                None
                if info is not None and info.size == checkpoint.size
                else "its file is missing from the object store, or has another size"
            )
        try:
            size, sha256 = await self._objects.download(checkpoint.object_key, path)
        except ObjectMissing:
            return "its file is missing from the object store"
        if (size, sha256) != (checkpoint.size, checkpoint.sha256):
            await asyncio.to_thread(path.unlink)
            return f"its file has {size:,} bytes with the SHA-256 {sha256}, and {checkpoint.size:,} with {checkpoint.sha256} were stored"
        return None

    async def resume(self, name: str, message: str) -> None:
        """The body resumes from this checkpoint: remove the metric points past it. Raises `Superseded`."""
        self._reports.log_line(message)
        await self._rewind(self._earlier[name].state["reach"])

    async def discard(self, name: str, message: str) -> None:
        """Remove an unusable checkpoint, its series, and all metric points of earlier attempts. Raises `Superseded`."""
        self._reports.log_line(message)
        self._reports.reset()
        self._earlier.pop(name, None)
        await self._drop(self._series_names if name in self._series_names else [name])
        await self._rewind({})

    async def _drop(self, names: Sequence[str]) -> None:
        if not names:
            return
        async with self._database.work(SYSTEM) as work:
            object_keys = await checkpoints.drop(work, self._claim, names)
        if object_keys is None:
            raise Superseded
        await self._remove(object_keys)

    async def _rewind(self, last_steps: dict[str, int]) -> None:
        run_id = self._reports.run_id
        if run_id is not None:
            async with self._database.work(SYSTEM) as work:
                if not await metrics.rewind(work, self._claim, run_id, last_steps):
                    raise Superseded

    # Storing for a later attempt

    def enqueue(self, name: str, position: int, state: dict[str, Any], file: Path | None, *, is_disposable: bool) -> None:
        """Store this checkpoint after those before it. A disposable file is deleted afterwards."""
        row_state: _State = {"body": state, "percent": self._reports.percent, "reach": dict(self._reports.last_steps)}
        previous = self._pending.get(name)
        if previous is not None:
            self._dispose(previous)
        self._pending[name] = _PendingCheckpoint(name, position, row_state, file, is_disposable)
        if self._store_task is None or self._store_task.done():
            self._store_task = asyncio.create_task(self._store_all(), name=f"checkpoints of {self._claim.job_id}")

    async def save_uploaded(self, name: str, position: int, state: dict[str, Any], key: str, size: int, sha256: str) -> bool:
        """Write the row of a checkpoint whose object is stored already. If False, it was not written and the caller still owns the object."""
        row_state = {"body": state, "percent": self._reports.percent, "reach": dict(self._reports.last_steps)}
        return await self._save(Checkpoint(name, position, row_state, key, size, sha256))

    async def wait_stored(self, name: str) -> Checkpoint | None:
        """Wait for pending uploads; return the checkpoint that this attempt stored under the name, None if it failed."""
        while self._store_task is not None and not self._store_task.done():
            await asyncio.wait([self._store_task])
        return self._stored.get(name)

    async def close(self, *, timeout: float) -> None:
        """Wait up to `timeout` seconds for pending uploads, then cancel them. 0 where no other attempt would use them."""
        if self._store_task is None:
            return
        if timeout:
            await asyncio.wait([self._store_task], timeout=timeout)
        self._store_task.cancel()
        await asyncio.wait([self._store_task])

    def _dispose(self, pending: _PendingCheckpoint) -> None:
        if pending.is_disposable and pending.file is not None:
            body_files.remove_file(self.folder, pending.file)

    async def _store_all(self) -> None:
        while self._pending:
            pending = self._pending.pop(next(iter(self._pending)))
            try:
                await self._store(pending)
            except Exception:  # the body must not fail; the next checkpoint will do
                log.warning("checkpoint_not_stored", job=str(self._claim.job_id), name=pending.name, exc_info=True)
            finally:
                self._dispose(pending)

    async def _store(self, pending: _PendingCheckpoint) -> None:
        await self._reports.flush_points()
        if pending.file is None:
            await self._save(Checkpoint(pending.name, pending.position, dict(pending.state)))
            return
        key = f"{self.key_prefix}/{uuid4()}"
        try:
            with body_files.open_file(self.folder, pending.file) as file:
                size, sha256 = await self._objects.upload(file, key, self.content_type)
        except BaseException:
            self.keys.add(key)  # the upload may have succeeded, and no row refers to it
            raise
        checkpoint = Checkpoint(pending.name, pending.position, dict(pending.state), key, size, sha256)
        self._stored[pending.name] = checkpoint  # before the row: if its commit is uncertain, the checkpoint counts as stored
        if not await self._save(checkpoint):
            del self._stored[pending.name]
            await self._remove([key])

    async def _save(self, checkpoint: Checkpoint) -> bool:
        if checkpoint.object_key is not None:
            self.keys.add(checkpoint.object_key)
        async with self._database.work(SYSTEM) as work:
            saved = await checkpoints.save(work, self._claim, checkpoint)
        if not saved.is_current and checkpoint.object_key is not None:
            self.keys.discard(checkpoint.object_key)
        if saved.replaced is not None:
            await self._remove([saved.replaced])
        return saved.is_current

    async def _remove(self, keys: list[str]) -> None:
        """Delete objects, best effort: no row refers to those that stay, and the orphan collector deletes them."""
        try:
            await self._objects.delete(keys)
        except StateError:
            log.warning("checkpoint_object_not_removed", count=len(keys), exc_info=True)
        else:
            self.keys.difference_update(keys)
