"""The chores there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from db.services.chores import counters, credits, objects, rows, uploads
from db.services.chores.ground import ChoreFailed, Ground
from db.settings import StateSettings

__all__ = ["CHORES", "Chore", "ChoreFailed", "Ground"]


@dataclass(frozen=True, slots=True)
class Chore:
    """A recurring task. `step` says how many rows or objects it changed; it may be killed at any point and done by two at once."""

    name: str
    step: Callable[[Ground], Awaitable[int]]
    every: Callable[[StateSettings], float]


CHORES: dict[str, Chore] = {
    chore.name: chore
    for chore in (
        Chore("make_partitions", rows.make_partitions, lambda settings: settings.chore_make_partitions),
        Chore("retire_workers", rows.retire_workers, lambda settings: settings.chore_retire_workers),
        Chore("forget_keys", rows.forget_keys, lambda settings: settings.chore_forget_keys),
        Chore("forget_staged_points", rows.forget_staged_points, lambda settings: settings.chore_forget_staged_points),
        Chore("expire_uploads", uploads.expire_uploads, lambda settings: settings.chore_expire_uploads),
        Chore("reconcile_counters", counters.reconcile_counters, lambda settings: settings.chore_reconcile_counters),
        Chore("reconcile_credits", credits.reconcile_credits, lambda settings: settings.chore_reconcile_credits),
        Chore("remove_unreferenced", objects.remove_unreferenced, lambda settings: settings.chore_remove_unreferenced),
        Chore("collect_orphans", objects.collect_orphans, lambda settings: settings.chore_collect_orphans),
    )
}
