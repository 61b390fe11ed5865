"""The long run: `make chaos ARGS="--seed 7 --jobs 1000"`. Prints the seed, what was done, the invariants as a table, and the numbers."""

from __future__ import annotations

import argparse
import asyncio
import collections
import os
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from tests.faults import numbers
from tests.faults.crowd import NAMES, Crowd, Submit
from tests.faults.ground import QUICK, Ground
from tests.faults.invariants import show, violations
from tests.faults.mischief import Mischief, kinds

SETTINGS: Mapping[str, str] = {
    **QUICK,
    "TRELLIS_WORKER_SLOTS": "6",
    "TRELLIS_WORKER_LEASE": "4",
    "TRELLIS_WORKER_PULSE": "0.8",
    "TRELLIS_WORKER_LOOK": "0.5",
    "TRELLIS_WORKER_RING_AGAIN": "2",
    "TRELLIS_WORKER_BACKOFF_BASE": "0.5",
    "TRELLIS_WORKER_BACKOFF_FACTOR": "2",
    "TRELLIS_WORKER_CHECKPOINT_EVERY": "0.1",  # what is killed is to have something to go on from
    "TRELLIS_WORKER_CHECKPOINT_BYTES": "0",
    "TRELLIS_WORKER_PRELOAD": "true",  # a body of ours that imports for itself takes a second of a core, again with each attempt
}
HOLD = "hold 6"  # seconds, more than a lease
FILL = "fill 64"  # megabytes, more than the disk has
# (weight, script, how it ends); those in capitals are the product's own kinds of work.
MIX: tuple[tuple[int, str, str], ...] = (
    (600, "nap 0.05", "completed"),
    (150, "nap 0.4", "completed"),
    (60, "linger 3 0.1", "completed"),
    (30, "linger 8 0.1", "completed"),
    (40, "stumble", "completed"),
    (30, "fork 0.1", "completed"),
    (20, "stubborn 0.5", "completed"),
    (10, "hold 2", "completed"),
    (5, HOLD, "completed"),
    (3, "leak", "failed"),
    (3, FILL, "completed"),
    (10, "chatter 4", "completed"),
    (20, "refuse", "failed"),
    (6, "PROCESS", "completed"),
    (6, "TRAIN", "completed"),
    (8, "INGEST", "completed"),
    (8, "BOOST", "completed"),
    (6, "BIG", "completed"),
)
SUBMITTERS = 16
PAUSES = (0.9, 3.5)  # seconds between the starts of two faults
TELL = 10.0  # seconds between two lines of progress
STANDS = """SELECT count(*) AS there, count(completed_at) AS ended, count(*) FILTER (WHERE status = 'running') AS running FROM jobs"""
LAST = 0.97  # share of the jobs that must have ended before the faults stop
WHOLE = 1000  # jobs; a run of so many is to have had every kind of fault, within
SECONDS = 180.0  # on two cores that do nothing else

console = Console()


