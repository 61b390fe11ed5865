"""Logged models of the client of version 3: models whose files belong to a run, before they are registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row

from db.core.viewer import ApiScope
from db.queries import logged_models as queries
from db.services.tracking import logged_models as services
from db.tables import LoggedModel
from db.tables.experiments import LoggedModelStatus
from graph.core.ids import encode, filter_id
from server.mlflow.errors import invalid, not_found
from server.mlflow.experiments import experiment_id
from server.mlflow.grammar import Clause, Comparator, Entity, parse_filter
from server.mlflow.requests import Call, Endpoint, as_integer, key_of
from server.mlflow.values import artifact_uri, milliseconds, tags_of

PREFIX = "loggedmodel"
MAX_RESULTS, DEFAULT_RESULTS = 1_000, 100
_STATUSES: Mapping[str, LoggedModelStatus] = {f"LOGGED_MODEL_{status.name}": status for status in LoggedModelStatus} | {
    "LOGGED_MODEL_UPLOAD_FAILED": LoggedModelStatus.FAILED
}
_STATUS_NAMES = {
    LoggedModelStatus.PENDING: "LOGGED_MODEL_PENDING",
    LoggedModelStatus.READY: "LOGGED_MODEL_READY",
    LoggedModelStatus.FAILED: "LOGGED_MODEL_UPLOAD_FAILED",
}


def model_key(call: Call) -> UUID:
    """The key of the logged model that the address names."""
    return key_of(PREFIX, "Logged Model", call.path["model_id"])


async def create(call: Call) -> Mapping[str, Any]:
    run = call.optional_text("source_run_id")
    async with call.database.work(call.viewer) as work:
        new = services.NewLoggedModel(
            name=call.optional_text("name", length=services.NAME_LENGTH) or "model",
            experiment_id=await experiment_id(work, call, call.text("experiment_id")),
            run_id=key_of("run", "Run", run) if run else None,
            model_type=call.optional_text("model_type"),
            parameters=tags_of(call.objects("params")),
            annotations=tags_of(call.objects("tags")),
        )
        model_id = await services.log(work, new)
    return {"model": await _model(call, model_id)}


async def get(call: Call) -> Mapping[str, Any]:
    return {"model": await _model(call, model_key(call))}


async def finalize(call: Call) -> Mapping[str, Any]:
    model_id, status = model_key(call), call.text("status")
    if status not in _STATUSES:
        raise invalid(f"Invalid status '{status}'. It is one of {sorted(_STATUS_NAMES.values())}.")
    async with call.database.work(call.viewer) as work:
        await services.finalize(work, model_id, _STATUSES[status])
    return {"model": await _model(call, model_id)}


async def log_parameters(call: Call) -> Mapping[str, Any]:
    async with call.database.work(call.viewer) as work:
        await services.log_parameters(work, model_key(call), tags_of(call.objects("params")))
    return {}


async def set_tags(call: Call) -> Mapping[str, Any]:
    async with call.database.work(call.viewer) as work:
        await services.annotate(work, model_key(call), tags_of(call.objects("tags")))
    return {"model": await _model(call, model_key(call))}


async def delete_tag(call: Call) -> Mapping[str, Any]:
    async with call.database.work(call.viewer) as work:
        await services.annotate(work, model_key(call), {call.path["key"]: None})
    return {}


async def delete(call: Call) -> Mapping[str, Any]:
    async with call.database.work(call.viewer) as work:
        await services.delete(work, model_key(call))
    return {}


async def search(call: Call) -> Mapping[str, Any]:
    async with call.database.work(call.viewer) as work:
        experiments = [await experiment_id(work, call, text) for text in call.texts("experiment_ids")]
    if any(
        order.get("field_name") not in {"creation_time", "creation_timestamp"} or order.get("ascending", True)
        for order in call.objects("order_by")
    ):
        raise invalid("Logged models are ordered by creation_time, the newest first.")
    if call.objects("datasets"):
        raise invalid("Logged models are not searched by metrics on datasets here; the metrics are those of their runs.")
    size = call.page_size(DEFAULT_RESULTS, MAX_RESULTS)
    token = call.optional_text("page_token")
    before = key_of(PREFIX, "page", token) if token else None
    conditions = [_condition(clause) for clause in parse_filter(call.optional_text("filter"))]
    rows = await queries.search(call.database, call.viewer, experiments, conditions, before, size + 1)
    found = {"models": [_document(row) for row in rows[:size]]}
    return {**found, "next_page_token": encode(PREFIX, rows[size - 1].id)} if len(rows) > size else found


def _condition(clause: Clause) -> ColumnElement[bool]:
    if clause.comparator not in {Comparator.EQ, Comparator.NE} or not isinstance(clause.value, str):
        raise invalid("Logged models are compared with texts, by = and !=.")
    value: Any = clause.value
    match clause.entity, clause.key:
        case Entity.ATTRIBUTE, "name":
            column: Any = LoggedModel.name
        case Entity.ATTRIBUTE, "model_type":
            column = LoggedModel.model_type
        case Entity.ATTRIBUTE, "status":
            column, value = LoggedModel.status, _STATUSES.get(f"LOGGED_MODEL_{clause.value}") or _STATUSES.get(clause.value)
        case Entity.ATTRIBUTE, "model_id":
            column, value = LoggedModel.id, filter_id(PREFIX, clause.value)
        case Entity.ATTRIBUTE, "source_run_id":
            column, value = LoggedModel.run_id, filter_id("run", clause.value)
        case Entity.TAG, key:
            column = LoggedModel.annotations[key].astext
        case Entity.PARAMETER, key:
            column = LoggedModel.parameters[key].astext
        case _:
            raise invalid(
                f"Logged models are not searched by {clause.entity} '{clause.key}'; name, status, model_type, source_run_id, tags and params are possible."
            )
    return column == value if clause.comparator is Comparator.EQ else column != value


async def name_outputs(call: Call) -> Mapping[str, Any]:
    steps = {
        key_of(PREFIX, "Logged Model", str(each.get("model_id"))): as_integer(each.get("step") or 0, "step")
        for each in call.objects("models", 1_000)
    }
    async with call.database.work(call.viewer) as work:
        await services.name_outputs(work, call.run_id(), steps)
    return {}


async def outputs_of(call: Call, run_ids: Sequence[UUID]) -> Mapping[UUID, list[Mapping[str, Any]]]:
    """The outputs of runs that have any, as their documents show them."""
    found = await queries.outputs_of_run(call.database, call.viewer, run_ids)
    return {run_id: [{"model_id": encode(PREFIX, row.id), "step": row.step} for row in rows] for run_id, rows in found.items()}


async def _model(call: Call, model_id: UUID) -> Mapping[str, Any]:
    row = (await queries.by_id(call.database, call.viewer, [model_id])).get(model_id)
    if row is None:
        raise not_found("Logged Model", encode(PREFIX, model_id))
    return _document(row)


def _document(row: Row[Any]) -> Mapping[str, Any]:
    run_id = encode("run", row.run_id)
    return {
        "info": {
            "model_id": encode(PREFIX, row.id),
            "experiment_id": encode("experiment", row.experiment_id),
            "name": row.name,
            "artifact_uri": artifact_uri(run_id, services.folder(row.id)),
            "creation_timestamp_ms": milliseconds(row.created_at),
            "last_updated_timestamp_ms": milliseconds(row.updated_at),
            "model_type": row.model_type or "",
            "source_run_id": run_id,
            "status": _STATUS_NAMES[row.status],
            "tags": [{"key": key, "value": value} for key, value in row.annotations.items()],
        },
        "data": {"params": [{"key": key, "value": value} for key, value in row.parameters.items()], "metrics": []},
    }


_ONE = "/mlflow/logged-models/{model_id}"
ENDPOINTS = (
    Endpoint("POST", "/mlflow/logged-models/search", ApiScope.READ, search, cost=2),
    Endpoint("POST", "/mlflow/logged-models", ApiScope.TRACK, create, cost=2),
    Endpoint("GET", _ONE, ApiScope.READ, get),
    Endpoint("PATCH", _ONE, ApiScope.TRACK, finalize, cost=2),
    Endpoint("DELETE", _ONE, ApiScope.TRACK, delete, cost=2),
    Endpoint("POST", f"{_ONE}/params", ApiScope.TRACK, log_parameters, cost=2),
    Endpoint("PATCH", f"{_ONE}/tags", ApiScope.TRACK, set_tags, cost=2),
    Endpoint("DELETE", f"{_ONE}/tags/{{key:any}}", ApiScope.TRACK, delete_tag, cost=2),
    Endpoint("POST", "/mlflow/runs/outputs", ApiScope.TRACK, name_outputs, cost=2),
)
