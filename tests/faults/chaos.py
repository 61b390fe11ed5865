"""The long run: `make chaos ARGS="--seed 7 --jobs 1000"`. Prints the seed, the injected faults, the invariants and the measurements."""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from tests.faults import performance_targets, product_jobs, purges
from tests.faults.cluster import QUICK_SETTINGS, Cluster
from tests.faults.fault_injection import FaultInjector, fault_kinds
from tests.faults.invariants import find_violations, print_violations
from tests.faults.product_jobs import ProductJobs, files_server
from tests.faults.purges import Purges
from tests.faults.workload import NAMES, Submission, Workload

SETTINGS: Mapping[str, str] = {
    **QUICK_SETTINGS,
    **product_jobs.SETTINGS,
    **purges.SETTINGS,
    "TRELLIS_WORKER_SLOTS": "6",
    "TRELLIS_WORKER_LEASE": "4",
    "TRELLIS_WORKER_HEARTBEAT_INTERVAL": "0.8",
    "TRELLIS_WORKER_POLL_INTERVAL": "0.5",
    "TRELLIS_WORKER_DISPATCH_RETRY_INTERVAL": "2",
    "TRELLIS_WORKER_BACKOFF_BASE": "0.5",
    "TRELLIS_WORKER_BACKOFF_FACTOR": "2",
    "TRELLIS_WORKER_CHECKPOINT_INTERVAL": "0.1",  # so that killed trainings have a checkpoint to resume from
    "TRELLIS_WORKER_CHECKPOINT_MIN_BYTES": "0",
    "TRELLIS_WORKER_PRELOAD": "true",  # without it, each attempt of a real body takes a second of a core for imports
}
HOLD_SCRIPT = "hold 6"  # seconds, more than a lease
FILL_SCRIPT = "fill 64"  # megabytes, more than the disk has
# (weight, script, expected end); names in capitals are real jobs of the product.
SCRIPT_MIX: tuple[tuple[int, str, str], ...] = (
    (600, "nap 0.05", "completed"),
    (150, "nap 0.4", "completed"),
    (60, "linger 3 0.1", "completed"),
    (30, "linger 8 0.1", "completed"),
    (40, "stumble", "completed"),
    (30, "fork 0.1", "completed"),
    (20, "stubborn 0.5", "completed"),
    (10, "hold 2", "completed"),
    (5, HOLD_SCRIPT, "completed"),
    (3, "leak", "failed"),
    (3, FILL_SCRIPT, "completed"),
    (10, "chatter 4", "completed"),
    (20, "refuse", "failed"),
    (6, "PROCESS", "completed"),
    (6, "TRAIN", "completed"),
    (8, "INGEST", "completed"),
    (8, "BOOST", "completed"),
    (6, "BIG", "completed"),
    *((3, kind.upper(), "completed") for kind in product_jobs.KINDS),
)
SUBMITTERS = 16
PURGES = 5  # datasets of each viewer that are deleted and purged beside the jobs
TRIALS = 6  # of the study of each viewer, which goes on beside the jobs
FAULT_INTERVALS = (0.9, 3.5)  # seconds between starts of faults
PROGRESS_INTERVAL = 10.0  # seconds between lines of progress
JOB_COUNTS = """SELECT count(*) AS there, count(completed_at) AS ended, count(*) FILTER (WHERE status = 'running') AS running,
  (SELECT count(*) FROM studies WHERE completed_at IS NULL) AS studies FROM jobs"""
ENDED_SHARE = 0.97  # share of the jobs that must have ended before the faults stop
FULL_RUN_JOBS = 1000  # a run of so many jobs must have had every kind of fault
FULL_RUN_SECONDS = 180.0  # its limit, on two idle cores

console = Console()