class Storm:
    """So many jobs under random faults."""

    def __init__(self, ground: Ground, crowd: Crowd, chance: random.Random, chosen: list[str], jobs: int) -> None:
        self._ground = ground
        self._crowd = crowd
        self._random = chance
        self._chosen = chosen
        self._jobs = jobs
        self._mischief = Mischief(ground, crowd, random.Random(chance.random()))
        self._server = asyncio.Lock()
        self._network = asyncio.Lock()
        self._calm = asyncio.Event()
        self.done: collections.Counter[str] = collections.Counter()
        self.failed: collections.Counter[str] = collections.Counter()
        self.seconds = 0.0
        self._under_way: set[str] = set()

    async def rage(self, within: float) -> None:
        """Until every job has ended."""
        started = time.monotonic()
        faults = asyncio.create_task(self._faults())
        try:
            numbers_of_jobs = iter(range(self._jobs))
            async with asyncio.TaskGroup() as people:
                for _ in range(SUBMITTERS):
                    people.create_task(self._submit(numbers_of_jobs))
                people.create_task(self._wait(within))
            self.seconds = time.monotonic() - started
        finally:
            self._calm.set()
            await faults
        await self._crowd.ended()  # a fault may have given out jobs of its own, to strike at
        await self._crowd.watched(60)

    async def _submit(self, turns: Iterator[int]) -> None:
        for _ in turns:
            submit = await self._one()
            if self._random.random() < 0.15:
                self._crowd.watch(submit, churn=0.1)
            if self._random.random() < 0.03:
                await asyncio.sleep(self._random.uniform(0, 1.0))
                await self._crowd.cancel(submit.job)
            if self._random.random() < 0.02:
                await self._again()

    async def _one(self) -> Submit:
        (script, expected), *_ = self._random.choices([row[1:] for row in MIX], [row[0] for row in MIX])
        match script:
            case "PROCESS":
                return await self._crowd.process()
            case "TRAIN":
                return await self._crowd.train()
            case "INGEST":
                return await self._crowd.ingest()
            case "BOOST":
                return await self._crowd.boost()
            case "BIG":
                return await self._crowd.ingest(megabytes=1)
            case _:
                if script == FILL and not self._ground.disk:
                    expected = "failed"  # of the limit on files that stands in for the disk
                return await self._crowd.script(script, expected, priority=self._random.randint(1, 10))

    async def _again(self) -> None:
        """Somebody wants one that ended done again."""
        ids = [submit.job for submit in self._crowd.submits]
        query = "SELECT id FROM jobs WHERE id = ANY($1) AND completed_at IS NOT NULL AND kind = 'process' ORDER BY id LIMIT 20"
        if rows := await self._ground.rows(query, ids):
            await self._crowd.again(self._random.choice(rows)["id"])

    async def _wait(self, within: float) -> None:
        """Say how far it is; the faults end when nearly all jobs have."""
        began = told = time.monotonic()
        while time.monotonic() < began + within:
            rows = await self._ground.rows(STANDS)
            there, ended = rows[0]["there"], rows[0]["ended"]
            if time.monotonic() > told + TELL:
                told = time.monotonic()
                done = sum(self.done.values())
                console.print(
                    f"{told - began:4.0f} s: {ended} of {there} jobs ended, {rows[0]['running']} run; {done} faults, under way:"
                    f" {', '.join(sorted(self._under_way)) or 'none'}"
                )
            submitted = len(self._crowd.submits) >= self._jobs
            if submitted and ended >= LAST * there:
                self._calm.set()
            if submitted and ended == there:
                return
            await asyncio.sleep(0.5)
        console.print(f"[red]not all jobs ended within {within:.0f} s")

    async def _faults(self) -> None:
        """One after the other starts, each kind once before any comes again; those that last may overlap."""
        table, deck = kinds(), list[str]()
        async with asyncio.TaskGroup() as running:
            while not self._calm.is_set():
                if not deck:
                    deck = self._random.sample(self._chosen, len(self._chosen))
                name = next((name for name in deck if not self._busy(name)), None)
                if name is not None:
                    deck.remove(name)
                    running.create_task(self._harm(name, table[name]))
                await asyncio.sleep(self._random.uniform(*PAUSES))

    def _busy(self, name: str) -> bool:
        gate = self._gate(name)
        return gate is not None and gate.locked()

    def _gate(self, name: str) -> asyncio.Lock | None:
        """A server is down for one reason at a time, and the network harmed in one way."""
        if name.endswith(("connections", "connection")) or name.startswith(("store", "partition")):
            return self._network
        return self._server if name.endswith(("redis", "postgres", "backend")) and not name.startswith("wipe") else None

    async def _harm(self, name: str, kind: Callable[[Mischief], Awaitable[bool]]) -> None:
        try:
            async with self._gate(name) or nullcontext():
                self._under_way.add(name)
                struck = await kind(self._mischief)
        except Exception as error:  # noqa: BLE001 - a fault that could not be done is none
            self.failed[name] += 1
            console.print(f"[yellow]{name}: {error!r}")
        else:
            self.done[name] += struck
        finally:
            self._under_way.discard(name)


