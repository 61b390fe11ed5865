"""`trellis up`: one command that starts everything, supervises it and shuts it down."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from server.embedded import embedded_servers
from tests.exhaustive import exhaustive

ROOT = Path(__file__).parents[2]


@dataclass
class Up:
    """A `trellis up` in a separate process, its output in a file."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    output: Path
    url: str

    def children(self) -> dict[str, psutil.Process]:
        """Return the child processes by subcommand, or by program name."""
        processes = psutil.Process(self.process.pid).children()
        return {_name_of(child): child for child in processes}

    def viewer(self) -> str:
        token = (self.data_dir / "admin-token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.post(f"{self.url}/graphql", json={"query": "{ viewer { email } }"}, headers=headers, timeout=10, verify=False)
        return answer.json()["data"]["viewer"]["email"]


def _name_of(child: psutil.Process) -> str:
    words = child.cmdline()
    if "server.cli" in words:
        return words[3]
    return "s3_proxy" if "server.embedded.s3_proxy" in words else child.name()


def command(data_dir: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "server.cli", "up", "--data-dir", str(data_dir), "--port", str(port)]


def environment() -> dict[str, str]:
    """Return the environment without the servers of the other tests. No job runs here, so workers import no libraries for any."""
    settings = {"TRELLIS_EMBEDDED_DURABLE": "false", "TRELLIS_WORKER_PRELOAD": "false"}
    return {name: value for name, value in os.environ.items() if not name.startswith("TRELLIS_")} | settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(condition: Callable[[], bool], within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError, psutil.Error, KeyError):
            if condition():
                return True
        time.sleep(0.05)
    return False


def all_exited(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


@contextmanager
def started(data_dir: Path, settings: Mapping[str, str] | None = None) -> Generator[Up]:
    port = free_port()
    output = data_dir.with_suffix(".log")
    with output.open("wb") as file:
        process = subprocess.Popen(
            command(data_dir, port), cwd=ROOT, env=environment() | dict(settings or {}), stdout=file, stderr=subprocess.STDOUT
        )
    try:
        assert eventually(lambda: process.poll() is not None or "\nTrellis is ready" in f"\n{output.read_text()}", 100), output.read_text()
        assert process.poll() is None, output.read_text()
        yield Up(process, data_dir, output, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up") / "data"


@pytest.fixture(scope="module")
def up(data_dir: Path) -> Generator[Up]:
    with started(data_dir) as up:
        yield up


def test_one_line_says_where_it_is_and_where_the_token_lies(up: Up) -> None:
    lines = [line for line in up.output.read_text().splitlines() if line.startswith("Trellis is ready")]
    assert lines == [f"Trellis is ready at {up.url}/graphql; the admin's token is in {up.data_dir}/admin-token"]
    assert {stat.S_IMODE((up.data_dir / name).stat().st_mode) for name in ("admin-token", "secret-key")} == {0o600}
    assert up.viewer() == "admin@trellis.local"
    assert httpx.get(f"{up.url}/readyz?strict", verify=False).status_code == 200


def test_a_second_start_on_the_folder_names_the_first_and_ends(up: Up) -> None:
    second = subprocess.run(command(up.data_dir, free_port()), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert second.stderr.startswith(f"Trellis already runs on {up.data_dir}: process {up.process.pid}, {up.url}.")


@pytest.mark.exhaustive
def test_a_taken_port_is_named(up: Up, tmp_path: Path) -> None:
    port = int(up.url.rsplit(":", 1)[1])
    second = subprocess.run(command(tmp_path / "other", port), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert second.stderr.strip() == f"Port {port} of 127.0.0.1 is taken by another program. Stop that one, or choose another with --port."


@pytest.mark.exhaustive
def test_another_user_is_made_beside_the_running_servers(up: Up) -> None:
    add = [sys.executable, "-m", "server.cli", "user", "add", "ada@example.org", "--username", "ada", "--data-dir", str(up.data_dir)]
    completed = subprocess.run(add, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    token = completed.stdout.strip()
    assert re.fullmatch(r"trk_[0-9a-f]{8}_[\w-]{43}", token)
    response = httpx.post(
        f"{up.url}/graphql", json={"query": "{ viewer { email } }"}, headers={"Authorization": f"Bearer {token}"}, verify=False
    )
    assert response.json() == {"data": {"viewer": {"email": "ada@example.org"}}}
    again = subprocess.run(add, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (1, "")
    assert "ada@example.org" in again.stderr


@pytest.mark.parametrize("victim", [*map(exhaustive, ("api", "worker", "valkey-server", "s3_proxy")), "postgres"])
def test_a_child_that_dies_comes_back_at_the_same_address(up: Up, victim: str) -> None:
    before = up.children()[victim]
    before.kill()
    assert eventually(lambda: up.children()[victim].pid != before.pid, 20)
    assert eventually(lambda: httpx.get(f"{up.url}/readyz?strict", verify=False).status_code == 200, 40), httpx.get(
        f"{up.url}/readyz", verify=False
    ).text
    assert up.viewer() == "admin@trellis.local"
    assert re.search(r"child_exited .*child=", up.output.read_text())


def test_sigterm_stops_all_of_it_within_ten_seconds(up: Up) -> None:
    everything = psutil.Process(up.process.pid).children(recursive=True)
    began = time.monotonic()
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(60) == 0
    assert time.monotonic() - began < 10
    assert all_exited(everything)


@pytest.mark.exhaustive
def test_the_next_start_finds_the_data_and_starts_no_service_that_a_setting_names(up: Up, data_dir: Path) -> None:
    up.process.terminate()
    up.process.wait(60)
    token = (data_dir / "admin-token").read_text()
    with embedded_servers(data_dir.with_name("outside"), postgres=False, s3=False) as outside, started(data_dir, outside) as again:
        assert set(again.children()) == {"api", "worker", "postgres", "rclone", "s3_proxy"}, "a service that a setting names is not started"
        assert (data_dir / "admin-token").read_text() == token
        assert again.viewer() == "admin@trellis.local"
        everything = psutil.Process(again.process.pid).children(recursive=True)
        again.process.kill()
        again.process.wait()
        assert eventually(lambda: all_exited(everything), 10)
