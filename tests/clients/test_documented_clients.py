"""The examples of docs/clients.md run as they stand there, over connections that drop: no event is missed and none comes twice."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.client import Client
from tests.clients import node
from tests.clients.dropping_proxy import dropping_proxy
from tests.exhaustive import exhaustive
from tests.server.serving import serving

EXAMPLE = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SCHEMA = node.FOLDER.parents[1] / "graph" / "schema.graphql"
DOCUMENT = node.FOLDER.parents[1] / "docs" / "clients.md"

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl is installed on this machine")


@pytest.fixture
def examples() -> Generator[Path]:
    """A folder with the examples of the document, where Node finds the packages of tests/clients."""
    generated = node.FOLDER / "generated"
    generated.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=generated) as name:
        folder = Path(name)
        for path, text in EXAMPLE.findall(DOCUMENT.read_text(encoding="utf-8")):
            (folder / path).write_text(text, encoding="utf-8")
        yield folder


def variables(client: Client, address: str | None = None, **others: str) -> dict[str, str]:
    assert client.token is not None
    return {"TRELLIS_URL": f"{address or client.url}/graphql", "TRELLIS_TOKEN": client.token, **others}


async def sequences_of(client: Client, job: str) -> list[int]:
    return [event["sequence"] async for event in client.events(job)]


@pytest.mark.parametrize(
    ("command", "path", "name"),
    [
        (sys.executable, "client.py", "by Python"),
        exhaustive("node", "apollo.js", "by Apollo"),
        ("node", "relay-example.js", "by Relay"),
        exhaustive("node", "urql.js", "by urql"),  # by the same function as Apollo's
    ],
)
async def test_an_example_does_the_whole_job_and_follows_it_through_drops(
    examples: Path, ada: Client, worker: object, command: str, path: str, name: str
) -> None:
    if path == "relay-example.js":
        shutil.copy(SCHEMA, examples / "schema.graphql")
        (examples / "generated").mkdir()
        status, output = await node.run_command(node.BIN / "relay-compiler", "relay.config.json", cwd=examples)
        assert status == 0, output
    for other in ("first", "second", "third", "fourth"):
        await ada.create_dataset(other)
    async with dropping_proxy(ada.url, drops=1) as proxy:
        status, output = await node.run_command(command, examples / path, cwd=examples, variables=variables(ada, proxy.address))
    assert status == 0, output
    assert proxy.drops_left == 0
    code, names, followed = output.splitlines()
    assert code.startswith("NAME_TAKEN")
    assert sorted(ast.literal_eval(names)) == sorted([name, "first", "second", "third", "fourth"])
    job, _, sequences = followed.partition(" ")
    assert json.loads(sequences) == await sequences_of(ada, job)


@needs_curl
async def test_curl_uploads_a_file_and_resumes_its_events(examples: Path, ada: Client, worker: object) -> None:
    outputs = [await node.run_command("sh", examples / "curl.sh", cwd=examples, variables=variables(ada)) for _ in range(2)]
    assert [status for status, _ in outputs] == [0, 0], outputs
    output = outputs[1][1]
    names = [edge["node"]["name"] for edge in (await ada.one("{ datasets { edges { node { name } } } }"))["edges"]]
    assert [name.startswith("by curl ") for name in names] == [True, True]
    assert '{"data":{"viewer":{"username":"ada"}}}' in output
    job = output.split()[-1]
    assert (await ada.wait(job))["status"] == "COMPLETED"
    events = [event async for event in ada.events(job)]
    for after in (0, 3):
        cursor = {"CURSOR": events[after - 1]["cursor"]} if after else {}
        status, output = await node.run_command("sh", examples / "sse.sh", cwd=examples, variables=variables(ada, JOB=job, **cursor))
        assert status == 0, output
        assert re.findall(r"^id: (.+)$", output, re.MULTILINE) == [event["cursor"] for event in events[after:]]
        assert output.rstrip().endswith("event: complete\ndata:")


@needs_curl
async def test_only_pages_of_an_allowed_origin_may_call(examples: Path, ada: Client) -> None:
    async with serving(allowed_origins=["https://app.example.org"]) as allowing:
        for address, allowed in ((allowing, ["https://app.example.org"]), (ada.url, [])):
            _, output = await node.run_command("sh", examples / "cors.sh", cwd=examples, variables=variables(ada, address))
            assert re.findall(r"^access-control-allow-origin: (\S+)", output, re.MULTILINE | re.IGNORECASE) == allowed
