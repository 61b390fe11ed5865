"""MLflow's REST protocol, answered here and by MLflow's own server: how fast, at what cost in CPU, memory and start-up.

Both have their tables in one PostgreSQL server with durable commits, as many processes (MLflow's default), and answer the same requests of one light client,
prepared before they are timed. Rounds of both alternate, so that other load on the machine affects both; their answers are compared. CPU is that of the
servers' processes, without PostgreSQL. `make bench ARGS=bench_mlflow` installs the server, in a virtual environment of its own.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import orjson
import psutil

from graph.core.ids import parse
from tests.benchmarks import deployment
from tests.benchmarks.raw_client import RawConnection

PROCESSES = 4  # of the API; the default of MLflow
ROUNDS = 3
STARTS = 6
CLIENTS, CALLS = 4, 40  # that log single points, in a round
BATCHES, POINTS = 10, 1_000  # in a round; points in a batch
RUNS, SEARCHES = 100_000, 5  # runs searched; searches of each size in a round
SIZES = (20, 1_000)  # of a page
START_MS = 1_772_323_200_000
START_TIMEOUT = 300.0  # seconds
SERVER = Path(sys.prefix) / "mlflow-server" / "bin" / "python"
PATH = "/api/2.0/mlflow/"

OURS = """
INSERT INTO runs (id, owner_id, experiment_id, number, name, status, source, hyperparameters, seed, created_at, started_at, completed_at)
  SELECT uuidv7(), e.owner_id, e.id, i, 'run ' || i, 'completed', 'external', jsonb_build_object('alpha', i % 100, 'depth', i % 7), 0, now(), now(), now()
  FROM experiments e, generate_series(1, $runs) i WHERE e.id = '$experiment';
INSERT INTO run_parameters (run_id, key, number, text)
  SELECT r.id, l.key, l.number, l.text FROM runs r, trellis_json_leaves(r.hyperparameters) l WHERE r.experiment_id = '$experiment';
INSERT INTO run_metrics (run_id, experiment_id, key, last, last_step, last_at, min, min_step, max, max_step, count)
  SELECT r.id, r.experiment_id, key, value, 1, now(), value, 1, value, 1, 1 FROM runs r, unnest(ARRAY['loss', 'accuracy', 'f1']) WITH ORDINALITY k(key, n),
    LATERAL (SELECT hashint8extended(r.number * 8 + n, 1) / 9223372036854775808.0 AS value) v WHERE r.experiment_id = '$experiment';
UPDATE experiments SET last_number = $runs WHERE id = '$experiment';
"""
THEIRS = """
INSERT INTO runs (run_uuid, name, status, start_time, end_time, lifecycle_stage, artifact_uri, experiment_id, source_type, source_name, user_id)
  SELECT md5(i::text), 'run ' || i, 'FINISHED', 1772323200000, 1772323200000, 'active', 'mlflow-artifacts:/1/' || i, $experiment, 'UNKNOWN', '', ''
  FROM generate_series(1, $runs) i;
INSERT INTO tags (run_uuid, key, value) SELECT md5(i::text), 'mlflow.runName', 'run ' || i FROM generate_series(1, $runs) i;
INSERT INTO params (run_uuid, key, value)
  SELECT md5(i::text), key, value FROM generate_series(1, $runs) i, LATERAL (VALUES ('alpha', (i % 100)::text), ('depth', (i % 7)::text)) p(key, value);
INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan)
  SELECT md5(i::text), key, hashint8extended(i * 8 + n, 1) / 9223372036854775808.0, 1772323200000, 1, false
  FROM generate_series(1::bigint, $runs) i, unnest(ARRAY['loss', 'accuracy', 'f1']) WITH ORDINALITY k(key, n);
INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan) SELECT run_uuid, key, value, timestamp, step, is_nan FROM latest_metrics
  ON CONFLICT DO NOTHING;
