"""A job's event stream has every event once, in order, from any cursor, until the last."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.client import Client, GraphQLErrors

CSV = "x,y,label\n" + "".join(f"{i % 17},{i * 7 % 23},{'a' if i % 2 else 'b'}\n" for i in range(400))
UPDATES = "subscription($filter: JobFilter) { jobUpdates(filter: $filter) { id status progress } }"
METRICS = "subscription($id: ID!, $keys: [String!], $after: String) { runMetrics(id: $id, keys: $keys, after: $after) { cursor points { key step value } } }"


async def start_training(ada: Client, rounds: int = 40) -> tuple[str, str]:
    """Start a training; return (job, run)."""
    version = await ada.ingest("d", CSV)
    steps = (("data", "dataset", {}), ("train", "train_lightgbm", {"target": "label", "n_estimators": rounds}))
    pipeline = (await ada.create_pipeline("p", *steps))["pipeline"]["id"]
    started = await ada.run_pipeline(pipeline, version)
    return started["job"]["id"], started["run"]["id"]


async def test_events_are_numbered_without_a_gap_and_end_with_the_terminal_one(ada: Client, worker: object) -> None:
    job, _ = await start_training(ada)
    live = [event async for event in ada.events(job)]
    assert [event["sequence"] for event in live] == list(range(1, len(live) + 1))
    assert [live[0]["type"], live[-1]["type"]] == ["CREATED", "COMPLETED"]
    assert {"STARTED", "STEP_STARTED", "STEP_COMPLETED"} <= {event["type"] for event in live}
    progress = [event["progress"] for event in live]
    assert progress == sorted(progress)
    assert progress[-1] == 100
    replayed = [event async for event in ada.events(job)]
    assert replayed == live
    for at in (0, len(live) // 2, len(live) - 2):
        assert [event async for event in ada.events(job, after=live[at]["cursor"])] == live[at + 1 :]
    assert [event async for event in ada.events(job, after=live[-1]["cursor"])] == []


STEP_METRICS = {"train_loss", "train_accuracy", "learning_rate", "step_seconds"}


async def test_an_event_names_the_parts_that_it_is_about_though_it_is_written_later(ada: Client, worker: object) -> None:
    """A training of more than one write of reports, so that a part completes while the next one runs."""
    job, _ = await start_training(ada, rounds=400)
    titles = {"data": "Dataset", "train": "Train LightGBM"}
    began: list[str] = []
    ended: list[str] = []
    async for event in ada.events(job):
        nodes = [node["key"] for node in (event["data"] or {}).get("nodes", ())]
        if event["type"] in ("STEP_STARTED", "STEP_COMPLETED"):
            assert event["step"] == ", ".join(titles[key] for key in nodes)
            (began if event["type"] == "STEP_STARTED" else ended).extend(nodes)
            assert set(ended) <= set(began)
        elif event["type"] == "METRIC":
            of_steps = {key in STEP_METRICS for key in event["data"]["keys"]}
            assert event["step"] == ", ".join(
                (["Train LightGBM"] if True in of_steps else []) + (["Evaluate"] if False in of_steps else [])
            )
    assert began == ended == ["data", "train"]


@pytest.mark.exhaustive
async def test_two_watchers_see_the_same(ada: Client, worker: object) -> None:
    job, _ = await start_training(ada)

    async def watch() -> list[Any]:
        return [event async for event in ada.events(job)]

    first, second = await asyncio.gather(watch(), watch())
    assert first == second


async def test_the_list_of_events_is_what_the_stream_said(ada: Client, worker: object) -> None:
    job, _ = await start_training(ada)
    live = [event async for event in ada.events(job)]
    query = """query($id: ID!, $after: String) { job(id: $id) { events(first: 5, after: $after) {
        totalCount pageInfo { hasNextPage endCursor } edges { node { sequence type } } } } }"""
    listed: list[dict[str, Any]] = []
    after = None
    while True:
        page = (await ada.one(query, id=job, after=after))["events"]
        listed += [edge["node"] for edge in page["edges"]]
        assert page["totalCount"] == len(live)
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert listed == [{"sequence": event["sequence"], "type": event["type"]} for event in live]


async def test_a_stranger_hears_nothing_of_a_job(ada: Client, bob: Client, worker: object) -> None:
    job, run = await start_training(ada)
    for query, target in (("subscription($id: ID!) { jobEvents(id: $id) { sequence } }", job), (METRICS, run)):
        for strange in (target, target[:-32] + "0" * 32, "nonsense"):
            with pytest.raises(GraphQLErrors) as refused:
                async for _ in bob.subscribe(query, id=strange):
                    pass
            assert refused.value.codes == ["NOT_FOUND"]
    await ada.wait(job)


@pytest.mark.exhaustive
async def test_metrics_arrive_while_the_model_trains_and_are_the_same_afterwards(ada: Client, worker: object) -> None:
    job, run = await start_training(ada)
    batches = [answer["runMetrics"] async for answer in ada.subscribe(METRICS, id=run, keys=["train_loss"])]
    points = [point for batch in batches for point in batch["points"]]
    assert [point["step"] for point in points] == list(range(40))
    assert {point["key"] for point in points} == {"train_loss"}
    history = await ada.one(
        'query($id: ID!) { run(id: $id) { metricHistory(keys: ["train_loss"]) { points { key step value } totalPoints } } }', id=run
    )
    assert history["metricHistory"] == [{"points": points, "totalPoints": 40}]
    rest = [answer["runMetrics"] async for answer in ada.subscribe(METRICS, id=run, keys=["train_loss"], after=batches[0]["cursor"])]
    assert [point for batch in rest for point in batch["points"]] == points[len(batches[0]["points"]) :]
    assert (await ada.wait(job))["status"] == "COMPLETED"


async def test_job_updates_tell_of_every_job_that_matches_before_or_after(ada: Client, bob: Client, worker: object) -> None:
    version = await ada.ingest("d", CSV)
    pipeline = (await ada.create_pipeline("p", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]
    ada_updates: list[dict[str, Any]] = []
    bob_updates: list[dict[str, Any]] = []
    done = asyncio.Event()

    async def listen(client: Client, into: list[dict[str, Any]]) -> None:
        async for answer in client.subscribe(UPDATES, filter={"status": ["RUNNING"], "kind": ["PROCESS"]}):
            into.append(answer["jobUpdates"])
            if answer["jobUpdates"]["status"] == "COMPLETED":
                done.set()

    listeners = [asyncio.create_task(listen(ada, ada_updates)), asyncio.create_task(listen(bob, bob_updates))]
    await asyncio.sleep(0.5)
    job = (await ada.run_pipeline(pipeline, version))["job"]["id"]
    async with asyncio.timeout(60):
        await done.wait()
    for listener in listeners:
        listener.cancel()
    await asyncio.gather(*listeners, return_exceptions=True)
    assert {update["id"] for update in ada_updates} == {job}
    assert ada_updates[-1] == {"id": job, "status": "COMPLETED", "progress": 100}
    assert bob_updates == []


async def test_cancelling_stops_the_body_and_ends_the_stream(ada: Client, worker: object) -> None:
    job, run = await start_training(ada, rounds=10_000)
    event_types: list[str] = []
    async for event in ada.events(job):
        event_types.append(event["type"])
        if event["type"] == "STEP_STARTED" and event_types.count("STEP_STARTED") == 1:
            await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=job)
    assert event_types[-1] == "CANCELLED"
    assert event_types.count("CANCEL_REQUESTED") == 1
    assert await ada.one("query($id: ID!) { run(id: $id) { status modelVersion { id } } }", id=run) == {
        "status": "CANCELLED",
        "modelVersion": None,
    }
    again = await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename ... on WrongState { state } } }", id=job)
    assert again == {"__typename": "CancelJobPayload"}, "to cancel what is cancelled is no mistake"


async def test_a_retried_job_is_a_new_one_with_the_same_seed(ada: Client, worker: object) -> None:
    job, run = await start_training(ada, rounds=10_000)
    retry = """mutation($input: RetryJobInput!) { retryJob(input: $input) { __typename ... on WrongState { state }
        ... on RetryJobPayload { job { id retryOf { id } parameters } run { id seed number } } } }"""
    early = await ada.one(retry, input={"id": job})
    assert early["__typename"] == "WrongState"
    await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=job)
    assert (await ada.wait(job))["status"] == "CANCELLED"
    before = await ada.one("query($id: ID!) { run(id: $id) { seed number status } }", id=run)
    retried = await ada.one(retry, input={"id": job, "idempotencyKey": "again"})
    assert (await ada.one(retry, input={"id": job, "idempotencyKey": "again"}))["job"]["id"] == retried["job"]["id"]
    assert retried["job"]["retryOf"] == {"id": job}
    assert (retried["run"]["seed"], retried["run"]["number"]) == (before["seed"], before["number"] + 1)
    await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=retried["job"]["id"])
    await ada.wait(retried["job"]["id"])
    assert (await ada.one("query($id: ID!) { run(id: $id) { seed number status } }", id=run)) == before