class ChaosRun:
    """A number of jobs under random faults."""

    def __init__(
        self,
        cluster: Cluster,
        workload: Workload,
        product_jobs: ProductJobs,
        purges: Purges,
        rng: random.Random,
        kinds: list[str],
        jobs: int,
    ) -> None:
        self._cluster = cluster
        self._workload = workload
        self._product_jobs = product_jobs
        self._purges = purges
        self._random = rng
        self._kinds = kinds
        self._jobs = jobs
        self._injector = FaultInjector(cluster, workload, random.Random(rng.random()))
        self._server_lock = asyncio.Lock()
        self._network_lock = asyncio.Lock()
        self._stop_faults = asyncio.Event()
        self.injected: collections.Counter[str] = collections.Counter()
        self.failed: collections.Counter[str] = collections.Counter()
        self.seconds = 0.0
        self._active: set[str] = set()

    async def run(self, within: float) -> None:
        """Run until every job has ended."""
        started = time.monotonic()
        for viewer, method in zip(self._workload.viewers, itertools.cycle(("RANDOM", "HYPERBAND")), strict=False):
            await self._workload.create_study(viewer, TRIALS, method)
        fault_task = asyncio.create_task(self._inject_faults())
        try:
            job_numbers = iter(range(self._jobs))
            async with asyncio.TaskGroup() as tasks:
                for _ in range(SUBMITTERS):
                    tasks.create_task(self._submit(job_numbers))
                tasks.create_task(self._wait_until_ended(within))
            self.seconds = time.monotonic() - started
        finally:
            self._stop_faults.set()
            await fault_task
        await self._workload.wait_for_end()  # faults may have submitted jobs of their own
        await self._workload.wait_for_subscribers(60)

    async def _submit(self, turns: Iterator[int]) -> None:
        for _ in turns:
            submission = await self._submit_random()
            if self._random.random() < 0.15:
                self._workload.subscribe(submission, churn=0.1)
            if self._random.random() < 0.03:
                await asyncio.sleep(self._random.uniform(0, 1.0))
                await self._workload.cancel(submission.job)
            if self._random.random() < 0.02:
                await self._retry_random()
            if self._random.random() < 2 * PURGES * len(self._workload.viewers) / self._jobs:
                await self._purges.purge_one()

    async def _submit_random(self) -> Submission:
        (script, expected), *_ = self._random.choices([row[1:] for row in SCRIPT_MIX], [row[0] for row in SCRIPT_MIX])
        match script:
            case "PROCESS":
                return await self._workload.submit_process()
            case "TRAIN":
                return await self._workload.submit_training()
            case "INGEST":
                return await self._workload.submit_ingest()
            case "BOOST":
                return await self._workload.submit_boosting()
            case "BIG":
                return await self._workload.submit_ingest(megabytes=1)
            case _ if (name := script.lower()) in product_jobs.KINDS:
                return await getattr(self._product_jobs, name)()
            case _:
                if script == FILL_SCRIPT and not self._cluster.has_scratch_disk:
                    expected = "failed"  # by the file size limit that replaces the full disk
                return await self._workload.submit_script(script, expected, priority=self._random.randint(1, 10))

    async def _retry_random(self) -> None:
        """Retry a random ended job."""
        ids = [submission.job for submission in self._workload.submissions]
        query = "SELECT id FROM jobs WHERE id = ANY($1) AND completed_at IS NOT NULL AND kind = 'process' ORDER BY id LIMIT 20"
        if rows := await self._cluster.rows(query, ids):
            await self._workload.retry(self._random.choice(rows)["id"])

    async def _wait_until_ended(self, within: float) -> None:
        """Print progress until all jobs have ended; stop the faults when nearly all have."""
        started = reported_at = time.monotonic()
        while time.monotonic() < started + within:
            rows = await self._cluster.rows(JOB_COUNTS)
            total, ended = rows[0]["there"], rows[0]["ended"]
            if time.monotonic() > reported_at + PROGRESS_INTERVAL:
                reported_at = time.monotonic()
                injected = sum(self.injected.values())
                console.print(
                    f"{reported_at - started:4.0f} s: {ended} of {total} jobs ended, {rows[0]['running']} run; {injected} faults, under way:"
                    f" {', '.join(sorted(self._active)) or 'none'}"
                )
            submitted = len(self._workload.submissions) >= self._jobs
            if submitted and ended >= ENDED_SHARE * total:
                self._stop_faults.set()
            if submitted and ended == total and rows[0]["studies"] == 0:
                return
            await asyncio.sleep(0.5)
        console.print(f"[red]not all jobs ended within {within:.0f} s")

    async def _inject_faults(self) -> None:
        """Inject faults, each kind once before any repeats. Lasting ones may overlap."""
        kinds_by_name, remaining_kinds = fault_kinds(), list[str]()
        async with asyncio.TaskGroup() as tasks:
            while not self._stop_faults.is_set():
                if not remaining_kinds:
                    remaining_kinds = self._random.sample(self._kinds, len(self._kinds))
                name = next((name for name in remaining_kinds if not self._is_locked(name)), None)
                if name is not None:
                    remaining_kinds.remove(name)
                    tasks.create_task(self._inject(name, kinds_by_name[name]))
                await asyncio.sleep(self._random.uniform(*FAULT_INTERVALS))

    def _is_locked(self, name: str) -> bool:
        lock = self._lock_for(name)
        return lock is not None and lock.locked()

    def _lock_for(self, name: str) -> asyncio.Lock | None:
        """Return the lock that allows one server fault and one network fault at a time."""
        if name.endswith(("connections", "connection")) or name.startswith(("store", "partition")):
            return self._network_lock
        return self._server_lock if name.endswith(("redis", "postgres", "backend")) and not name.startswith("wipe") else None

    async def _inject(self, name: str, inject: Callable[[FaultInjector], Awaitable[bool]]) -> None:
        try:
            async with self._lock_for(name) or nullcontext():
                self._active.add(name)
                injected = await inject(self._injector)
        except Exception as error:  # noqa: BLE001 - a fault that failed was not injected
            self.failed[name] += 1
            console.print(f"[yellow]{name}: {error!r}")
        else:
            self.injected[name] += injected
        finally:
            self._active.discard(name)


