"""The endpoint conforms to GraphQL over HTTP, by the audits of the specification's reference server. `make conformance` prints them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.client import Client
from tests.clients import node

FOLDER = Path(__file__).parent
AUDITS = 61


@pytest.mark.parametrize("who", ["anonymous", "ada"])
async def test_all_audits_pass(who: str, anonymous: Client, ada: Client) -> None:
    if not (FOLDER / "node_modules" / "graphql-http").is_dir():
        assert node.install(FOLDER) == 0, "The audits could not be installed. Is an npm registry reachable from here?"
    client = {"anonymous": anonymous, "ada": ada}[who]
    status, output = await node.run_command(
        "node", FOLDER / "audit.mjs", cwd=FOLDER, variables={"TRELLIS_URL": f"{client.url}/graphql", "TRELLIS_TOKEN": client.token or ""}
    )
    assert status == 0, output
    results = json.loads(output.strip().splitlines()[-1])
    # Shown by `pytest -s`.
    print(f"\n{sum(result['status'] == 'ok' for result in results)} of {len(results)} audits passed, as {who}")
    for result in results:
        print(f"  {result['status']:5} {result['id']} {result['name']}" + (f"\n        {result['reason']}" if result["reason"] else ""))
    assert [result for result in results if result["status"] != "ok"] == []
    assert len(results) == AUDITS
