"""Runs: created, logged to, ended, read and searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import orjson
from sqlalchemy import Row
from starlette.responses import Response

from db.core.page import Slice
from db.core.viewer import ApiScope
from db.core.work import Work
from db.errors import InvalidCursor
from db.queries import leaderboard, metric_points, runs
from db.services import experiments
from db.services.tracking import artifacts, parameters, points
from db.services.tracking import runs as external_runs
from db.services.tracking.points import LoggedPoint
from graph.core.ids import encode
from server.mlflow import search
from server.mlflow.errors import invalid, not_found
from server.mlflow.experiments import experiment_id
from server.mlflow.inputs import inputs_of
from server.mlflow.logged_models import outputs_of
from server.mlflow.repeats import once
from server.mlflow.requests import Call, Endpoint, as_integer, key_of
from server.mlflow.values import (
    FROM_STATUS,
    KEY_LENGTH,
    TAG_LENGTH,
    TO_STATUS,
    artifact_uri,
    flattened,
    json_number,
    metric_value,
    milliseconds,
    moment,
    pair,
    stored,
    tags_of,
)

MAX_RESULTS, DEFAULT_RESULTS = 5_000, 1_000
MAX_METRICS, MAX_PARAMETERS, MAX_TAGS = 1_000, 100, 100
PARAMETER_LENGTH = 6_000
MAX_POINTS = 25_000  # of a history that are answered at once
NOTE = "mlflow.note.content"
HISTORY = "mlflow.log-model.history"


async def create(call: Call) -> Response:
    """Create a run, or return the one of an equal call that got no answer."""
    run_id, forget = await once(call, _create)
    document = orjson.dumps({"run": await _run(call, run_id)})
    return Response(document, 200, {"Cache-Control": "no-store"}, "application/json", background=forget)


async def _create(work: Work, call: Call) -> UUID:
    tags = tags_of(call.objects("tags"))
    name = call.optional_text("run_name") or tags.get(search.RUN_NAME)
    parent = tags.get(search.PARENT)
    if user := call.optional_text("user_id"):
        tags.setdefault("mlflow.user", user)
    tags[search.RUN_NAME] = name or tags.get(search.RUN_NAME, "")
    new = external_runs.NewExternalRun(
        experiment_id=await experiment_id(work, call, call.text("experiment_id")),
        name=name,
        parent_run_id=None if parent is None else key_of("run", "Run", parent),
        notes=tags.get(NOTE),
        started_at=moment(call.integer("start_time"), "start_time"),
    )
    run_id = await external_runs.create(work, new)
    await experiments.update_run(work, run_id, {"annotations": {key: value for key, value in tags.items() if value}})
    return run_id


async def get(call: Call) -> Mapping[str, Any]:
    return {"run": await _run(call, call.run_id())}


async def update(call: Call) -> Mapping[str, Any]:
    run_id, status, name = call.run_id(), call.optional_text("status"), call.optional_text("run_name")
    if status is not None and status not in TO_STATUS:
        raise invalid(f"Invalid status '{status}'. It is one of {sorted(TO_STATUS)}.")
    ended_at = moment(call.integer("end_time"), "end_time")
    async with call.database.work(call.viewer) as work:
        if status is not None:
            ends = TO_STATUS[status] in external_runs.ENDS
            await external_runs.finish(work, run_id, TO_STATUS[status], ended_at if ends else None)
        if name:
            await experiments.update_run(work, run_id, {"name": name, "annotations": {search.RUN_NAME: name}})
    if status is not None:
        await artifacts.complete_arrived(call.database, call.store, run_id)
    return {"run_info": (await _run(call, run_id))["info"]}


async def log_metric(call: Call) -> Mapping[str, Any]:
    await points.log_alone(call.database, call.viewer, call.run_id(), [_point(call.fields)])
    return {}


async def log_parameter(call: Call) -> Mapping[str, Any]:
    async with call.database.work(call.viewer) as work:
        await parameters.log(work, call.run_id(), _parameters([call.fields]))
    return {}


async def log_batch(call: Call) -> Mapping[str, Any]:
    """All of it, or nothing."""
    logged = [_point(entry) for entry in call.objects("metrics", MAX_METRICS)]
    given = _parameters(call.objects("params", MAX_PARAMETERS))
    tags = tags_of(call.objects("tags", MAX_TAGS))
    if len(logged) + len(given) + len(tags) > MAX_METRICS:
        raise invalid(f"A batch logging request can contain at most {MAX_METRICS} metrics, params, and tags.")
    run_id = call.run_id()
    if logged and not given and not tags:
        await points.log_alone(call.database, call.viewer, run_id, logged)
        return {}
    async with call.database.work(call.viewer) as work:
        if given:
            await parameters.log(work, run_id, given)
        if tags:
            await _set_tags(work, run_id, tags)
        if logged:
            await points.log(work, run_id, logged)
        if not (given or tags or logged):
            await external_runs.lock(work, run_id)
    return {}


async def set_tag(call: Call) -> Mapping[str, Any]:
    async with call.database.work(call.viewer) as work:
        await _set_tags(work, call.run_id(), tags_of([call.fields]))
    return {}


async def delete_tag(call: Call) -> Mapping[str, Any]:
    key, run_id = call.text("key", length=KEY_LENGTH), call.run_id()
    row = (await runs.live_by_id(call.database, call.viewer, [run_id])).get(run_id)
    if row is None:
        raise not_found("Run", call.fields.get("run_id"))
    if key not in row.annotations:
        raise not_found("tag", key)
    async with call.database.work(call.viewer) as work:
        await experiments.update_run(work, run_id, {"annotations": {key: None}})
    return {}


async def log_model(call: Call) -> Mapping[str, Any]:
    """Note that files of the run are a model, as version 2 of the client says; it finds the models of a run by this tag."""
    run_id = call.run_id()
    told = _parsed(call.text("model_json", length=4_000_000))
    if not isinstance(told, dict):
        raise invalid("Malformed model info: 'model_json' is no JSON object.")
    model = cast("dict[str, Any]", told)
    flavors: Any = model.get("flavors")
    entry: dict[str, Any] = {name: model.get(name) for name in ("run_id", "artifact_path", "utc_time_created", "model_uuid")}
    entry["flavors"] = {str(key): {} for key in cast("dict[str, Any]", flavors)} if isinstance(flavors, dict) else {}
    row = (await runs.live_by_id(call.database, call.viewer, [run_id])).get(run_id)
    if row is None:
        raise not_found("Run", call.fields.get("run_id"))
    earlier: Any = _parsed(row.annotations.get(HISTORY, "[]"))
    history: list[Any] = [*cast("list[Any]", earlier if isinstance(earlier, list) else []), entry]
    while len(history) > 1 and len(orjson.dumps(history)) > TAG_LENGTH:
        del history[0]
    async with call.database.work(call.viewer) as work:
        await _set_tags(work, run_id, tags_of([{"key": HISTORY, "value": orjson.dumps(history).decode()}]))
    return {}


def _parsed(text: str) -> Any:
    """The value of a JSON text; None for a text that is none."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