"""


@dataclass
class Server:
    """One of the two, as it runs. `times` are the seconds, `cpu` the seconds of CPU of its processes, of each call of a kind, by round."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    port: int = 0
    process: psutil.Process | None = None
    starts: list[float] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    @property
    def start(self) -> float:
        """The seconds of a start; the first one made the tables, and read from disk what is imported."""
        return median(self.starts[1:STARTS])

    @contextmanager
    def running(self) -> Generator[None]:
        """Start it and wait for its first answer; end all of its processes with the block."""
        self.port = deployment.free_port()
        began = time.perf_counter()
        child = subprocess.Popen(
            [*self.command, "--host", "127.0.0.1", "--port", str(self.port)],
            env=dict(self.environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.process = psutil.Process(child.pid)
        try:
            while not self._answers():
                if child.poll() is not None or time.perf_counter() - began > START_TIMEOUT:
                    raise SystemExit(f"{self.name} does not start: {' '.join(self.command)}")
                time.sleep(0.02)
            self.starts.append(time.perf_counter() - began)
            yield
        finally:
            tree = self.tree()
            for process in tree:
                with suppress(psutil.NoSuchProcess):  # its parent may have ended it
                    process.terminate()
            for process in psutil.wait_procs(tree, timeout=20)[1]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            child.wait()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"{PATH}experiments/get?experiment_id=0", headers={"Authorization": f"Bearer {deployment.TOKEN}"})
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def tree(self) -> list[psutil.Process]:
        assert self.process is not None
        return [self.process, *self.process.children(recursive=True)] if self.process.is_running() else []

    def cpu_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.tree())

    def memory(self) -> float:
        """The MiB of its processes; what several share is counted once."""
        return sum(process.memory_full_info().pss for process in self.tree()) / 2**20

    async def post(self, path: str, **fields: Any) -> Any:
        """Send one call; return its answer."""
        return orjson.loads((await self._send([prepared(path, fields)]))[0].partition(b"\r\n\r\n")[2])

    async def _send(self, requests: Sequence[bytes]) -> list[bytes]:
        """Send these one after the other on a connection of their own; return the answers, head included."""
        _, connection = await asyncio.get_running_loop().create_connection(RawConnection, "127.0.0.1", self.port)
        answers = [await connection.send(request) for request in requests]
        connection.transport.close()
        for answer in answers:
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"{self.name}: {answer[:1_000].decode()}")
        return answers

    async def measure(self, kind: str, of_clients: Sequence[Sequence[bytes]]) -> list[bytes]:
        """Send what each client has to send, all clients at once; note what a call took. Return the answers to the first."""
        calls = sum(map(len, of_clients))
        before, began = self.cpu_seconds(), time.perf_counter()
        answers = await asyncio.gather(*map(self._send, of_clients))
        self.times.setdefault(kind, []).append((time.perf_counter() - began) / calls)
        self.cpu.setdefault(kind, []).append((self.cpu_seconds() - before) / calls)
        return answers[0]


