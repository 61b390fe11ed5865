"""The worker's pool of child processes. It keeps a spare one, so that a body starts at once, and for some seconds those that can run another body."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Hashable
from typing import NamedTuple, Self

import structlog

from workers.runtime import process_tree
from workers.runtime.forkserver_client import ChildExit, ChildHandle, ForkserverClient, ForkserverUnavailable

__all__ = ["ChildExit", "ChildHandle", "ForkserverUnavailable", "ProcessPool"]

log: structlog.stdlib.BoundLogger = structlog.get_logger()

REFILL_DELAY = 0.05  # seconds
KEEP_SECONDS = 5.0  # in which a child that has run a body waits for another one


class _KeptChild(NamedTuple):
    child: ChildHandle
    key: Hashable
    expiry: asyncio.TimerHandle


class ProcessPool:
    """Child processes from a forkserver. If the forkserver dies, its children end as by SIGKILL and the next call starts another.

    With `preload`, a second forkserver imports the heavy libraries while the first serves. When it is ready, new children come from it, and
    the first exits with its last child. So no forkserver with a running body is ever importing, which may take seconds in which it enforces
    no deadline.

    With `is_subreaper`, descendants of bodies are reparented to this process when the forkserver dies, and killed. This process must then
    create no children besides those it has at the start.

    Bodies get the environment variables named in `variables` besides those that Python and the libraries read. At most `max_kept` children that have
    run a body are kept for another one.
    """

    def __init__(self, *, preload: bool, is_subreaper: bool = False, variables: Collection[str] = (), max_kept: int = 0) -> None:
        self._preload = preload
        self._is_subreaper = is_subreaper
        self._variables = variables
        self._max_kept = max_kept
        self._kept: list[_KeptChild] = []  # the last one was kept last
        self._forkserver: ForkserverClient | None = None
        self._forkservers: set[ForkserverClient] = set()
        self._preexisting_children: set[int] = set()
        self._preload_task: asyncio.Task[None] | None = None
        self._spare: asyncio.Task[ChildHandle] | None = None
        self._spawn_lock = asyncio.Lock()
        self._closing = False

    async def __aenter__(self) -> Self:
        if self._is_subreaper:
            process_tree.become_subreaper()
            self._preexisting_children = set(process_tree.children())
        self._refill()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._drop_kept(0)
        for task in (self._spare, self._preload_task):
            if task is not None:
                task.cancel()
        forkservers = list(self._forkservers)
        for forkserver in forkservers:
            forkserver.close()
        await asyncio.gather(*(forkserver.wait_closed() for forkserver in forkservers))

    @property
    def pid(self) -> int | None:
        """The process id of the current forkserver."""
        return None if self._forkserver is None else self._forkserver.pid

    async def acquire(self) -> ChildHandle:
        """Return a new child that waits for its request. Raises `ForkserverUnavailable`."""
        # The new body takes the place of idle ones, so that no more processes hold memory than there are slots.
        in_excess = sum(forkserver.child_count for forkserver in self._forkservers) - self._max_kept
        self._drop_kept(max(0, len(self._kept) - max(0, in_excess)))
        spare, self._spare = self._spare, None
        # Forking takes some milliseconds of a core; the body that starts now goes first.
        asyncio.get_running_loop().call_later(REFILL_DELAY, self._refill)
        if spare is not None:
            try:
                child = await _await_child(spare)
            except (ForkserverUnavailable, OSError):
                log.warning("spare_child_lost")
            else:
                if not child.exited.done():
                    return child
                child.close()
        try:
            return await _await_child(asyncio.create_task(self._spawn(), name="child"))
        except OSError as error:
            raise ForkserverUnavailable(f"No process could be forked: {error}") from error

    def acquire_kept(self, key: Hashable) -> ChildHandle | None:
        """Return a child that was kept under this key and waits for its request, if there is one."""
        for kept in reversed(self._kept):
            if kept.key == key and not kept.child.exited.done():
                self._kept.remove(kept)
                kept.expiry.cancel()
                return kept.child
        return None

    def keep(self, child: ChildHandle, key: Hashable) -> None:
        """Keep a child that waits for another request, for some seconds. It has no limits meanwhile: it runs nothing, and dies with the worker."""
        if self._closing or child.is_retiring:
            self.drop(child)
            return
        child.set_limits(None, None)
        expiry = asyncio.get_running_loop().call_later(KEEP_SECONDS, self.drop, child)
        self._kept.append(_KeptChild(child, key, expiry))
        self._drop_kept(self._max_kept)

    def _drop_kept(self, remaining: int) -> None:
        """Drop all kept children but the `remaining` ones that were kept last."""
        for kept in self._kept[: max(0, len(self._kept) - remaining)]:
            self.drop(kept.child)

    def drop(self, child: ChildHandle) -> None:
        """End a child that runs nothing."""
        for kept in [kept for kept in self._kept if kept.child is child]:
            self._kept.remove(kept)
            kept.expiry.cancel()
        child.kill("stopped")
        child.close()
        child.remove_home()

    def _refill(self) -> None:
        if self._spare is None and not self._closing:
            self._spare = asyncio.create_task(self._spawn(), name="spare child")
            self._spare.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _spawn(self) -> ChildHandle:
        async with self._spawn_lock:
            if self._forkserver is None or not self._forkserver.is_alive:
                self._forkserver = self._start_forkserver(preload=False)
                if self._preload and self._preload_task is None:
                    self._preload_task = asyncio.create_task(self._preload_forkserver(), name="preload forkserver")
            await self._forkserver.wait_ready()
            return await self._forkserver.spawn()

    def _start_forkserver(self, *, preload: bool) -> ForkserverClient:
        forkserver = ForkserverClient(preload=preload, kill_orphans=self._kill_orphans, variables=self._variables)
        self._forkservers.add(forkserver)
        forkserver.closed.add_done_callback(lambda _: self._forkservers.discard(forkserver))
        return forkserver

    async def _preload_forkserver(self) -> None:
        """Replace the forkserver by a preloaded one. If that fails, each body imports its libraries itself, which only costs time."""
        try:
            preloaded = self._start_forkserver(preload=True)
            await preloaded.wait_ready(timeout=None)
            async with self._spawn_lock:
                previous, self._forkserver = self._forkserver, preloaded
                self._drop_kept(0)
                spare, self._spare = self._spare, None
                if spare is not None:
                    spare.add_done_callback(_close_unused)
                if previous is not None:
                    previous.retire()
            self._refill()
        except (ForkserverUnavailable, OSError):
            log.warning("forkserver_preload_failed", exc_info=True)
        finally:
            self._preload_task = None

    def _kill_orphans(self) -> bool:
        return self._is_subreaper and process_tree.kill_orphans(
            {*self._preexisting_children, *(forkserver.pid for forkserver in self._forkservers if forkserver.is_alive), os.getpid()}
        )


async def _await_child(task: asyncio.Task[ChildHandle]) -> ChildHandle:
    """Wait for the child; if cancelled, close the child when it comes."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_close_unused)
        raise


def _close_unused(task: asyncio.Task[ChildHandle]) -> None:
    """Close an unused child: it exits at the end of its socket."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
