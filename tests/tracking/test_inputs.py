"""External runs say what data they read, and the lineage knows it."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.client import Client
from tests.tracking.conftest import create_run

CSV = b"a,b\n" + b"1,2\n" * 20
LOG_INPUTS = """mutation($run: ID!, $inputs: [RunInputInput!]!) { logInputs(input: {runId: $run, inputs: $inputs}) { __typename
    ... on LogInputsPayload { run { datasetVersion { id } inputs { source digest name context datasetVersion { id } } } }
    ... on InvalidInput { issues { path } } } }"""
EDGES = "query($id: ID!) { lineage(id: $id) { edges { source target relation } } }"


async def log_inputs(client: Client, run: str, *inputs: dict[str, Any]) -> dict[str, Any]:
    return await client.one(LOG_INPUTS, run=run, inputs=list(inputs))


async def test_data_is_named_by_id_by_address_by_checksum_or_by_anything(ada: Client, bob: Client, worker: object) -> None:
    first, second = await ada.ingest("first", CSV), await ada.ingest("second", CSV + b"3,4\n")
    sha256 = hashlib.sha256(CSV + b"3,4\n").hexdigest()
    run = await create_run(ada)
    given = [
        {"source": f"trellis://{first}", "context": "training"},
        {"source": sha256.upper(), "name": "held out"},
        {"source": "/data/extra.csv", "digest": "x1"},
        {"source": "/data/known.csv", "digest": f"sha256:{sha256}"},
    ]
    logged = (await log_inputs(ada, run, *given))["run"]
    assert logged["datasetVersion"] == {"id": first}
    assert {entry["source"]: (entry["digest"], entry["context"], entry["datasetVersion"]) for entry in logged["inputs"]} == {
        f"trellis://{first}": ("", "training", {"id": first}),
        sha256.upper(): ("", None, {"id": second}),
        "/data/extra.csv": ("x1", None, None),
        "/data/known.csv": (f"sha256:{sha256}", None, {"id": second}),
    }
    assert (await log_inputs(ada, run, *given))["run"] == logged
    edges = (await ada.one(EDGES, id=run))["edges"]
    causes = {(edge["source"], edge["relation"]) for edge in edges if edge["target"] == run}
    assert causes == {(first, "INPUT_OF"), (second, "INPUT_OF")}
    assert {edge["target"] for edge in (await ada.one(EDGES, id=second))["edges"]} >= {run}
    other = await create_run(bob)
    for source in (first, f"trellis://{first}", f"version_{'0' * 32}", "trellis://nonsense"):
        assert (await log_inputs(bob, other, {"source": source}))["issues"] == [{"path": ["inputs", "0", "source"]}]
    unseen = (await log_inputs(bob, other, {"source": sha256}))["run"]
    assert unseen == {
        "datasetVersion": None,
        "inputs": [{"source": sha256, "digest": "", "name": None, "context": None, "datasetVersion": None}],
    }


async def test_the_version_that_a_run_was_created_with_is_an_input(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", CSV)
    run = await create_run(ada, datasetVersionId=version)
    edges = (await ada.one(EDGES, id=run))["edges"]
    assert [(edge["source"], edge["target"], edge["relation"]) for edge in edges if edge["target"] == run] == [(version, run, "INPUT_OF")]


async def test_a_run_has_at_most_a_hundred_inputs(ada: Client) -> None:
    run = await create_run(ada)
    assert "run" in await log_inputs(ada, run, *({"source": f"s{number}"} for number in range(100)))
    assert (await log_inputs(ada, run, {"source": "one more"}))["__typename"] == "InvalidInput"
    assert (await log_inputs(ada, run, {"source": "s7"}))["__typename"] == "LogInputsPayload"