async def search_runs(call: Call) -> Mapping[str, Any]:
    texts = call.texts("experiment_ids")
    if call.optional_text("run_view_type") == "DELETED_ONLY":
        return {"runs": []}
    async with call.database.work(call.viewer) as work:
        keys = [await experiment_id(work, call, text) for text in texts]
    size = call.page_size(DEFAULT_RESULTS, MAX_RESULTS)
    criteria = search.criteria(call.optional_text("filter"), experiment_id=search.experiments(keys))
    page_slice = Slice(size, call.optional_text("page_token") or None)
    try:
        page = await leaderboard.listing.page(call.database, call.viewer, page_slice, criteria, search.order(call.texts("order_by")))
    except InvalidCursor:
        raise invalid("Invalid page token. It is one that a search with the same order returned.") from None
    found = await _documents(call, page.rows)
    return {"runs": found, "next_page_token": page.cursors[-1]} if page.has_next else {"runs": found}


async def history(call: Call) -> Mapping[str, Any]:
    run_id, key = call.run_id(), call.text("metric_key", length=KEY_LENGTH)
    if not await runs.live_by_id(call.database, call.viewer, [run_id]):
        raise not_found("Run", call.fields.get("run_id"))
    size = min(call.integer("max_results") or MAX_POINTS, MAX_POINTS)
    position = _position(call.optional_text("page_token"))
    rows = await metric_points.after(call.database, call.viewer, run_id, key, position, size + 1)
    found = [
        {"key": key, "value": json_number(row.value), "timestamp": milliseconds(row.recorded_at), "step": row.step} for row in rows[:size]
    ]
    if len(rows) <= size:
        return {"metrics": found}
    last = rows[size - 1]
    return {"metrics": found, "next_page_token": f"{last.step} {last.recorded_at.isoformat()} {last.value!r}"}


def _position(token: str | None) -> metric_points.Position | None:
    if not token:
        return None
    try:
        step, recorded_at, value = token.split(" ")
        position = int(step), datetime.fromisoformat(recorded_at), float(value)
    except ValueError:
        position = None
    if position is None or position[1].tzinfo is None or not 0 <= position[0] < 2**31:
        raise invalid("Invalid page token. It is one that this history returned.")
    return position


