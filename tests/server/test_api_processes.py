"""Several API processes behind one port: all of them answer, their metrics are added up, one that dies is replaced, events reach all."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from db.core.work import Database
from graph.core.ids import decode, encode
from server.embedded.processes import die_with_parent
from tests.client import Client
from tests.event_writer import create_waiting_jobs
from tests.server.test_metrics import parse_metrics

PROCESSES = 2
EVENTS = "subscription($id: ID!) { jobEvents(id: $id) { sequence type } }"
CANCEL = "mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }"
VIEWER = "{ viewer { username } }"


@dataclass
class ApiProcesses:
    """A `trellis api` with several processes; `port` is theirs."""

    parent: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pids(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.parent.pid).children()}

    def serving(self) -> set[int]:
        """The processes that accept connections."""
        connections = [
            connection
            for child in psutil.Process(self.parent.pid).children()
            for connection in child.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        ]
        return self.pids() if len(connections) == PROCESSES else set()

    def connected(self) -> dict[int, int]:
        """The number of clients' connections of each process."""
        return {
            child.pid: sum(
                connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == self.port
                for connection in child.net_connections("tcp")
            )
            for child in psutil.Process(self.parent.pid).children()
        }


async def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    if condition():
                        return
                except psutil.Error:
                    pass
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen within {seconds} s") from None


@pytest.fixture(scope="module")
async def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[ApiProcesses]:
    del database  # the processes connect to the database of these tests
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("api") / "log"
    with log.open("wb") as output:
        parent = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "api", "--port", str(port)],
            env=os.environ | {"TRELLIS_API_PROCESSES": str(PROCESSES)},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - calls nothing but two system calls, loaded beforehand
        )
    api = ApiProcesses(parent, port, log)
    await wait_until(lambda: len(api.serving()) == PROCESSES, 60, f"the start of {PROCESSES} processes")
    yield api
    children = psutil.Process(parent.pid).children()
    parent.terminate()
    assert await asyncio.to_thread(parent.wait, 60) == 0, log.read_text()
    assert not [child for child in children if child.is_running()]


@pytest.mark.exhaustive
async def test_connections_are_spread_and_metrics_added_up(api: ApiProcesses, ada: Client) -> None:
    headers = {"Authorization": f"Bearer {ada.token}"}
    clients = [httpx.AsyncClient(base_url=api.url, headers=headers, timeout=30, verify=False) for _ in range(40)]
    try:
        answers = await asyncio.gather(*(client.post("/graphql", json={"query": VIEWER}) for client in clients))
        assert [answer.json() for answer in answers] == [{"data": {"viewer": {"username": "ada"}}}] * 40
        connected = api.connected()
        assert sum(connected.values()) == 40
        assert min(connected.values()) > 0, connected
        for client in clients[:12]:
            metrics = parse_metrics((await client.get("/metrics")).text)
            assert metrics["trellis_operations_total", "anonymous", "ok", "query"] == 40
            assert metrics["trellis_database_connections_max",] == PROCESSES * int(os.environ.get("TRELLIS_DATABASE_POOL_SIZE", "20"))
            assert metrics["trellis_sockets",] == 0
            assert not any(name.startswith(("process_", "python_")) for name, *_ in metrics), "those of one process would mislead"
    finally:
        await asyncio.gather(*(client.aclose() for client in clients))


async def test_events_reach_the_subscribers_of_each_process(api: ApiProcesses, ada: Client, notifying_database: Database) -> None:
    (job,) = await create_waiting_jobs(notifying_database, decode("user", (await ada.one("{ viewer { id } }"))["id"]), 1)
    id_ = encode("job", job)
    viewers = [Client(api.url, ada.token) for _ in range(16)]

    async def follow(viewer: Client) -> list[int]:
        return [answer["jobEvents"]["sequence"] async for answer in viewer.subscribe(EVENTS, id=id_)]

    following = [asyncio.create_task(follow(viewer)) for viewer in viewers]
    try:
        await wait_until(lambda: sum(api.connected().values()) >= 16 and min(api.connected().values()) > 0, 30, "the subscribing")
        assert await viewers[0].one(CANCEL, id=id_) == {"__typename": "CancelJobPayload"}
        async with asyncio.timeout(60):
            assert await asyncio.gather(*following) == [[1, 2]] * 16
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*(viewer.close() for viewer in viewers))


@pytest.mark.exhaustive
async def test_a_process_that_dies_is_replaced_and_what_it_counted_stays(api: ApiProcesses, ada: Client) -> None:
    headers = {"Authorization": f"Bearer {ada.token}"}

    async def ask() -> str:
        async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=30, verify=False) as client:
            return (await client.post("/graphql", json={"query": VIEWER})).json()["data"]["viewer"]["username"]

    async def count() -> float:
        async with httpx.AsyncClient(base_url=api.url, timeout=30, verify=False) as client:
            return parse_metrics((await client.get("/metrics")).text)["trellis_operations_total", "anonymous", "ok", "query"]

    assert [await ask() for _ in range(20)] == ["ada"] * 20
    counted = await count()
    victim = min(api.pids())
    psutil.Process(victim).kill()
    await wait_until(lambda: victim not in api.pids() and len(api.serving()) == PROCESSES, 30, "the replacement")
    # No connection was refused meanwhile: those for the process that died waited for the one that replaced it.
    assert [await ask() for _ in range(20)] == ["ada"] * 20
    assert await count() == counted + 20


@pytest.mark.exhaustive
def test_a_port_that_several_processes_have_is_taken_for_others(api: ApiProcesses) -> None:
    command = [sys.executable, "-m", "server.cli", "api", "--port", str(api.port), "--processes", "2"]
    second = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    message = f"Port {api.port} of 127.0.0.1 is taken by another program. Stop that one, or choose another with --port."
    assert (second.returncode, second.stderr.strip()) == (1, message)