def prepared(path: str, fields: Mapping[str, Any]) -> bytes:
    body = orjson.dumps(fields)
    head = (
        f"POST {PATH}{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: application/json\r\n"
        f"authorization: Bearer {deployment.TOKEN}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def fill(url: str, statements: str, experiment: str) -> None:
    """Fill a database with the runs that are searched, as fast as it goes, and have its statistics current."""
    connection = await asyncpg.connect(url, statement_cache_size=0)
    await connection.execute("SET session_replication_role = replica; SET synchronous_commit = off")
    await connection.execute(statements.replace("$runs", str(RUNS)).replace("$experiment", experiment))
    await connection.execute("RESET session_replication_role")
    await connection.execute("VACUUM (ANALYZE)")
    await connection.close()


async def log_points(servers: Sequence[Server], turn: int, runs: Mapping[str, Sequence[str]]) -> None:
    """Single points of several clients, each to a run of its own."""
    for server in servers:
        steps = range(turn * CALLS, (turn + 1) * CALLS)
        await server.measure(
            "log_metric",
            [
                [
                    prepared(
                        "runs/log-metric", {"run_id": run, "key": "loss", "value": step / 7, "timestamp": START_MS + step, "step": step}
                    )
                    for step in steps
                ]
                for run in runs[server.name][:CLIENTS]
            ],
        )


async def log_batches(servers: Sequence[Server], turn: int, runs: Mapping[str, Sequence[str]]) -> None:
    """Batches of points of ten metrics, to one run."""

    def batch(number: int) -> list[dict[str, Any]]:
        steps = range(number * POINTS // 10, (number + 1) * POINTS // 10)
        return [
            {"key": f"m{key}", "value": (step + key) / 7, "timestamp": START_MS + step, "step": step} for step in steps for key in range(10)
        ]

    for server in servers:
        numbers = range(turn * BATCHES, (turn + 1) * BATCHES)
        run = runs[server.name][CLIENTS]
        await server.measure("log_batch", [[prepared("runs/log-batch", {"run_id": run, "metrics": batch(number)}) for number in numbers]])


async def search(servers: Sequence[Server], experiments: Mapping[str, str]) -> None:
    """The first page of all runs by a metric: the same runs in the same order from both."""
    for size in SIZES:
        found: list[Any] = []
        for server in servers:
            fields = {"experiment_ids": [experiments[server.name]], "order_by": ["metrics.loss ASC"], "max_results": size}
            answers = await server.measure(f"search {size}", [[prepared("runs/search", fields)] * SEARCHES])
            found.append([_compared(run) for run in orjson.loads(answers[-1].partition(b"\r\n\r\n")[2])["runs"]])
        assert found[0] == found[1]
        assert len(found[0]) == size


def _compared(run: Mapping[str, Any]) -> tuple[Any, ...]:
    data = run["data"]
    metrics = {metric["key"]: metric["value"] for metric in data["metrics"]}
    return run["info"]["run_name"], metrics, {parameter["key"]: parameter["value"] for parameter in data["params"]}


async def compare_points(url: str, their_url: str, runs: Mapping[str, Sequence[str]]) -> None:
    """What both keep of what was logged is the same."""
    ours, theirs = await asyncpg.connect(url), await asyncpg.connect(their_url)
    for our_run, their_run in zip(runs["Trellis"], runs["MLflow"], strict=True):
        parsed = parse(our_run)
        assert parsed is not None
        kept = await ours.fetch("SELECT key, step, value FROM metric_points WHERE run_id = $1 ORDER BY 1, 2, 3", parsed[1])
        assert [tuple(row) for row in kept] == [
            tuple(row) for row in await theirs.fetch("SELECT key, step, value FROM metrics WHERE run_uuid = $1 ORDER BY 1, 2, 3", their_run)
        ]
        assert kept
    await ours.close()
    await theirs.close()


def report(ours: Server, theirs: Server) -> None:
    def row(name: str, unit: str, mine: float, other: float, reached: Callable[[float], bool], aim: str) -> None:
        ratio = other / mine
        print(f"{name:<36}{mine:>10.2f}{other:>12.2f} {unit:<4}{ratio:>8.1f}x   {aim}{'' if reached(ratio) else '  MISSED'}")

    def calls(kind: str, name: str, aim: float) -> None:
        mine, other = (median(server.times[kind]) * 1_000 for server in (ours, theirs))
        row(name, "ms", mine, other, lambda ratio: ratio >= aim, f"at least {aim:g}x")

    def cpu(kind: str, name: str, aim: float) -> None:
        mine, other = (median(server.cpu[kind]) * 1_000 for server in (ours, theirs))
        row(f"  CPU of the server, {name}", "ms", mine, other, lambda ratio: ratio >= aim, f"at least {aim:g}x" if aim else "")

    print(f"{'':<36}{'Trellis':>10}{'MLflow':>12}{'ratio':>14}   to reach")
    calls("log_metric", f"log_metric, {CLIENTS} clients, a call", 3)
    cpu("log_metric", "a call", 5)
    calls("log_batch", f"log_batch of {POINTS:,} points", 10)
    cpu("log_batch", "a batch", 0)
    for size, aim in zip(SIZES, (20, 3), strict=True):
        calls(f"search {size}", f"search_runs by a metric, {size:,} of {RUNS:,}", aim)
        cpu(f"search {size}", "a search", 0)
    row("start-up to the first answer", "s", ours.start, theirs.start, lambda ratio: ratio >= 5, "at least 5x")
    row(f"memory of {PROCESSES} processes", "MiB", ours.memory(), theirs.memory(), lambda ratio: ratio >= 2, "at least 2x")


async def measure(servers: tuple[Server, Server], url: str, their_url: str) -> None:
    experiments = {server.name: (await server.post("experiments/create", name="searched"))["experiment_id"] for server in servers}
    parsed = parse(experiments["Trellis"])
    assert parsed is not None
    await fill(url, OURS, str(parsed[1]))
    await fill(their_url, THEIRS, experiments["MLflow"])
    runs: dict[str, list[str]] = {}
    for server in servers:
        made = [await server.post("runs/create", experiment_id="0", start_time=START_MS + number) for number in range(CLIENTS + 1)]
        runs[server.name] = [each["run"]["info"]["run_id"] for each in made]
    for turn in range(ROUNDS + 1):
        order = servers if turn % 2 else servers[::-1]
        await log_points(order, turn, runs)
        await log_batches(order, turn, runs)
        await search(order, experiments)
        print(
            f"round {turn} of {ROUNDS}",
            {server.name: {kind: round(times[-1] * 1_000, 1) for kind, times in server.times.items()} for server in servers},
            flush=True,
        )
        if not turn:  # a warm-up
            for server in servers:
                server.times.clear()
                server.cpu.clear()
    await compare_points(url, their_url, runs)


async def create_database(url: str, name: str) -> str:
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return f"{url.rpartition('/')[0]}/{name}"


async def main(folder: Path) -> None:
    url = os.environ["TRELLIS_DATABASE_URL"]
    their_url = await create_database(url, "mlflow")
    ours = Server("Trellis", [sys.executable, "-m", "server.cli", "api", "--processes", str(PROCESSES)], os.environ)
    command = [
        str(SERVER),
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"postgresql+psycopg2:{their_url.partition(':')[2]}",
        "--artifacts-destination",
        str(folder),
    ]
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}}
    theirs = Server("MLflow", command, {**environment, "MLFLOW_DISABLE_TELEMETRY": "true"})
    async with deployment.database():
        for _ in range(STARTS):
            for server in (ours, theirs):
                with server.running():
                    pass
        print(
            *(f"{server.name} started in {', '.join(f'{start:.2f}' for start in server.starts)} s" for server in (ours, theirs)),
            sep="\n",
            flush=True,
        )
        with ours.running(), theirs.running():
            await measure((ours, theirs), url, their_url)
            report(ours, theirs)


if __name__ == "__main__":
    if not SERVER.exists():
        raise SystemExit(f"{SERVER} is missing. Run it as `make bench ARGS=bench_mlflow`, which installs MLflow's server.")
    with deployment.servers(), tempfile.TemporaryDirectory(prefix="trellis-bench-mlflow-") as scratch:
        asyncio.run(main(Path(scratch)))
