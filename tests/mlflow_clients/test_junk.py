"""Whatever a request holds, it is answered or refused, and never an error of ours: clients would repeat that."""

from __future__ import annotations

import random
from typing import Any

import pytest

from server.mlflow.routes import ENDPOINTS
from tests.client import Client
from tests.exhaustive import exhaustive
from tests.mlflow_clients.conftest import Call
from tests.mlflow_clients.test_protocol import make_run

FIELDS = (
    *(
        "run_id",
        "experiment_id",
        "experiment_ids",
        "name",
        "new_name",
        "key",
        "value",
        "timestamp",
        "step",
        "metrics",
        "params",
        "tags",
        "metric_key",
    ),
    *(
        "filter",
        "order_by",
        "page_token",
        "max_results",
        "run_view_type",
        "status",
        "end_time",
        "start_time",
        "run_name",
        "model_json",
        "datasets",
    ),
    *(
        "models",
        "source",
        "model_id",
        "version",
        "alias",
        "stages",
        "description",
        "source_run_id",
        "model_type",
        "path",
        "user_id",
        "view_type",
    ),
)
ENTRIES = (
    {"key": "a"},
    {"key": "a", "value": 1},
    {"key": 5, "value": "x"},
    {"dataset": [1], "tags": "x"},
    {"dataset": {"name": "x"}, "tags": [5]},
)


def junk(chance: random.Random, known: list[str]) -> Any:
    values: list[Any] = [
        5,
        -1,
        2**63 - 1,
        1.5,
        True,
        "",
        "x",
        "0",
        "[",
        "\x00",
        "é" * 300,
        [],
        [1],
        ["x"],
        {},
        {"a": 1},
        None,
        '{"flavors": 5}',
        "a.b DESC",
    ]
    return chance.choice([*values, *known, *known, [chance.choice(ENTRIES)], [dict.fromkeys(("key", "value"), chance.choice(known))]])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rounds", [3, exhaustive(60)])
async def test_no_request_makes_an_error_of_ours(ada: Client, of_ada: Call, rounds: int) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    run = await make_run(of_ada)
    await of_ada("runs/set-tag", run_id=run, key="mlflow.log-model.history", value="no list")
    model = (await ada.http.post("/api/2.0/mlflow/logged-models", json={"experiment_id": "0", "name": "m"})).json()["model"]["info"][
        "model_id"
    ]
    await of_ada("registered-models/create", name="m")
    known = [run, model, "m", f"{run}/artifacts", f"runs:/{run}/x", "name = 'm'", "tags.a = 'x'", "FINISHED", "1"]
    faults: list[str] = []
    for endpoint in ENDPOINTS:
        for _ in range(rounds):
            fields = {name: junk(chance, known) for name in chance.sample(FIELDS, 12)}
            for name in ("run_id", "name", "model_json", "experiment_id", "source"):
                if chance.random() < 0.5:
                    fields[name] = {
                        "run_id": run,
                        "name": "m",
                        "model_json": '{"flavors": 5}',
                        "experiment_id": "0",
                        "source": f"runs:/{run}/x",
                    }[name]
            path = (
                f"/api/{endpoint.version}{endpoint.path}".replace("{path:any}", f"{run}/artifacts/x")
                .replace("{key:any}", "a")
                .replace("{model_id}", model)
            )
            if endpoint.method == "GET":
                given = {name: str(value).replace("\x00", "") for name, value in fields.items()}
                answer = await ada.http.request("GET", path, params=given, follow_redirects=False)
            else:
                answer = await ada.http.request(endpoint.method, path, json=fields, follow_redirects=False)
            if answer.status_code >= 429 or (answer.status_code not in {200, 307} and set(answer.json()) != {"error_code", "message"}):
                faults.append(f"{endpoint.method} {path} {fields} -> {answer.status_code} {answer.text[:200]}")
    assert faults == []
