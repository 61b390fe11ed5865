"""schemathesis queries the whole schema with valid and invalid values: no response is an internal error.

`make fuzz` runs more examples with another seed; the seed is printed, and `FUZZ_SEED` repeats it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from db.core.work import Database
from graph.schema import schema
from tests.client import Client
from tests.exhaustive import exhaustive
from tests.factories import platform
from tests.graph_walk import walk

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SEED = int(os.environ.get("FUZZ_SEED", "0")) or (secrets.randbelow(2**31) if EXAMPLES else 1)
HOOKS = Path(__file__).parent / "hooks.py"


@pytest.mark.parametrize("examples", [EXAMPLES] if EXAMPLES else [1, exhaustive(12)])
async def test_nothing_that_can_be_asked_is_answered_with_an_error_of_ours(
    ada: Client, database: Database, tmp_path: Path, examples: int
) -> None:
    await platform.fill(database, "ada", 2)
    job = (await ada.one("{ jobs(first: 1) { edges { node { id } } } }"))["edges"][0]["node"]["id"]
    nodes_by_type = await walk(ada, [job])
    ids = [node["id"] for nodes in nodes_by_type.values() for node in nodes]
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(_config(tmp_path)), "run", f"{ada.url}/graphql"),
        *("--header", f"Authorization: Bearer {ada.token}"),
        *("--checks", "no_error_of_ours"),
        *("--max-examples", str(examples), "--seed", str(SEED), "--no-color", "--generation-database", "none", "--continue-on-failure"),
        *("--suppress-health-check", "all", "--workers", "1"),
    ]
    print(f"seed {SEED}, {examples} examples of each operation")
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS), "TRELLIS_FUZZ_IDS": ",".join(ids)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    print(output.decode()[-6_000:])
    assert process.returncode == 0
    assert f"Selected: {len(_operations())}/{len(_operations())}" in output.decode(), "every root field was queried"


def _operations() -> list[str]:
    core = schema._schema
    return [name for root in (core.query_type, core.mutation_type) if root is not None for name in root.fields]


def _config(folder: Path) -> Path:
    path = folder / "schemathesis.toml"
    path.write_text("")
    return path
