"""Server-sent events byte by byte: the frames, where a stream resumes, when it ends, and that it leaks nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest
from strawberry.types import ExecutionResult

from db.settings import StateSettings
from graph.core.context import StreamProgress
from graph.settings import GraphSettings
from server.commands.user_operations import revoke_tokens
from server.protocol import sse
from tests.client import Client
from tests.server.serving import serving

STREAM = "text/event-stream"
EVENTS = "subscription($id: ID!, $after: String) { it: jobEvents(id: $id, after: $after) { sequence } }"
UPDATES = {"query": "subscription { jobUpdates { id } }"}


@asynccontextmanager
async def streaming(client: Client, body: dict[str, Any], **headers: str) -> AsyncGenerator[tuple[httpx.Response, AsyncGenerator[str]]]:
    """Yield the response and its frames as they arrive, each without the empty line that ends it."""
    all_headers = {"accept": STREAM, **{name.replace("_", "-"): value for name, value in headers.items()}}

    async def frames(answer: httpx.Response) -> AsyncGenerator[str]:
        text = ""
        async for chunk in answer.aiter_text():
            text += chunk
            while "\n\n" in text:
                frame, _, text = text.partition("\n\n")
                yield frame
        assert text == ""

    async with client.http.stream("POST", "/graphql", json=body, headers=all_headers) as answer:
        yield answer, frames(answer)


async def all_frames(client: Client, body: dict[str, Any], **headers: str) -> list[str]:
    async with streaming(client, body, **headers) as (answer, frames):
        assert answer.status_code == 200
        return [frame async for frame in frames if frame != ":"]


@pytest.fixture
async def ended_job(ada: Client, worker: object) -> str:
    """A job that has ended."""
    _, job = await ada.upload(await ada.create_dataset("streamed"), "streamed.csv", b"x\n1\n")
    await ada.wait(job)
    return job


def cursors(frames: list[str]) -> list[str]:
    return [line.removeprefix("id: ") for frame in frames for line in frame.split("\n") if line.startswith("id: ")]


async def test_a_stream_is_frames_of_next_and_one_of_complete(ada: Client, ended_job: str) -> None:
    expected = [event async for event in ada.events(ended_job)]
    async with streaming(ada, {"query": EVENTS, "variables": {"id": ended_job}}) as (answer, frames):
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache, no-store, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in answer.headers
        assert answer.headers["x-request-id"]
        first, *next_frames, last = [frame async for frame in frames]
    assert (first, last) == (":", "event: complete\ndata:")
    for frame, event in zip(next_frames, expected, strict=True):
        data = json.dumps({"data": {"it": {"sequence": event["sequence"]}}}, separators=(",", ":"))
        assert frame == f"event: next\nid: {event['cursor']}\ndata: {data}"


async def test_a_stream_is_taken_up_after_the_last_event_that_arrived(ada: Client, ended_job: str) -> None:
    everything = await all_frames(ada, {"query": EVENTS, "variables": {"id": ended_job}})
    event_ids = cursors(everything)
    for number, cursor in enumerate(event_ids):
        again = {"query": EVENTS, "variables": {"id": ended_job, "after": event_ids[0]}}  # sent as the first time
        assert await all_frames(ada, again, last_event_id=cursor) == everything[number + 1 :]


async def test_what_cannot_be_taken_up_again_has_no_stream(ada: Client, bob: Client, ended_job: str) -> None:
    """A browser's EventSource sends the header by itself; after a stream with an error it would reconnect again and again."""
    body = {"query": EVENTS, "variables": {"id": ended_job}}
    (*_, last) = cursors(await all_frames(ada, body))
    for client, cursor, code in ((ada, "nonsense", "BAD_USER_INPUT"), (bob, last, "NOT_FOUND")):
        answer = await client.http.post("/graphql", json=body, headers={"accept": STREAM, "last-event-id": cursor})
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json; charset=utf-8")
        (error,) = answer.json()["errors"]
        assert error["extensions"] == {"code": code, "requestId": answer.headers["x-request-id"]}
    (refused, complete) = await all_frames(ada, {"query": EVENTS, "variables": {"id": ended_job, "after": "nonsense"}})
    assert json.loads(refused.partition("data: ")[2])["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert complete == "event: complete\ndata:"


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_there_is_no_single_connection_mode(ada: Client, method: str) -> None:
    answer = await ada.http.request(method, "/graphql", headers={"accept": STREAM, "x-graphql-event-stream-token": "t"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST, OPTIONS")
    assert answer.json()["errors"][0]["extensions"]["code"] == "METHOD_NOT_ALLOWED"


async def test_a_query_is_streamed_only_to_those_who_take_nothing_else(ada: Client) -> None:
    alone = await all_frames(ada, {"query": "{ __typename }"})
    assert alone == ['event: next\ndata: {"data":{"__typename":"Query"}}', "event: complete\ndata:"]
    mixed = await ada.http.post("/graphql", json={"query": "{ __typename }"}, headers={"accept": f"application/json, {STREAM}"})
    assert mixed.json() == {"data": {"__typename": "Query"}}


NEVER_RUN = [
    ({"query": "subscription { nothing }"}, "GRAPHQL_VALIDATION_FAILED"),
    ({"query": "{"}, "GRAPHQL_PARSE_FAILED"),
    ({"query": EVENTS, "variables": {"id": []}}, "BAD_USER_INPUT"),
    ({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}, "PERSISTED_QUERY_NOT_FOUND"),
]


@pytest.mark.parametrize("accept", [STREAM, f"{STREAM}, application/json;q=0.5"])
@pytest.mark.parametrize(("body", "code"), NEVER_RUN[:3])
async def test_what_is_refused_before_it_runs_has_no_stream(ada: Client, body: dict[str, Any], code: str, accept: str) -> None:
    """A browser's EventSource reconnects whenever a stream ends, but not after a 400."""
    if "subscription" not in body["query"] and accept != STREAM:
        return  # nothing indicates that a stream was intended
    answer = await ada.http.post("/graphql", json=body, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json; charset=utf-8")
    (error,) = answer.json()["errors"]
    assert error["extensions"] == {"code": code, "requestId": answer.headers["x-request-id"]}
    assert "data" not in answer.json()


async def test_a_document_that_is_not_known_has_no_stream(ada: Client) -> None:
    body, code = NEVER_RUN[3]
    answer = await ada.http.post("/graphql", json=body, headers={"accept": STREAM})
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (400, code)


async def test_whoever_has_spent_their_points_gets_no_stream(ada: Client) -> None:
    refusals: list[tuple[int, str | None, Any]] = []
    async with serving(GraphSettings(rate_limit_free=10)) as stingy:
        for _ in range(20):
            if refusals:
                break
            async with ada.http.stream("POST", f"{stingy}/graphql", json=UPDATES, headers={"accept": STREAM}) as answer:
                if answer.status_code != 200:
                    refusals.append((answer.status_code, answer.headers.get("retry-after"), json.loads(await answer.aread())))
    ((status, wait, body),) = refusals
    (error,) = body["errors"]
    assert (status, error["extensions"]["code"], wait) == (429, "RATE_LIMITED", str(error["extensions"]["retryAfter"]))


async def test_an_error_of_the_event_source_is_sent_in_the_stream(bob: Client, ended_job: str) -> None:
    frame, complete = await all_frames(bob, {"query": EVENTS, "variables": {"id": ended_job}})
    (error,) = json.loads(frame.partition("data: ")[2])["errors"]
    assert error["extensions"]["code"] == "NOT_FOUND"
    assert error["extensions"]["requestId"]
    assert complete == "event: complete\ndata:"


async def failing_results(after: int) -> AsyncGenerator[ExecutionResult]:
    for number in range(after):
        yield ExecutionResult({"number": number}, None)
    raise RuntimeError("SELECT secret")


async def test_a_stream_that_breaks_says_so_and_ends() -> None:
    async def never() -> dict[str, Any]:
        return await asyncio.get_running_loop().create_future()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    def stream(after: int) -> sse.EventStream:
        return sse.EventStream(failing_results(after), signed_out=asyncio.Event(), progress=StreamProgress(), request_id="r", limit=1000)

    assert await stream(1).send({}, cast("Any", never), send) is None
    text = b"".join(message.get("body", b"") for message in sent)
    failed = {"errors": [{"message": "Internal error", "extensions": {"code": "INTERNAL_SERVER_ERROR", "requestId": "r"}}], "data": None}
    frames = [frame.partition("data: ")[2] for frame in text.decode().split("\n\n") if frame.startswith("event: next")]
    assert [json.loads(frame) for frame in frames] == [{"data": {"number": 0}}, failed]
    assert text.endswith(b"event: complete\ndata:\n\n")
    assert [message.get("more_body", True) for message in sent] == [True] * (len(sent) - 1) + [False]

    sent.clear()
    with pytest.raises(RuntimeError):  # nothing was sent yet, so an error response is still possible
        await stream(0).send({}, cast("Any", never), send)
    assert sent == []


async def test_a_stream_by_get_needs_no_body(ada: Client, ended_job: str) -> None:
    parameters = {"query": EVENTS, "variables": json.dumps({"id": ended_job})}
    answer = await ada.http.get("/graphql", params=parameters, headers={"accept": STREAM})
    assert cursors(answer.text.split("\n\n")) == cursors(await all_frames(ada, {"query": EVENTS, "variables": {"id": ended_job}}))
    head = await ada.http.head("/graphql", params=parameters, headers={"accept": STREAM})
    assert (head.status_code, head.headers["allow"]) == (405, "GET, POST")


async def test_silence_is_broken_by_comments(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_INTERVAL", 0.05)
    async with asyncio.timeout(60), streaming(ada, UPDATES) as (_, frames):
        assert [await anext(frames) for _ in range(4)] == [":"] * 4


async def test_a_revoked_token_ends_its_streams_and_no_others(ada: Client, bob: Client, settings: StateSettings) -> None:
    async with streaming(ada, UPDATES) as (_, ada_frames), streaming(bob, UPDATES) as (_, bob_frames):
        assert [await anext(ada_frames), await anext(bob_frames)] == [":", ":"]
        await revoke_tokens(settings, "bob@example.org")
        async with asyncio.timeout(60):
            error_frame, complete = [frame async for frame in bob_frames]
        assert json.loads(error_frame.partition("data: ")[2])["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert complete == "event: complete\ndata:"
        _, job = await ada.upload(await ada.create_dataset("still watched"), "a.csv", b"x\n1\n")
        async with asyncio.timeout(60):
            async for frame in ada_frames:
                if job in frame:
                    break


async def test_a_viewer_has_so_many_streams_and_no_more(ada: Client, bob: Client) -> None:
    async with serving(streams_per_viewer=2) as small:
        ada_client, bob_client = Client(small, ada.token), Client(small, bob.token)
        async with streaming(ada_client, UPDATES) as (one, _), streaming(bob_client, UPDATES) as (theirs, _):
            async with streaming(ada_client, UPDATES) as (two, _), streaming(ada_client, UPDATES) as (three, _):
                assert [one.status_code, two.status_code, theirs.status_code, three.status_code] == [200, 200, 200, 429]
                assert three.headers["retry-after"] == "5"
                assert json.loads(await three.aread())["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
            async with asyncio.timeout(60):
                status = 0
                while status != 200:
                    async with streaming(ada_client, UPDATES) as (again, _):
                        status = again.status_code
        await ada_client.close()
        await bob_client.close()


def active_tasks() -> int:
    """Return the tasks of this process that handle a request or follow events for it."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return sum(name.split(".")[0] in {"RequestResponseCycle", "EventStream", "_wait_for_disconnect", "Event"} for name in names)


async def wait_until_idle() -> None:
    async with asyncio.timeout(60):
        while active_tasks():
            await asyncio.sleep(0.02)


async def test_a_client_that_goes_leaves_nothing_behind(ada: Client) -> None:
    await wait_until_idle()
    for _ in range(10):
        client = Client(ada.url, ada.token)
        async with streaming(client, UPDATES) as (_, frames):
            await anext(frames)
            assert active_tasks() >= 4
        await client.close()
    await wait_until_idle()
