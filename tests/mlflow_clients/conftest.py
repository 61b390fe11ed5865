"""MLflow's clients as other programs, each with its own packages, which `make dev` installs; and their protocol by hand."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.client import Client

FOLDER = Path(__file__).parent
RunScript = Callable[..., Awaitable[Any]]


async def run_script(client: Client, script: str, *arguments: str, major: int = 3, **environment: str) -> Any:
    """Run a script of this folder with the client of this major version, as this viewer; return the JSON that it prints last."""
    installed = Path(sys.prefix) / f"mlflow-{major}"
    assert (installed / "mlflow").is_dir(), f"{installed} is missing: `make dev` installs it"
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("TRELLIS", "MLFLOW", "PYTEST", "COV"))}
    variables |= {"PYTHONPATH": str(installed), "MLFLOW_TRACKING_URI": client.url, "MLFLOW_TRACKING_TOKEN": str(client.token)}
    variables |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "GIT_PYTHON_REFRESH": "quiet", **environment}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(FOLDER / script), *arguments, env=variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-4_000:]
    return json.loads(output.decode().strip().splitlines()[-1])


Call = Callable[..., Awaitable[httpx.Response]]


def caller(client: Client, prefix: str = "") -> Call:
    """Call the protocol as a viewer: `await call("runs/create", experiment_id="0")`; `get=True` sends the fields in the address."""

    async def call(path: str, *, method: str = "", headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        get = path.endswith(("/get", "get-by-name", "get-history")) and not method
        return await client.http.request(
            method or ("GET" if get else "POST"),
            f"{prefix}/api/2.0/mlflow/{path}",
            params=fields if get else None,
            json=None if get else fields,
            headers=headers,
        )

    return call


@pytest.fixture
def of_ada(ada: Client) -> Call:
    return caller(ada)