async def storm(folder: Path, seed: int, jobs: int, workers: int, chosen: list[str], settings: Mapping[str, str]) -> bool:
    """Whether all held."""
    chance = random.Random(seed)
    with Ground(folder, seed, settings) as ground:
        await ground.connect()
        await asyncio.gather(ground.start_up(1), ground.start_api(), *(ground.start_worker() for _ in range(workers - 1)))
        crowd = Crowd(ground, chance)
        await crowd.gather(NAMES)
        await crowd.prepare(["nap 600", *(script for _, script, _ in MIX if script.islower())])
        raging = Storm(ground, crowd, chance, chosen, jobs)
        await raging.rage(within=900.0)
        sound = await report(ground, crowd, raging, seed, chosen)
        await ground.collect()
        await crowd.every_slot(len(ground.worker_pids()))
        await asyncio.sleep(14)  # an invitation whose worker vanished stays hidden for 13 s
        found = await violations(ground, crowd, later=True)
        show(found, console)
        await crowd.leave()
        await ground.pool.close()
        return sound and not any(found.values()) and all(watch.done for watch in crowd.watches)


async def report(ground: Ground, crowd: Crowd, raging: Storm, seed: int, chosen: list[str]) -> bool:
    """What was done, and whether it was all that a whole run is to do."""
    total = len(crowd.submits)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    console.print(f"seed {seed}, lease {ground.settings['TRELLIS_WORKER_LEASE']} s, load of the machine {load}")
    console.print(f"{total} jobs, each submitted twice, in {raging.seconds:.1f} s ({total / raging.seconds:.1f} a second)")
    console.print(f"{sum(raging.done.values())} faults: " + ", ".join(f"{name} {raging.done[name]}" for name in chosen))
    query = "SELECT status::text, count(*), sum(attempt) AS attempts, sum(tries) AS tries, sum(losses) AS losses FROM jobs GROUP BY 1"
    for row in await ground.rows(query):
        console.print("  " + ", ".join(f"{name} {value}" for name, value in row.items()))
    rows = await ground.rows("SELECT count(DISTINCT job_id) AS jobs FROM job_events WHERE message LIKE 'Goes on %'")
    console.print(f"  {rows[0]['jobs']} jobs went on from a checkpoint")
    wrong = [f"{name} never struck" for name in chosen if not raging.done[name]]
    wrong += [f"{name} could not be done, {count} times" for name, count in raging.failed.items()]
    if raging.seconds >= SECONDS:
        wrong.append(f"it took {SECONDS:g} s or more")
    for each in wrong:
        console.print(f"[red]{each}" if total >= WHOLE else f"[yellow]{each}; a run of {WHOLE:,} jobs would be broken by it")
    return total < WHOLE or not wrong


def main() -> int:
    table = kinds()
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeats a run's choices; drawn when not given")
    parser.add_argument("--seeds", type=int, default=1, help="runs, with consecutive seeds")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=3, help="worker processes, one of them kept by `trellis up`")
    parser.add_argument("--kinds", default=",".join(table), help="faults, separated by commas: " + ", ".join(table))
    parser.add_argument("--lease", type=float, default=float(SETTINGS["TRELLIS_WORKER_LEASE"]), help="seconds")
    parser.add_argument("--numbers", default=None, help="instead of the storm, measure: all, or some of " + ", ".join(numbers.NUMBERS))
    given = parser.parse_args()
    unknown = [name for name in given.kinds.split(",") if name not in table]
    if unknown:
        parser.error(f"there is no fault called {', '.join(unknown)}")
    first = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    sound = True
    for seed in range(first, first + given.seeds):
        console.rule(f"seed {seed}")
        folder = Path(tempfile.mkdtemp(prefix="trellis-chaos-"))
        settings = {**SETTINGS, "TRELLIS_WORKER_LEASE": str(given.lease), "TRELLIS_WORKER_PULSE": str(given.lease / 5)}
        if given.numbers:
            held = asyncio.run(numbers.measure(folder, seed, given.numbers))
        else:
            held = asyncio.run(storm(folder, seed, given.jobs, given.workers, given.kinds.split(","), settings))
        if held and not given.numbers:
            console.print('Not measured here are the numbers: make chaos ARGS="--numbers all" takes them, in some ten minutes.')
        if held:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            console.print(f"[red]BROKEN. Repeat it with --seed {seed}; logs and data lie in {folder}")
        sound = sound and held
    return 0 if sound else 1


if __name__ == "__main__":
    raise SystemExit(main())
