"""A body reaches its own files and the libraries, and no secret of the platform whose files it parses."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from db.settings import StateSettings
from db.tables.jobstates import JobStatus
from server.embedded.credentials import write_private
from server.runtime_env import publish_environment
from tests.workers.worker_harness import WorkerHarness, eventually
from workers.runtime import sandbox

ROOT = Path(__file__).parents[2]
PROBE = """
import sys
for pid in sys.argv[1:]:
    try:
        open(f"/proc/{pid}/environ", "rb").read()
    except PermissionError:
        print("refused")
    else:
        print("read")
"""


def secrets_of(settings: StateSettings) -> list[str]:
    passwords = [urlsplit(url).password or "" for url in (settings.database_url, settings.redis_url)]
    return [*passwords, settings.s3_secret_access_key.get_secret_value()]


@pytest.mark.skipif(sandbox.landlock_abi() < sandbox.NETWORK_ABI, reason="the kernel cannot restrict files and TCP")
@pytest.mark.parametrize("preload", ["false", "true"])
async def test_a_hostile_body_reaches_no_secret_no_file_no_process_and_no_service(
    harness: WorkerHarness, settings: StateSettings, tmp_path_factory: pytest.TempPathFactory, preload: str
) -> None:
    worker = await harness.start_worker(PRELOAD=preload, BODY_PATHS=json.dumps([str(harness.folder)]))
    if preload == "true":
        await eventually(lambda: _has_one_ready_forkserver(worker.pid))
    data_dir = tmp_path_factory.mktemp("data")
    write_private(data_dir / "admin-token", "trk_0000_secret\n")
    addresses = [
        (part.hostname, part.port) for part in map(urlsplit, (settings.database_url, settings.redis_url, settings.s3_endpoint_url))
    ]
    findings = harness.folder / "findings.json"
    with publish_environment(data_dir, {"TRELLIS_DATABASE_URL": settings.database_url}):
        job_id = await harness.submit(
            "reach_out",
            findings=str(findings),
            postmaster=next(process.pid for process in psutil.process_iter(["name"]) if process.info["name"] == "postgres"),
            files=[str(data_dir / "admin-token"), str(data_dir / "environment.json"), str(ROOT / "pyproject.toml")],
            addresses=addresses,
            halves_of_secrets=[[secret[: len(secret) // 2], secret[len(secret) // 2 :]] for secret in secrets_of(settings)],
        )
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED, JobStatus.FAILED)
    assert job.error is None
    assert json.loads(findings.read_text()) == {"reached": [], "settings": [], "secrets": []}
    assert (data_dir / "admin-token").read_text() == "trk_0000_secret\n"


async def _has_one_ready_forkserver(pid: int) -> bool:
    forkservers = psutil.Process(pid).children()
    return len(forkservers) == 1 and "preload" in forkservers[0].cmdline() and bool(forkservers[0].children())


def test_bodies_get_the_variables_of_libraries_and_those_that_the_setting_names() -> None:
    kept = {"PATH": "/bin", "LC_ALL": "C", "TZ": "UTC", "OMP_NUM_THREADS": "2", "PYTHONPATH": "/x", "MY_LICENSE": "1"}
    secret = {"TRELLIS_DATABASE_URL": "postgresql://", "AWS_SECRET_ACCESS_KEY": "s", "POLARS_CLOUD_CLIENT_SECRET": "s", "PGPASSWORD": "s"}
    assert sandbox.clean_environment({**kept, **secret}, ["MY_LICENSE"]) == kept


@pytest.mark.exhaustive
async def test_processes_of_the_same_user_read_neither_worker_nor_forkserver(harness: WorkerHarness) -> None:
    """Also where the kernel has no Landlock."""
    command = [sys.executable, "-m", "tests.workers.scripted_worker", harness.queue]
    environment = {**os.environ, "TRELLIS_WORKER_PRELOAD": "false", "PYTHONPATH": str(ROOT)}
    worker = await asyncio.to_thread(subprocess.Popen, command, env=environment, preexec_fn=sandbox.drop_capabilities)

    async def forked_child() -> tuple[int, int] | None:
        for forkserver in psutil.Process(worker.pid).children():
            for child in forkserver.children():
                return forkserver.pid, child.pid
        return None

    try:
        forkserver, child = await eventually(forked_child)
        probe = [sys.executable, "-c", PROBE, *map(str, (worker.pid, forkserver, child))]
        answers = subprocess.run(probe, preexec_fn=sandbox.drop_capabilities, capture_output=True, check=True, text=True).stdout.split()
        assert answers == ["refused", "refused", "read"], "the child's environment is clean, and its memory must be measured"
    finally:
        worker.terminate()
        await asyncio.to_thread(worker.wait)
