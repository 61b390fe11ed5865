"""An ingest shows its stages as nodes, however it ends."""

from __future__ import annotations

from typing import Any

from tests.client import Client

NODES = "query($id: ID!) { job(id: $id) { status nodes { key step status progress output error { code message } startedAt completedAt } } }"
STAGES = ["copy", "read", "profile", "propose", "store"]


async def read_nodes(ada: Client, job: str) -> list[dict[str, Any]]:
    """Return the nodes of an ended job; their times are in order."""
    ended = await ada.one(NODES, id=job)
    nodes = ended["nodes"]
    assert [(node["key"], node["step"]) for node in nodes] == [(key, key) for key in STAGES]
    ran = [node for node in nodes if node["status"] != "SKIPPED"]
    times = [time for node in ran for time in (node["startedAt"], node["completedAt"])]
    assert times == sorted(times)
    assert all(node["startedAt"] is None and node["progress"] == 0 for node in nodes if node not in ran)
    return nodes


def keys_of(events: list[dict[str, Any]], kind: str, status: str) -> list[str]:
    nodes = [node for event in events if event["type"] == kind for node in event["data"]["nodes"]]
    assert {node["status"] for node in nodes} <= {status, "FAILED"}
    return [node["key"] for node in nodes]


async def test_every_stage_of_an_ingest_is_a_node_with_times_and_results(ada: Client, worker: object) -> None:
    content = b"x,y\n1,a\n2,b\n3,\n"
    _, job = await ada.upload(await ada.create_dataset("d"), "d.csv", content)
    events = [event async for event in ada.events(job)]
    nodes = await read_nodes(ada, job)
    assert [(node["status"], node["progress"], node["error"]) for node in nodes] == [("COMPLETED", 100, None)] * 5
    outputs = {node["key"]: node["output"] for node in nodes}
    assert outputs["store"].pop("bytes") > 0
    assert outputs == {
        "copy": {"bytes": len(content)},
        "read": {"format": "CSV", "rows": 3, "issues": 0},
        "profile": {"rows": 3, "columns": 2},
        "propose": {"columns": 2, "confidence": outputs["propose"]["confidence"]},
        "store": {},
    }
    steps = [(event["step"], event["data"]["nodes"]) for event in events if event["type"] in ("STEP_STARTED", "STEP_COMPLETED")]
    assert [step for step, _ in steps] == [", ".join(node["key"].capitalize() for node in nodes) for _, nodes in steps]
    assert keys_of(events, "STEP_STARTED", "RUNNING") == keys_of(events, "STEP_COMPLETED", "COMPLETED") == STAGES
    verbs = {event["step"].split()[0].rstrip(":,") for event in events if event["step"]}
    assert verbs <= {"Copy", "Download", "Recognise", "Read", "Profile", "Propose", "Store"}
    progress = [event["progress"] for event in events]
    assert progress == sorted(progress)


async def test_a_failed_ingest_shows_the_stage_that_failed_and_why(ada: Client, worker: object) -> None:
    _, job = await ada.upload(await ada.create_dataset("d"), "d.parquet", b"PAR1 and nothing more")
    events = [event async for event in ada.events(job)]
    nodes = await read_nodes(ada, job)
    assert [node["status"] for node in nodes] == ["COMPLETED", "FAILED", "SKIPPED", "SKIPPED", "SKIPPED"]
    assert nodes[1]["progress"] < 100
    assert nodes[1]["error"] == {"code": "UNREADABLE_FILE", "message": events[-1]["message"]}
    assert (events[-1]["type"], events[-1]["data"]["nodes"]) == ("FAILED", [{"key": "read", "status": "FAILED"}])
    assert events[-1]["progress"] < 100


async def test_a_cancelled_ingest_shows_how_far_it_came(ada: Client, worker: object) -> None:
    """The table is large enough to be cancelled while it is read or profiled."""
    rows = "".join(f"{row},{row % 977},{row / 7:.4f},{row * 31 % 10_007},name {row % 4_999}\n" for row in range(60_000))
    _, job = await ada.upload(await ada.create_dataset("d"), "d.csv", f"a,b,c,d,e\n{rows * 12}".encode())
    async for event in ada.events(job):
        if event["type"] == "STEP_STARTED" and {"key": "read", "status": "RUNNING"} in event["data"]["nodes"]:
            await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=job)
    nodes = await read_nodes(ada, job)
    statuses = [node["status"] for node in nodes]
    stopped = statuses.index("CANCELLED")
    assert statuses == ["COMPLETED"] * stopped + ["CANCELLED"] + ["SKIPPED"] * (4 - stopped)
    assert stopped in {1, 2}
    assert nodes[stopped]["progress"] < 100
    assert nodes[stopped]["error"] is None
