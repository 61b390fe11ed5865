"""The model registry: registered models are models, their versions are versions. A version's files are those of a run that it was registered from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row

from db.core.criteria import Criteria, Equals, Order, TextMatch
from db.core.page import Slice
from db.core.viewer import ApiScope
from db.errors import Conflict, InvalidCursor
from db.queries import logged_models as logged_queries
from db.queries import models as queries
from db.services import models as services
from db.services.tracking import registration, version_copies
from db.services.tracking.logged_models import folder
from db.tables import ModelVersion
from graph.core.ids import encode, filter_id
from server.mlflow.errors import MlflowError, invalid, not_found
from server.mlflow.experiments import name_condition
from server.mlflow.grammar import Clause, Comparator, Entity, parse_filter, parse_order
from server.mlflow.logged_models import PREFIX as LOGGED_MODEL
from server.mlflow.requests import Call, Endpoint, key_of
from server.mlflow.values import artifact_uri, milliseconds, tags_of

NAME_LENGTH = 200
MAX_RESULTS, DEFAULT_RESULTS = 1_000, 100
_SOURCE = re.compile(
    r"(?:(?:mlflow-artifacts:/{1,3}|https?://.*/mlflow-artifacts/artifacts/)(?P<run>run_[0-9a-f]{32})/artifacts|runs:/(?P<of_run>run_[0-9a-f]{32}))/(?P<path>.+)"
)
_VERSION = re.compile(r"models:/([^/]+)/(\d{1,10})")
_LOGGED = re.compile(r"models:/(loggedmodel_[0-9a-f]{32})(?:/(.+))?")
_IS_PROMPT = "mlflow.prompt.is_prompt"
_ORDERS: Mapping[str, str] = {
    "name": "name",
    "creation_timestamp": "created_at",
    "timestamp": "updated_at",
    "last_updated_timestamp": "updated_at",
}


async def create(call: Call) -> Mapping[str, Any]:
    new = services.NewModel(_name(call), call.optional_text("description"), tags_of(call.objects("tags")), call.account_id)
    async with call.database.work(call.viewer) as work:
        await services.create(work, new)
    return {"registered_model": await _registered(call, new.name)}


async def get(call: Call) -> Mapping[str, Any]:
    return {"registered_model": await _registered(call, _name(call))}


async def update(call: Call) -> Mapping[str, Any]:
    model = await model_of(call)
    async with call.database.work(call.viewer) as work:
        await services.update(work, model.id, {"description": call.optional_text("description")})
    return {"registered_model": await _registered(call, model.name)}


async def rename(call: Call) -> Mapping[str, Any]:
    model, name = await model_of(call), call.text("new_name", length=NAME_LENGTH)
    async with call.database.work(call.viewer) as work:
        await services.update(work, model.id, {"name": name})
    return {"registered_model": await _registered(call, name)}


async def set_tag(call: Call) -> Mapping[str, Any]:
    model = await model_of(call)
    async with call.database.work(call.viewer) as work:
        await services.update(work, model.id, {"annotations": tags_of([call.fields])})
    return {}


async def delete_tag(call: Call) -> Mapping[str, Any]:
    model = await model_of(call)
    async with call.database.work(call.viewer) as work:
        await services.update(work, model.id, {"annotations": {call.text("key"): None}})
    return {}


async def search(call: Call) -> Mapping[str, Any]:
    size = call.page_size(DEFAULT_RESULTS, MAX_RESULTS)
    name: TextMatch | None = None
    clauses = _of_models(call)
    if clauses is None:
        return {"registered_models": []}
    for clause in clauses:
        name = name_condition(clause, name, "Registered models")
    keys = [parse_order(text) for text in call.texts("order_by")]
    if len(keys) > 1 or any(key.entity is not Entity.ATTRIBUTE or key.key not in _ORDERS for key in keys):
        raise invalid(f"Registered models are ordered by one of {sorted(_ORDERS)}.")
    order = Order(_ORDERS[keys[0].key], keys[0].descending) if keys else Order("name", descending=False)
    criteria = Criteria.of(owner_id=Equals(call.account_id), name=name)
    try:
        page = await queries.listing.page(
            call.database, call.viewer, Slice(size, call.optional_text("page_token") or None), criteria, order
        )
    except InvalidCursor:
        raise invalid("Invalid page token. It is one that a search with the same order returned.") from None
    found = {"registered_models": await _registered_documents(call, page.rows)}
    return {**found, "next_page_token": page.cursors[-1]} if page.has_next else found


async def latest_versions(call: Call) -> Mapping[str, Any]:
    if any(stage.lower() != "none" for stage in call.texts("stages")):
        raise invalid(_NO_STAGES)
    model = await model_of(call)
    latest = await queries.latest_version(call.database, call.viewer, [model.id])
    return {"model_versions": await _version_documents(call, [*latest.values()], {model.id: model.name})}


async def set_alias(call: Call) -> Mapping[str, Any]:
    _, version = await version_of(call)
    async with call.database.work(call.viewer) as work:
        await services.set_alias(work, version.id, call.text("alias"))
    return {}


async def get_alias(call: Call) -> Mapping[str, Any]:
    model, alias = await model_of(call), call.text("alias")
    found = await queries.VersionByAlias(alias.lower(), None)(call.database, call.viewer, [model.id])
    if model.id not in found:
        raise MlflowError("INVALID_PARAMETER_VALUE", f"Registered model alias {alias} not found.")
    return {"model_version": (await _version_documents(call, [found[model.id]], {model.id: model.name}))[0]}


async def delete_alias(call: Call) -> Mapping[str, Any]:
    model = await model_of(call)
    async with call.database.work(call.viewer) as work:
        await services.remove_alias(work, model.id, call.text("alias"))
    return {}


async def create_version(call: Call) -> Mapping[str, Any]:
    model = await model_of(call)
    description, annotations = call.optional_text("description"), tags_of(call.objects("tags"))
    source = call.text("source")
    copied = None if _LOGGED.fullmatch(source) else _VERSION.fullmatch(source)
    try:
        if copied is not None:
            original = await _version(call, await _model(call, copied[1]), copied[2])
            async with call.database.work(call.viewer) as work:
                version_id = await version_copies.copy(work, original.id, model.id, description, annotations)
        else:
            run_id, path = await _source(call)
            new = registration.NewVersion(run_id, path, model.id, description=description, annotations=annotations)
            version_id = await registration.register(call.database, call.store, call.viewer, new)
    except Conflict as error:  # of tasks: nothing exists already
        raise invalid(error.message) from None
    version = (await queries.live_version_by_id(call.database, call.viewer, [version_id]))[version_id]
    return {"model_version": (await _version_documents(call, [version], {model.id: model.name}))[0]}


async def _source(call: Call) -> tuple[UUID, str]:
    """The run and the path of the files to register, from `source`, or from the logged model."""
    source, logged = call.text("source"), call.optional_text("model_id")
    match = _LOGGED.fullmatch(source)
    if match is None and logged:
        match = _LOGGED.fullmatch(f"models:/{logged}")
    if match is not None:
        key = key_of(LOGGED_MODEL, "Logged Model", match[1])
        row = (await logged_queries.by_id(call.database, call.viewer, [key])).get(key)
        if row is None:
            raise not_found("Logged Model", match[1])
        return row.run_id, "/".join(part for part in (folder(key), match[2]) if part)
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise invalid(
            f"Invalid model version source: '{source[:200]}'. It is a folder of the artifacts of a run of yours, or models:/ and the id of a logged model"
            " or the name and number of a version; log the files to a run first."
        )
    return key_of("run", "Run", match["run"] or match["of_run"]), match["path"].rstrip("/")


async def get_version(call: Call) -> Mapping[str, Any]:
    model, version = await version_of(call)
    return {"model_version": (await _version_documents(call, [version], {model.id: model.name}))[0]}


async def update_version(call: Call) -> Mapping[str, Any]:
    model, version = await version_of(call)
    async with call.database.work(call.viewer) as work:
        await services.update_version(work, version.id, {"description": call.optional_text("description")})
    changed = (await queries.live_version_by_id(call.database, call.viewer, [version.id]))[version.id]
    return {"model_version": (await _version_documents(call, [changed], {model.id: model.name}))[0]}


async def set_version_tag(call: Call) -> Mapping[str, Any]:
    _, version = await version_of(call)
    async with call.database.work(call.viewer) as work:
        await services.update_version(work, version.id, {"annotations": tags_of([call.fields])})
    return {}


async def delete_version_tag(call: Call) -> Mapping[str, Any]:
    _, version = await version_of(call)
    async with call.database.work(call.viewer) as work:
        await services.update_version(work, version.id, {"annotations": {call.text("key"): None}})
    return {}


async def search_versions(call: Call) -> Mapping[str, Any]:
    size = call.page_size(DEFAULT_RESULTS, MAX_RESULTS)
    token = call.optional_text("page_token")
    before = key_of("mversion", "page", token) if token else None
    if call.texts("order_by"):
        keys = [parse_order(text) for text in call.texts("order_by")]
        if len(keys) > 1 or keys[0].key not in {"creation_timestamp", "last_updated_timestamp", "version_number"} or not keys[0].descending:
            raise invalid("Model versions are ordered by creation_timestamp DESC.")
    conditions: list[ColumnElement[bool]] = []
    clauses = _of_models(call)
    if clauses is None:
        return {"model_versions": []}
    for clause in clauses:
        if clause.comparator is not Comparator.EQ or not isinstance(clause.value, str):
            raise invalid("Model versions are searched by name = '…', run_id = '…' and tags.… = '…'.")
        match clause.entity, clause.key:
            case Entity.ATTRIBUTE, "name":
                named = await _named(call, clause.value)
                conditions.append(ModelVersion.model_id == (None if named is None else named.id))
            case Entity.ATTRIBUTE, "run_id":
                conditions.append(ModelVersion.run_id == filter_id("run", clause.value))
            case Entity.TAG, key:
                conditions.append(ModelVersion.annotations[key].astext == clause.value)
            case _:
                raise invalid(f"Model versions are not searched by {clause.entity} '{clause.key}'; name, run_id and tags are possible.")
    rows = await queries.search_versions(call.database, call.viewer, call.account_id, conditions, before, size + 1)
    found = {"model_versions": await _version_documents(call, rows[:size])}
    return {**found, "next_page_token": encode("mversion", rows[size - 1].id)} if len(rows) > size else found


def _of_models(call: Call) -> list[Clause] | None:
    """The clauses of the filter but that by which clients leave out prompts, which are no models here; None where prompts are looked for."""
    clauses = parse_filter(call.optional_text("filter"))
    if any(clause.key == _IS_PROMPT and (clause.comparator is Comparator.EQ) is (clause.value == "true") for clause in clauses):
        return None
    return [clause for clause in clauses if clause.key != _IS_PROMPT]


async def download_uri(call: Call) -> Mapping[str, Any]:
    _, version = await version_of(call)
    return {"artifact_uri": artifact_uri(encode("mversion", version.id))}


async def transition(_: Call) -> Mapping[str, Any]:
    raise invalid(_NO_STAGES)


_NO_STAGES = "Stages are not kept; MLflow deprecates them. Use an alias: client.set_registered_model_alias(name, 'production', version)."


def _name(call: Call) -> str:
    return call.text("name", length=NAME_LENGTH)


async def _named(call: Call, name: str) -> Row[Any] | None:
    criteria = Criteria.of(owner_id=Equals(call.account_id), name=TextMatch(eq=name))
    page = await queries.listing.page(call.database, call.viewer, Slice(1), criteria)
    return page.rows[0] if page.rows else None


async def model_of(call: Call) -> Row[Any]:
    """The model that a call names."""
    return await _model(call, _name(call))


async def _model(call: Call, name: str) -> Row[Any]:
    row = await _named(call, name)
    if row is None:
        raise MlflowError("RESOURCE_DOES_NOT_EXIST", f"Registered Model with name={name} not found")
    return row


async def version_of(call: Call) -> tuple[Row[Any], Row[Any]]:
    """The model and the version that a call names."""
    model = await model_of(call)
    return model, await _version(call, model, call.text("version", length=20))


async def _version(call: Call, model: Row[Any], text: str) -> Row[Any]:
    version = await queries.numbered(call.database, call.viewer, model.id, int(text)) if text.isdecimal() and int(text) < 2**31 else None
    if version is None:
        raise MlflowError("RESOURCE_DOES_NOT_EXIST", f"Model Version (name={model.name}, version={text}) not found")
    return version


async def _registered(call: Call, name: str) -> Mapping[str, Any]:
    return (await _registered_documents(call, [await _model(call, name)]))[0]


async def _registered_documents(call: Call, rows: Sequence[Row[Any]]) -> list[Mapping[str, Any]]:
    if not rows:
        return []
    keys = [row.id for row in rows]
    latest = await queries.latest_version(call.database, call.viewer, keys)
    aliases = await queries.aliases_of_model(call.database, call.viewer, keys)
    pointed = [alias.model_version_id for found in aliases.values() for alias in found]
    versions: Mapping[UUID, Row[Any]] = await queries.live_version_by_id(call.database, call.viewer, pointed) if pointed else {}
    documents = await _version_documents(call, [*latest.values()], {row.id: row.name for row in rows})
    by_model = dict(zip(latest, documents, strict=True))
    return [
        {
            "name": row.name,
            "creation_timestamp": milliseconds(row.created_at),
            "last_updated_timestamp": milliseconds(row.updated_at),
            "description": row.description or "",
            "latest_versions": [by_model[row.id]] if row.id in by_model else [],
            "tags": [{"key": key, "value": value} for key, value in row.annotations.items()],
            "aliases": [
                {"alias": alias.name, "version": str(versions[alias.model_version_id].number)}
                for alias in aliases.get(row.id, ())
                if alias.model_version_id in versions
            ],
        }
        for row in rows
    ]


async def _version_documents(call: Call, rows: Sequence[Row[Any]], names: Mapping[UUID, str] | None = None) -> list[Mapping[str, Any]]:
    if not rows:
        return []
    if names is None:
        found = await queries.live_by_id(call.database, call.viewer, [*{row.model_id for row in rows}])
        names = {key: model.name for key, model in found.items()}
    aliases = await queries.aliases_of_version(call.database, call.viewer, [row.id for row in rows])
    return [
        {
            "name": names[row.model_id],
            "version": str(row.number),
            "creation_timestamp": milliseconds(row.created_at),
            "last_updated_timestamp": milliseconds(row.created_at),
            "current_stage": "None",
            "description": row.description or "",
            "source": artifact_uri(encode("mversion", row.id)),
            "run_id": "" if row.run_id is None else encode("run", row.run_id),
            "status": "READY",
            "tags": [{"key": key, "value": value} for key, value in row.annotations.items()],
            "aliases": [alias.name for alias in aliases.get(row.id, ())],
        }
        for row in rows
    ]


_MODELS, _VERSIONS, _ALIAS = "/mlflow/registered-models", "/mlflow/model-versions", "/mlflow/registered-models/alias"
ENDPOINTS = (
    Endpoint("POST", f"{_MODELS}/create", ApiScope.TRACK, create, cost=2),
    Endpoint("GET", f"{_MODELS}/get", ApiScope.READ, get),
    Endpoint("PATCH", f"{_MODELS}/update", ApiScope.WRITE, update, cost=2),
    Endpoint("POST", f"{_MODELS}/rename", ApiScope.WRITE, rename, cost=2),
    Endpoint("GET", f"{_MODELS}/search", ApiScope.READ, search, cost=2),
    Endpoint("POST", f"{_MODELS}/set-tag", ApiScope.TRACK, set_tag, cost=2),
    Endpoint("DELETE", f"{_MODELS}/delete-tag", ApiScope.TRACK, delete_tag, cost=2),
    Endpoint("POST", f"{_MODELS}/get-latest-versions", ApiScope.READ, latest_versions),
    Endpoint("GET", f"{_MODELS}/get-latest-versions", ApiScope.READ, latest_versions),
    Endpoint("POST", _ALIAS, ApiScope.WRITE, set_alias, cost=2),
    Endpoint("GET", _ALIAS, ApiScope.READ, get_alias),
    Endpoint("DELETE", _ALIAS, ApiScope.WRITE, delete_alias, cost=2),
    Endpoint("POST", f"{_VERSIONS}/create", ApiScope.TRACK, create_version, cost=5),
    Endpoint("GET", f"{_VERSIONS}/get", ApiScope.READ, get_version),
    Endpoint("PATCH", f"{_VERSIONS}/update", ApiScope.TRACK, update_version, cost=2),
    Endpoint("GET", f"{_VERSIONS}/search", ApiScope.READ, search_versions, cost=2),
    Endpoint("GET", f"{_VERSIONS}/get-download-uri", ApiScope.READ, download_uri),
    Endpoint("POST", f"{_VERSIONS}/set-tag", ApiScope.TRACK, set_version_tag, cost=2),
    Endpoint("DELETE", f"{_VERSIONS}/delete-tag", ApiScope.TRACK, delete_version_tag, cost=2),
    Endpoint("POST", f"{_VERSIONS}/transition-stage", ApiScope.WRITE, transition),
)
