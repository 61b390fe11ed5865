"""MLflow's protocol by hand: who may call it, what it refuses and how, and that nothing is half written."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import DBAPIError

from db.core.viewer import SYSTEM, ApiScope, UserRole
from db.core.work import Database
from db.services import accounts
from graph.settings import GraphSettings
from tests.accounts.test_team_ownership import make_team
from tests.accounts.test_teams import join
from tests.client import Client
from tests.conftest import ClientFactory
from tests.mlflow_clients.conftest import Call, caller
from tests.server.serving import serving

UNKNOWN = "run_" + "0" * 32


async def make_run(call: Call, **fields: Any) -> str:
    answer = await call("runs/create", **{"experiment_id": "0", "start_time": 1_700_000_000_000, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()["run"]["info"]["run_id"]


async def data_of(call: Call, run: str) -> dict[str, Any]:
    data = (await call("runs/get", run_id=run)).json()["run"]["data"]
    return {part: {entry["key"]: entry["value"] for entry in entries} for part, entries in data.items()}


def refusal(answer: httpx.Response) -> tuple[int, str]:
    assert set(answer.json()) == {"error_code", "message"}
    return answer.status_code, answer.json()["error_code"]


async def test_a_key_is_taken_as_a_token_or_as_a_password_and_nothing_else_signs_in(ada: Client, live_server: Any) -> None:
    address = f"{live_server.url}/api/2.0/mlflow/experiments/get?experiment_id=0"

    async def asked(host: str | None = None, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as http:
            return await http.get(address, headers={**headers, **({"host": host} if host else {})})

    def basic(password: str) -> str:
        return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()

    assert (await asked(authorization=basic(str(ada.token)))).json()["experiment"]["name"] == "Default"
    assert (await asked(authorization=f"bearer {ada.token}")).status_code == 200
    for headers in ({}, {"authorization": basic("trk_wrong")}, {"authorization": "Basic ~"}, {"cookie": f"trellis-80={ada.token}"}):
        answer = await asked(**headers)
        assert refusal(answer) == (401, "UNAUTHENTICATED")
        assert "www-authenticate" not in answer.headers
    elsewhere = await asked("trellis.example.org", authorization=basic(str(ada.token)))
    assert refusal(elsewhere) == (401, "UNAUTHENTICATED")
    assert "only over https" in elsewhere.json()["message"]


async def test_what_is_not_answered_is_refused_as_mlflow_does(of_ada: Call) -> None:
    for answer in (
        await of_ada("traces/search", experiment_ids=["0"]),
        await of_ada("runs/get", method="POST", run_id=UNKNOWN),
        await of_ada("gateway/routes", method="GET"),
    ):
        assert refusal(answer) == (404, "ENDPOINT_NOT_FOUND")


async def test_a_stranger_finds_nothing_and_changes_nothing(of_ada: Call, bob: Client) -> None:
    run, of_bob = await make_run(of_ada, run_name="mine"), caller(bob)
    experiment = (await of_ada("runs/get", run_id=run)).json()["run"]["info"]["experiment_id"]
    before = (await of_ada("runs/get", run_id=run)).json()
    calls: list[tuple[str, dict[str, Any]]] = [
        ("runs/get", {"run_id": run}),
        ("runs/update", {"run_id": run, "status": "FAILED"}),
        ("runs/log-metric", {"run_id": run, "key": "loss", "value": 1.0, "timestamp": 1}),
        ("runs/log-parameter", {"run_id": run, "key": "a", "value": "b"}),
        ("runs/log-batch", {"run_id": run, "metrics": [], "params": [], "tags": []}),
        ("runs/set-tag", {"run_id": run, "key": "a", "value": "b"}),
        ("runs/delete-tag", {"run_id": run, "key": "mlflow.runName"}),
        ("metrics/get-history", {"run_id": run, "metric_key": "loss"}),
        ("runs/create", {"experiment_id": experiment}),
        ("runs/create", {"experiment_id": "0", "tags": [{"key": "mlflow.parentRunId", "value": run}]}),
        ("experiments/get", {"experiment_id": experiment}),
        ("experiments/update", {"experiment_id": experiment, "new_name": "stolen"}),
        ("experiments/set-experiment-tag", {"experiment_id": experiment, "key": "a", "value": "b"}),
    ]
    for path, fields in calls:
        theirs = await of_bob(path, **fields)
        missing = await of_bob(path, **{**fields, **{key: UNKNOWN for key in ("run_id",) if key in fields}})
        assert refusal(theirs) == (404, "RESOURCE_DOES_NOT_EXIST"), path
        assert theirs.json()["message"].replace(run, UNKNOWN) == missing.json()["message"] or "run_id" not in fields, path
    assert (await of_bob("runs/search", experiment_ids=[experiment])).json() == {"runs": []}
    assert (await of_ada("runs/get", run_id=run)).json() == before


async def test_roles_scopes_and_teams_decide_who_writes(ada: Client, make_client: ClientFactory, database: Database) -> None:
    reader = caller(await make_client("reader", UserRole.VIEWER))
    assert refusal(await reader("runs/create", experiment_id="0")) == (403, "PERMISSION_DENIED")
    async with database.work(SYSTEM) as work:
        token = await accounts.add_token(work, "ada@example.org", "reads", scopes=[ApiScope.READ])
    key = Client(ada.url, token)
    assert refusal(await caller(key)("runs/create", experiment_id="0")) == (403, "PERMISSION_DENIED")
    assert refusal(await caller(key)("experiments/get", experiment_id="0")) == (403, "PERMISSION_DENIED"), "it would have to be made"
    await key.close()

    await make_team(database, "ada", "bearings")
    in_team = caller(ada, "/accounts/bearings")
    made = (await in_team("experiments/create", name="shared")).json()["experiment_id"]
    run = await make_run(in_team, experiment_id=made)
    owner = await ada.one("query($id: ID!) { node(id: $id) { ... on Run { owner { username } } } }", id=run)
    assert owner == {"owner": {"username": "bearings"}}
    assert [found["name"] for found in (await caller(ada)("experiments/search")).json()["experiments"]] == []
    assert [found["name"] for found in (await in_team("experiments/search")).json()["experiments"]] == ["shared"]
    cleo = await make_client("cleo")
    assert refusal(await caller(cleo, "/accounts/bearings")("experiments/search")) == (404, "RESOURCE_DOES_NOT_EXIST")
    team = (await ada.one("query($id: ID!) { node(id: $id) { ... on Run { owner { id } } } }", id=run))["owner"]["id"]
    await join(database, team, "cleo", UserRole.VIEWER)
    watching = caller(cleo, "/accounts/bearings")
    assert (await watching("runs/get", run_id=run)).status_code == 200
    assert refusal(await watching("runs/log-metric", run_id=run, key="loss", value=1)) == (403, "PERMISSION_DENIED")
    assert refusal(await watching("experiments/create", name="mine")) == (403, "PERMISSION_DENIED")
    assert (await data_of(watching, run))["metrics"] == {}


async def test_a_batch_is_written_whole_or_not_at_all_and_again_without_effect(of_ada: Call) -> None:
    run = await make_run(of_ada)
    metrics = [{"key": "loss", "value": value, "timestamp": 1_700_000_000_000, "step": 1} for value in (0.5, "NaN", "-Infinity")]
    batch = {
        "run_id": run,
        "metrics": [*metrics, metrics[0]],
        "params": [{"key": "alpha", "value": "0.1"}, {"key": "é/b", "value": ""}],
        "tags": [{"key": "stage", "value": "draft"}],
    }
    for _ in range(2):
        assert (await of_ada("runs/log-batch", **batch)).json() == {}
    history = (await of_ada("metrics/get-history", run_id=run, metric_key="loss")).json()["metrics"]
    assert sorted(str(point["value"]) for point in history) == ["-Infinity", "0.5", "NaN"]
    bad: list[tuple[str, dict[str, Any]]] = [
        ("params", {"key": "alpha", "value": "0.2"}),
        ("metrics", {"key": "loss"}),
        ("metrics", {"key": "", "value": 1}),
        ("metrics", {"key": "loss", "value": 1, "step": 2**31}),
        ("metrics", {"key": "loss", "value": 1, "timestamp": -5}),
        ("metrics", {"key": "loss", "value": "one"}),
        ("metrics", {"key": "x" * 251, "value": 1}),
        ("params", {"key": "x" * 251, "value": "1"}),
        ("params", {"key": "long", "value": "x" * 6_001}),
        ("tags", {"key": "long", "value": "x" * 8_001}),
        ("tags", {"key": "nul", "value": "\x00"}),
    ]
    for part, entry in bad:
        entries = {
            "metrics": [{"key": "new", "value": 1}],
            "params": [{"key": "new", "value": "1"}],
            "tags": [{"key": "new", "value": "1"}],
        }
        answer = await of_ada("runs/log-batch", run_id=run, **{**entries, part: [*entries[part], entry]})
        assert refusal(answer) == (400, "INVALID_PARAMETER_VALUE"), (part, entry)
    too_many = await of_ada("runs/log-batch", run_id=run, metrics=[{"key": "m", "value": 1, "step": step} for step in range(1_001)])
    assert refusal(too_many) == (400, "INVALID_PARAMETER_VALUE")
    assert await data_of(of_ada, run) == {
        "metrics": {"loss": "NaN"},  # at one time the greatest value is the last one, and NaN is greater than numbers
        "params": {"alpha": "0.1", "é/b": ""},
        "tags": {"mlflow.runName": "run-1", "stage": "draft"},
    }


async def test_searches_page_by_tokens_and_refuse_what_they_do_not_understand(of_ada: Call) -> None:
    runs = [await make_run(of_ada, run_name=f"run {number}", start_time=1_700_000_000_000 + number) for number in range(5)]
    for number, run in enumerate(runs):
        await of_ada("runs/log-metric", run_id=run, key="loss", value=number / 10, timestamp=1)

    async def found(**fields: Any) -> list[str]:
        ids: list[str] = []
        token = ""
        while True:
            answer = (await of_ada("runs/search", experiment_ids=["0"], max_results=2, page_token=token, **fields)).json()
            ids += [run["info"]["run_id"] for run in answer["runs"]]
            token = answer.get("next_page_token", "")
            if not token:
                return ids

    assert await found() == runs[::-1]
    assert await found(order_by=["metrics.loss ASC"]) == runs
    assert await found(order_by=["start_time DESC", "run_id"]) == runs[::-1]
    assert await found(filter="metrics.loss >= 0.2 AND metrics.loss < 0.4", order_by=["metrics.loss"]) == runs[2:4]
    assert await found(filter="metrics.loss != 0.2", order_by=["run_name ASC"]) == [*runs[:2], *runs[3:]]
    assert await found(filter=f"run_id IN ('{runs[1]}', '{UNKNOWN}', 'x')") == [runs[1]]
    assert await found(filter="status = 'RUNNING' and run_name LIKE 'run %' and tags.mlflow.runName != 'run 0'") == runs[:0:-1]
    assert await found(filter="status != 'RUNNING'") == []
    for fields in (
        {"filter": "metrics.loss > 'x'"},
        {"filter": "params.a > 1"},
        {"filter": "metrics.loss ~ 1"},
        {"filter": "colour = 'red'"},
        {"filter": "metrics.a = 1 OR metrics.b = 2"},
        {"order_by": ["tags.stage"]},
        {"order_by": ["metrics.a ASC", "metrics.b DESC"]},
        {"max_results": 0},
        {"max_results": 50_001},
        {"page_token": "x"},
    ):
        answer = await of_ada("runs/search", **{"experiment_ids": ["0"], **fields})
        assert refusal(answer) == (400, "INVALID_PARAMETER_VALUE"), fields


@pytest.mark.parametrize(("content_type", "body"), [("text/plain", b"{}"), ("application/json", b"[1]"), ("application/json", b"{")])
async def test_bodies_are_json_objects(ada: Client, content_type: str, body: bytes) -> None:
    answer = await ada.http.post("/api/2.0/mlflow/runs/create", content=body, headers={"content-type": content_type})
    assert refusal(answer) == (400, "BAD_REQUEST")


async def test_who_has_spent_all_points_is_told_when_to_come_again(ada: Client) -> None:
    async with serving(GraphSettings(rate_limit_free=60)) as url, httpx.AsyncClient(trust_env=False) as http:
        headers = {"authorization": f"Bearer {ada.token}"}
        address = f"{url}/api/2.0/mlflow/runs/search"
        answer = await http.post(address, headers=headers, json={"experiment_ids": []})
        while answer.status_code == 200:
            answer = await http.post(address, headers=headers, json={"experiment_ids": []})
    assert refusal(answer) == (429, "REQUEST_LIMIT_EXCEEDED")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_run_that_ended_is_written_to_again_and_may_run_again(of_ada: Call) -> None:
    run = await make_run(of_ada)
    ended = await of_ada("runs/update", run_id=run, status="KILLED", end_time=1_700_000_005_000, run_name="renamed")
    info = ended.json()["run_info"]
    assert (info["status"], info["end_time"] - info["start_time"], info["run_name"]) == ("KILLED", 5_000, "renamed")
    assert (await of_ada("runs/log-metric", run_id=run, key="late", value=1, timestamp=1)).json() == {}
    again = (await of_ada("runs/update", run_id=run, status="RUNNING")).json()["run_info"]
    assert (again["status"], again.get("end_time")) == ("RUNNING", None)
    assert refusal(await of_ada("runs/update", run_id=run, status="DONE")) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(("sqlstate", "expected"), [("57014", (503, "TEMPORARILY_UNAVAILABLE")), ("22012", (500, "INTERNAL_ERROR"))])
async def test_a_statement_that_took_too_long_is_worth_another_try_and_others_are_errors_of_ours(
    of_ada: Call, monkeypatch: pytest.MonkeyPatch, sqlstate: str, expected: tuple[int, str]
) -> None:
    run, original = await make_run(of_ada), Exception("aborted")
    original.sqlstate = sqlstate  # type: ignore[attr-defined]

    async def aborted(*_: Any) -> Any:
        raise DBAPIError("SELECT", {}, original)

    with monkeypatch.context() as patched:
        patched.setattr("server.mlflow.runs.points.log_alone", aborted)
        answer = await of_ada("runs/log-metric", run_id=run, key="loss", value=1.0, timestamp=1, step=0)
    assert refusal(answer) == expected
    assert answer.headers.get("retry-after") == ("1" if expected[0] == 503 else None)
    assert (await of_ada("runs/log-metric", run_id=run, key="loss", value=1.0, timestamp=1, step=0)).status_code == 200
