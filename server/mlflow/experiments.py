"""Experiments: created, found by name, listed and annotated. Experiment `0` is the account's "Default", made where it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from db.core.criteria import Criteria, Equals, Order, TextMatch
from db.core.page import Slice
from db.core.viewer import ApiScope
from db.core.work import Work
from db.errors import InvalidCursor
from db.queries import experiments
from db.services import experiments as services
from graph.core.ids import encode
from server.mlflow.errors import MlflowError, invalid, not_found
from server.mlflow.grammar import Clause, Comparator, Entity, parse_filter, parse_order
from server.mlflow.requests import Call, Endpoint, key_of
from server.mlflow.values import milliseconds, tags_of

DEFAULT_ID = "0"
NAME_LENGTH = 500
MAX_RESULTS, DEFAULT_RESULTS = 1_000, 1_000
NOTE = "mlflow.note.content"
_ORDERS: Mapping[str, str] = {"name": "name", "creation_time": "created_at", "last_update_time": "updated_at"}


async def experiment_id(work: Work, call: Call, text: str) -> UUID:
    """The key of an experiment's id; `0` is the account's "Default". Raises `MlflowError`, or `Forbidden` where it would have to be made."""
    if text == DEFAULT_ID:
        found = await _named(call, services.DEFAULT)
        if found is not None:
            return found.id
        call.viewer.require_scope(ApiScope.TRACK, "experiment 0")
        call.viewer.require_write_in(call.account_id)
        return await services.default_experiment(work, call.account_id)
    return key_of("experiment", "Experiment", text)


async def create(call: Call) -> Mapping[str, Any]:
    tags = tags_of(call.objects("tags"))
    new = services.NewExperiment(call.text("name", length=NAME_LENGTH), None, tags.get(NOTE), call.account_id)
    async with call.database.work(call.viewer) as work:
        key = await services.create(work, new)
        if tags:
            await services.update(work, key, {"annotations": tags})
    return {"experiment_id": encode("experiment", key)}


async def get(call: Call) -> Mapping[str, Any]:
    return {"experiment": _document(await _experiment(call, call.text("experiment_id")))}


async def get_by_name(call: Call) -> Mapping[str, Any]:
    name = call.text("experiment_name", length=NAME_LENGTH)
    row = await _named(call, name)
    if row is None:
        raise MlflowError("RESOURCE_DOES_NOT_EXIST", f"Could not find experiment with name '{name}'")
    return {"experiment": _document(row)}


async def update(call: Call) -> Mapping[str, Any]:
    key = key_of("experiment", "Experiment", call.text("experiment_id"))
    async with call.database.work(call.viewer) as work:
        await services.update(work, key, {"name": call.text("new_name", length=NAME_LENGTH)})
    return {}


async def set_tag(call: Call) -> Mapping[str, Any]:
    text, key, value = call.text("experiment_id"), call.text("key", length=250), call.optional_text("value", length=8_000) or ""
    async with call.database.work(call.viewer) as work:
        changes = {"annotations": {key: value}, **({"notes": value} if key == NOTE else {})}
        await services.update(work, await experiment_id(work, call, text), changes)
    return {}


async def delete_tag(call: Call) -> Mapping[str, Any]:
    row, key = await _experiment(call, call.text("experiment_id")), call.text("key", length=250)
    if key not in row.annotations:
        raise not_found("tag", key)
    async with call.database.work(call.viewer) as work:
        await services.update(work, row.id, {"annotations": {key: None}})
    return {}


async def search(call: Call) -> Mapping[str, Any]:
    if call.optional_text("view_type") == "DELETED_ONLY":
        return {"experiments": []}
    size = call.page_size(DEFAULT_RESULTS, MAX_RESULTS)
    name: TextMatch | None = None
    for clause in parse_filter(call.optional_text("filter")):
        name = name_condition(clause, name, "Experiments")
    criteria = Criteria.of(owner_id=Equals(call.account_id), name=name)
    page_slice = Slice(size, call.optional_text("page_token") or None)
    try:
        page = await experiments.listing.page(call.database, call.viewer, page_slice, criteria, _order(call.texts("order_by")))
    except InvalidCursor:
        raise invalid("Invalid page token. It is one that a search with the same order returned.") from None
    found = {"experiments": [_document(row) for row in page.rows]}
    return {**found, "next_page_token": page.cursors[-1]} if page.has_next else found


def name_condition(clause: Clause, earlier: TextMatch | None, things: str) -> TextMatch:
    """The condition of a clause on the name. Case does not matter, as names differ in more than case."""
    value = clause.value
    if clause.entity is not Entity.ATTRIBUTE or clause.key != "name" or not isinstance(value, str) or earlier is not None:
        raise invalid(f"{things} are found by one condition on their name, such as name LIKE 'bearing%'.")
    if clause.comparator is Comparator.EQ:
        return TextMatch(eq=value)
    if clause.comparator in {Comparator.LIKE, Comparator.ILIKE} and "%" not in value.strip("%") and "_" not in value:
        inner = value.strip("%")
        if value.startswith("%") and value.endswith("%"):
            return TextMatch(contains=inner)
        if value.endswith("%"):
            return TextMatch(starts_with=inner)
        if not value.startswith("%"):
            return TextMatch(eq=value)
    raise invalid("A name is compared by =, or by LIKE and ILIKE with 'text%' or '%text%'.")


def _order(texts: list[str]) -> Order | None:
    keys = [key for key in map(parse_order, texts) if key.key != "experiment_id"]
    if not keys:
        return None
    if len(keys) > 1 or keys[0].entity is not Entity.ATTRIBUTE or keys[0].key not in _ORDERS:
        raise invalid(f"Experiments are ordered by one of {sorted(_ORDERS)}.")
    return Order(_ORDERS[keys[0].key], keys[0].descending)


async def _named(call: Call, name: str) -> Row[Any] | None:
    criteria = Criteria.of(owner_id=Equals(call.account_id), name=TextMatch(eq=name))
    page = await experiments.listing.page(call.database, call.viewer, Slice(1), criteria)
    return page.rows[0] if page.rows else None


async def _experiment(call: Call, text: str) -> Row[Any]:
    async with call.database.work(call.viewer) as work:
        key = await experiment_id(work, call, text)
    row = (await experiments.live_by_id(call.database, call.viewer, [key])).get(key)
    if row is None:
        raise MlflowError("RESOURCE_DOES_NOT_EXIST", f"No Experiment with id={text} exists")
    return row


def _document(row: Row[Any]) -> Mapping[str, Any]:
    text = encode("experiment", row.id)
    tags = {**row.annotations, **({NOTE: row.notes} if row.notes is not None else {})}
    return {
        "experiment_id": text,
        "name": row.name,
        "artifact_location": f"mlflow-artifacts:/{text}",
        "lifecycle_stage": "active" if row.deleted_at is None else "deleted",
        "creation_time": milliseconds(row.created_at),
        "last_update_time": milliseconds(row.updated_at),
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }


ENDPOINTS = (
    Endpoint("POST", "/mlflow/experiments/create", ApiScope.TRACK, create, cost=2),
    Endpoint("GET", "/mlflow/experiments/get", ApiScope.READ, get),
    Endpoint("GET", "/mlflow/experiments/get-by-name", ApiScope.READ, get_by_name),
    Endpoint("POST", "/mlflow/experiments/update", ApiScope.WRITE, update, cost=2),
    Endpoint("POST", "/mlflow/experiments/set-experiment-tag", ApiScope.TRACK, set_tag),
    Endpoint("POST", "/mlflow/experiments/delete-experiment-tag", ApiScope.TRACK, delete_tag),
    Endpoint("POST", "/mlflow/experiments/search", ApiScope.READ, search, cost=2),
    Endpoint("GET", "/mlflow/experiments/search", ApiScope.READ, search, cost=2),
)
