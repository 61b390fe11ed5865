"""Traces of bodies: when each ran, in which process, and whether it overlapped with another."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of the body `target`. `ended` is None if it was killed; times are on the monotonic clock. `is_held` says that it waited to be
    killed when it had done its work."""

    job: UUID
    attempt: int
    target: str
    process: str
    pid: int
    started: float
    ended: float | None
    alone: bool
    is_held: bool = False


def executions(folder: Path) -> list[Execution]:
    """Return all executions in the order of their starts."""
    path = folder / "executions"
    by_key: dict[tuple[str, int, str, int], Execution] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        trace = json.loads(line)
        key = (trace["job"], trace["attempt"], trace["target"], trace["pid"])
        if trace["what"] == "start":
            by_key[key] = Execution(
                UUID(trace["job"]), trace["attempt"], trace["target"], trace["process"], trace["pid"], trace["at"], None, trace["alone"]
            )
        elif trace["what"] == "held":
            by_key[key] = replace(by_key[key], is_held=True)
        else:
            by_key[key] = replace(by_key[key], ended=trace["at"])
    return list(by_key.values())


def overlapping(all_executions: list[Execution]) -> set[tuple[UUID, int]]:
    """Return (job, attempt) of executions that started while another of the same job ran, by the job's lock or by the clock."""
    overlaps: set[tuple[UUID, int]] = set()
    ends: dict[UUID, float] = {}
    for execution in sorted(all_executions, key=lambda execution: execution.started):
        if not execution.alone or execution.started < ends.get(execution.job, 0.0):
            overlaps.add((execution.job, execution.attempt))
        ends[execution.job] = max(ends.get(execution.job, 0.0), execution.ended or execution.started)
    return overlaps