async def run_chaos(folder: Path, seed: int, jobs: int, workers: int, kinds: list[str], settings: Mapping[str, str]) -> bool:
    """Run and check everything. Return whether all checks passed."""
    rng = random.Random(seed)
    with files_server() as files_url, Cluster(folder, seed, settings) as cluster:
        await cluster.connect()
        await asyncio.gather(cluster.start_up(1), cluster.start_api(), *(cluster.start_worker() for _ in range(workers - 1)))
        workload = Workload(cluster, rng)
        await workload.create_viewers(NAMES)
        await workload.create_pipelines(["nap 600", *(script for _, script, _ in SCRIPT_MIX if script.islower())])
        product = ProductJobs(workload, files_url)
        await product.prepare()
        purging = Purges(workload)
        await purging.prepare(PURGES)
        chaos_run = ChaosRun(cluster, workload, product, purging, rng, kinds, jobs)
        await chaos_run.run(within=900.0)
        passed = await report(cluster, workload, chaos_run, seed, kinds)
        console.print(f"  {await purging.wait_until_gone(60.0)} datasets purged")
        await cluster.collect_orphans()
        await workload.assert_every_slot_runs(len(cluster.worker_pids()))
        await asyncio.sleep(14)  # a queue entry whose worker died stays hidden for 13 s
        violated = await find_violations(cluster, workload, later=True)
        print_violations(violated, console)
        await workload.close()
        await cluster.pool.close()
        return passed and not any(violated.values()) and all(subscriber.done for subscriber in workload.subscribers)


async def report(cluster: Cluster, workload: Workload, chaos_run: ChaosRun, seed: int, kinds: list[str]) -> bool:
    """Print what was done. Return whether a full run had every kind of fault within its time."""
    total = len(workload.submissions)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    console.print(f"seed {seed}, lease {cluster.settings['TRELLIS_WORKER_LEASE']} s, load of the machine {load}")
    console.print(f"{total} jobs, each submitted twice, in {chaos_run.seconds:.1f} s ({total / chaos_run.seconds:.1f} a second)")
    console.print(f"{sum(chaos_run.injected.values())} faults: " + ", ".join(f"{name} {chaos_run.injected[name]}" for name in kinds))
    query = "SELECT status::text, count(*), sum(attempt) AS attempts, sum(tries) AS tries, sum(losses) AS losses FROM jobs GROUP BY 1"
    for row in await cluster.rows(query):
        console.print("  " + ", ".join(f"{name} {value}" for name, value in row.items()))
    rows = await cluster.rows("SELECT count(DISTINCT job_id) AS jobs FROM job_events WHERE message ~ '^(Resumes|Goes on) '")
    console.print(f"  {rows[0]['jobs']} jobs resumed from a checkpoint")
    failures = [f"{name} never struck" for name in kinds if not chaos_run.injected[name]]
    failures += [f"{name} could not be done, {count} times" for name, count in chaos_run.failed.items()]
    if chaos_run.seconds >= FULL_RUN_SECONDS:
        failures.append(f"it took {FULL_RUN_SECONDS:g} s or more")
    for each in failures:
        console.print(
            f"[red]{each}" if total >= FULL_RUN_JOBS else f"[yellow]{each}; a run of {FULL_RUN_JOBS:,} jobs would be broken by it"
        )
    return total < FULL_RUN_JOBS or not failures


def main() -> int:
    kinds_by_name = fault_kinds()
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeats a run's choices; drawn when not given")
    parser.add_argument("--seeds", type=int, default=1, help="runs, with consecutive seeds")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=3, help="worker processes, one of them kept by `trellis up`")
    parser.add_argument("--kinds", default=",".join(kinds_by_name), help="faults, separated by commas: " + ", ".join(kinds_by_name))
    parser.add_argument("--lease", type=float, default=float(SETTINGS["TRELLIS_WORKER_LEASE"]), help="seconds")
    parser.add_argument(
        "--numbers", default=None, help="instead of the storm, measure: all, or some of " + ", ".join(performance_targets.TARGETS)
    )
    arguments = parser.parse_args()
    unknown_kinds = [name for name in arguments.kinds.split(",") if name not in kinds_by_name]
    if unknown_kinds:
        parser.error(f"there is no fault called {', '.join(unknown_kinds)}")
    first_seed = random.SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed
    all_passed = True
    for seed in range(first_seed, first_seed + arguments.seeds):
        console.rule(f"seed {seed}")
        folder = Path(tempfile.mkdtemp(prefix="trellis-chaos-"))
        settings = {**SETTINGS, "TRELLIS_WORKER_LEASE": str(arguments.lease), "TRELLIS_WORKER_HEARTBEAT_INTERVAL": str(arguments.lease / 5)}
        if arguments.numbers:
            passed = asyncio.run(performance_targets.measure(folder, seed, arguments.numbers))
        else:
            passed = asyncio.run(run_chaos(folder, seed, arguments.jobs, arguments.workers, arguments.kinds.split(","), settings))
        if passed and not arguments.numbers:
            console.print('Not measured here are the numbers: make chaos ARGS="--numbers all" takes them, in some ten minutes.')
        if passed:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            console.print(f"[red]BROKEN. Repeat it with --seed {seed}; logs and data lie in {folder}")
        all_passed = all_passed and passed
    return 0 if all_passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
