"""A step of a pipeline exports what the pipeline makes: its rows, or its model."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from tests.client import EXPORT, Client

CSV = "n,label\n" + "".join(f"{i},{'yes' if i % 3 else 'no'}\n" for i in range(60))
JOB = """query($id: ID!) { job(id: $id) { status config { role } nodes { key status output error { code message } }
  outputs { __typename ... on DatasetVersion { id } ... on ModelVersion { id } ... on Export { id job { id } } } } }"""
LINEAGE = "query($id: ID!) { lineage(id: $id, direction: UPSTREAM, depth: 1) { edges { source relation } } }"
COUNT = "{ exports { totalCount } }"


def export(key: str, export_format: str, **options: Any) -> tuple[str, str, dict[str, Any]]:
    return key, "export", {"format": export_format, "options": options}


async def branches(client: Client, name: str, chain: list[Any], *ends: Any) -> dict[str, Any]:
    """Create a pipeline whose `ends` are all linked to the last step of the chain."""
    nodes = [{"key": key, "step": step, "parameters": parameters} for key, step, parameters in (*chain, *ends)]
    links = [{"source": before[0], "target": after[0]} for before, after in pairwise(chain)]
    links += [{"source": chain[-1][0], "target": end[0]} for end in ends]
    mutation = """mutation($input: CreatePipelineInput!) { createPipeline(input: $input) { __typename
      ... on CreatePipelinePayload { pipeline { id status } } ... on InvalidInput { issues { path message } } } }"""
    return await client.one(mutation, input={"name": name, "definition": {"nodes": nodes, "links": links}})


async def test_rows_are_exported_in_several_formats_and_what_cannot_be_leaves_the_rest(ada: Client, bob: Client, worker: object) -> None:
    version = await ada.ingest("d", CSV)
    chain = [("data", "dataset", {}), ("split", "split", {"test_fraction": 0.5})]
    ends = export("lines", "jsonl"), export("bad", "csv", columns=["nothing"]), export("torch", "pytorch", splitColumn="split")
    created = await branches(ada, "p", chain, *ends)
    assert created["pipeline"]["status"] == "VALIDATED"
    started = await ada.run_pipeline(created["pipeline"]["id"], version, seed=1)
    await ada.wait(started["job"]["id"])
    job = await ada.one(JOB, id=started["job"]["id"])
    assert job["status"] == "COMPLETED"
    assert [output["__typename"] for output in job["outputs"]] == ["DatasetVersion", "DatasetProfile", "Export", "Export"]
    nodes = {node["key"]: node for node in job["nodes"]}
    assert {key: node["status"] for key, node in nodes.items()} == dict.fromkeys(("data", "split", "lines", "torch"), "COMPLETED") | {
        "bad": "FAILED"
    }
    assert job["config"] == {"role": "CONFIG"}
    assert nodes["bad"]["error"]["code"] == "BAD_PARAMETER"
    assert "has no column 'nothing'" in nodes["bad"]["error"]["message"]
    exported = job["outputs"][2:]
    assert [nodes[key]["output"]["export"] for key in ("lines", "torch")] == [output["id"] for output in exported]
    lines, torch = [await ada.one(EXPORT, id=output["id"]) for output in exported]
    for each in (lines, torch):
        assert (each["status"], each["version"]) == ("COMPLETED", {"id": job["outputs"][0]["id"]})
        assert each["expiresAt"] is not None
        assert each["sizeBytes"] == sum(file["sizeBytes"] for file in each["files"])
    assert (lines["format"], lines["options"]) == ("JSONL", {"nonFinite": "null", "compression": "none"})
    rows = [json.loads(line) for line in (await ada.download(lines["files"][0])).splitlines()]
    assert [row["n"] for row in rows] == list(range(60))
    assert {row["split"] for row in rows} == {"train", "test"}
    assert {file["filename"] for file in torch["files"]} >= {"train.safetensors", "test.safetensors"}
    assert {"source": job["outputs"][0]["id"], "relation": "EXPORTED_AS"} in (await ada.one(LINEAGE, id=lines["id"]))["edges"]
    assert await bob.one(COUNT) == {"totalCount": 0}


@pytest.mark.exhaustive
async def test_a_model_is_exported_with_its_training_and_one_that_cannot_be_is_kept(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", CSV, targetColumn="label", problemType="CLASSIFICATION")
    chain: list[Any] = [("data", "dataset", {}), ("train", "train_naive_bayes", {}), ("score", "evaluate", {})]
    pipeline = (await branches(ada, "p", chain, export("onnx", "onnx")))["pipeline"]["id"]
    job = await run(ada, pipeline, version)
    assert [output["__typename"] for output in job["outputs"]] == ["ModelVersion", "Export"]
    made = await ada.one(EXPORT, id=job["outputs"][1]["id"])
    assert (made["format"], made["status"], [file["filename"] for file in made["files"]]) == (
        "ONNX",
        "COMPLETED",
        ["p.onnx", "signature.json"],
    )
    assert {"source": job["outputs"][0]["id"], "relation": "EXPORTED_AS"} in (await ada.one(LINEAGE, id=made["id"]))["edges"]

    chain[1] = ("train", "train_dbscan", {"eps": 5.0, "exclude": ["label"]})
    pipeline = (await branches(ada, "q", chain[:2], export("onnx", "onnx")))["pipeline"]["id"]
    job = await run(ada, pipeline, version)
    assert [output["__typename"] for output in job["outputs"]] == ["ModelVersion"]
    assert {node["key"]: node["status"] for node in job["nodes"]} == {"data": "COMPLETED", "train": "COMPLETED", "onnx": "FAILED"}
    assert job["nodes"][2]["error"]["code"] == "UNSUPPORTED"


async def run(client: Client, pipeline: str, version: str) -> dict[str, Any]:
    started = await client.run_pipeline(pipeline, version, seed=1)
    await client.wait(started["job"]["id"])
    job = await client.one(JOB, id=started["job"]["id"])
    assert job["status"] == "COMPLETED", job
    return job


async def test_a_step_that_exports_something_else_is_refused_at_its_place(ada: Client) -> None:
    data, scale, train = ("data", "dataset", {}), ("scale", "scale", {}), ("train", "train_k_means", {})
    format_path = ["definition", "nodes", "2", "parameters", "format"]
    cases: list[tuple[list[Any], tuple[Any, ...], list[str], str]] = [
        ([data, train], (export("e", "csv"),), format_path, "cannot be exported as CSV"),
        ([data, scale], (export("e", "onnx"),), format_path, "cannot be exported as ONNX"),
        ([data], (export("e", "csv"), scale), ["definition", "nodes", "1"], "comes after 'scale'"),
        ([data, export("e", "csv"), scale], (), ["definition", "links", "1", "source"], "nothing comes after it"),
        ([data, scale, train], (), [], ""),
        (
            [data, scale],
            (export("e", "csv", delimitr=";"),),
            ["definition", "nodes", "2", "parameters", "options", "delimitr"],
            "Did you mean 'delimiter'?",
        ),
    ]
    for number, (chain, ends, path, message) in enumerate(cases):
        created = await branches(ada, f"p{number}", chain, *ends)
        if not path:
            assert created["__typename"] == "CreatePipelinePayload"
            continue
        issues = created["issues"]
        assert path in [issue["path"] for issue in issues], created
        assert any(message in issue["message"] for issue in issues)
    draft = await branches(ada, "only", [data], export("e", "csv"))
    assert draft["pipeline"]["status"] == "DRAFT"