def _point(entry: Mapping[str, Any]) -> LoggedPoint:
    key = entry.get("key")
    if not isinstance(key, str) or not key:
        raise invalid("Missing value for required parameter 'key'.")
    step = as_integer(entry.get("step") or 0, "step", 32)
    if "value" not in entry:
        raise invalid(f"Missing value for required parameter 'value' of the metric '{key[:KEY_LENGTH]}'.")
    return LoggedPoint(key, step, metric_value(entry["value"]), moment(as_integer(entry.get("timestamp") or 0, "timestamp"), "timestamp"))


def _parameters(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for key, value in (pair(entry, PARAMETER_LENGTH) for entry in entries):
        if given.setdefault(key, stored(value)) != stored(value):
            raise invalid(
                f"Duplicate parameter keys have been submitted: ['{key}']. Please ensure the request contains only one param value per param key."
            )
    return given


async def _set_tags(work: Work, run_id: UUID, tags: Mapping[str, str]) -> None:
    """Tags are annotations; what the graph knows of them is written there too."""
    changes: dict[str, Any] = {"annotations": dict(tags)}
    if tags.get(search.RUN_NAME):
        changes["name"] = tags[search.RUN_NAME]
    if NOTE in tags:
        changes["notes"] = tags[NOTE]
    await experiments.update_run(work, run_id, changes)


async def _run(call: Call, run_id: UUID) -> Mapping[str, Any]:
    row = (await runs.live_by_id(call.database, call.viewer, [run_id])).get(run_id)
    if row is None:
        raise not_found("Run", encode("run", run_id))
    return (await _documents(call, [row]))[0]


async def _documents(call: Call, rows: Sequence[Row[Any]]) -> list[Mapping[str, Any]]:
    if not rows:
        return []
    keys = [row.id for row in rows]
    summaries = await metric_points.last_values(call.database, call.viewer, keys)
    outputs, read = await outputs_of(call, keys), await inputs_of(call, keys)
    return [
        {
            **_document(row, summaries.get(row.id, ())),
            "inputs": {"dataset_inputs": read.get(row.id, [])},
            "outputs": {"model_outputs": outputs.get(row.id, [])},
        }
        for row in rows
    ]


def _document(row: Row[Any], summaries: Sequence[Row[Any]]) -> Mapping[str, Any]:
    run_id = encode("run", row.id)
    tags = {search.RUN_NAME: row.name or f"run-{row.number}", **row.annotations}
    if row.notes is not None:
        tags[NOTE] = row.notes
    if row.parent_run_id is not None:
        tags[search.PARENT] = encode("run", row.parent_run_id)
    info = {
        "run_id": run_id,
        "run_uuid": run_id,
        "run_name": tags[search.RUN_NAME],
        "experiment_id": encode("experiment", row.experiment_id),
        "user_id": tags.get("mlflow.user", ""),
        "status": FROM_STATUS[row.status],
        "start_time": milliseconds(row.started_at or row.created_at),
        "artifact_uri": artifact_uri(run_id),
        "lifecycle_stage": "active",
    }
    if row.completed_at is not None:
        info["end_time"] = milliseconds(row.completed_at)
    measured = [
        {"key": each.key, "value": json_number(each.last), "timestamp": milliseconds(each.last_at), "step": each.last_step or 0}
        for each in summaries
    ]
    parameters_ = [{"key": key, "value": value} for key, value in flattened(row.hyperparameters)]
    return {
        "info": info,
        "data": {"metrics": measured, "params": parameters_, "tags": [{"key": key, "value": value} for key, value in tags.items()]},
    }


ENDPOINTS = (
    Endpoint("POST", "/mlflow/runs/create", ApiScope.TRACK, create, cost=2),
    Endpoint("POST", "/mlflow/runs/update", ApiScope.TRACK, update, cost=2),
    Endpoint("GET", "/mlflow/runs/get", ApiScope.READ, get),
    Endpoint("POST", "/mlflow/runs/log-metric", ApiScope.TRACK, log_metric),
    Endpoint("POST", "/mlflow/runs/log-parameter", ApiScope.TRACK, log_parameter),
    Endpoint("POST", "/mlflow/runs/log-batch", ApiScope.TRACK, log_batch, cost=5),
    Endpoint("POST", "/mlflow/runs/set-tag", ApiScope.TRACK, set_tag),
    Endpoint("POST", "/mlflow/runs/delete-tag", ApiScope.TRACK, delete_tag),
    Endpoint("POST", "/mlflow/runs/log-model", ApiScope.TRACK, log_model, cost=2),
    Endpoint("POST", "/mlflow/runs/search", ApiScope.READ, search_runs, cost=5),
    Endpoint("GET", "/mlflow/metrics/get-history", ApiScope.READ, history, cost=2),
)
