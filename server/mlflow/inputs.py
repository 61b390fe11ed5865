"""The data that runs read. Of MLflow's description of a dataset its name, digest, source and context are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import orjson

from db.core.viewer import ApiScope
from db.queries import run_inputs
from db.services.tracking import inputs
from db.services.tracking.inputs import DIGEST_LENGTH, SOURCE_LENGTH, TEXT_LENGTH, NamedInput
from server.mlflow.errors import invalid
from server.mlflow.requests import Call, Endpoint
from server.mlflow.values import tags_of

CONTEXT = "mlflow.data.context"


async def log(call: Call) -> Mapping[str, Any]:
    named = [_input(entry) for entry in call.objects("datasets")]
    if call.objects("models"):
        raise invalid("Logged models are not kept as inputs of runs here. Log the data that was read.")
    if named:
        async with call.database.work(call.viewer) as work:
            await inputs.log(work, call.run_id(), named)
    return {}


def _input(entry: Mapping[str, Any]) -> NamedInput:
    dataset: Any = entry.get("dataset")
    tags: Any = entry.get("tags") or []
    values = cast("dict[str, Any]", dataset) if isinstance(dataset, dict) else {}
    name, digest, source = (values.get(each) or "" for each in ("name", "digest", "source"))
    if not all(isinstance(value, str) for value in (name, digest, source)):
        raise invalid("A dataset is described by texts: name, digest, source_type and source.")
    if not isinstance(tags, list) or not all(isinstance(tag, dict) for tag in cast("list[Any]", tags)):
        raise invalid("The tags of a dataset are a list of objects with key and value.")
    named = _address(source) or name or digest
    context = tags_of(cast("list[dict[str, Any]]", tags)).get(CONTEXT)
    return NamedInput(named[:SOURCE_LENGTH], digest[:DIGEST_LENGTH] or None, name[:TEXT_LENGTH] or None, context)


def _address(source: str) -> str:
    """The address of a source, which is a JSON object such as `{"uri": "s3://…"}`; of data that code made, there is none."""
    try:
        document: Any = orjson.loads(source)
    except orjson.JSONDecodeError:
        return source
    if not isinstance(document, dict):
        return source
    members = cast("dict[str, Any]", document)
    found = next((members[name] for name in ("uri", "url", "path", "table_name") if isinstance(members.get(name), str)), "")
    return str(found)


async def inputs_of(call: Call, run_ids: Sequence[UUID]) -> Mapping[UUID, list[Mapping[str, Any]]]:
    """The inputs of runs that have any, as their documents show them."""
    found = await run_inputs.of_run(call.database, call.viewer, run_ids)
    return {
        run_id: [
            {
                "tags": [{"key": CONTEXT, "value": row.context}] if row.context else [],
                "dataset": {
                    "name": row.name or row.source,
                    "digest": row.digest,
                    "source_type": "http" if row.source.startswith(("http://", "https://")) else "local",
                    "source": orjson.dumps({"url" if row.source.startswith(("http://", "https://")) else "uri": row.source}).decode(),
                },
            }
            for row in rows
        ]
        for run_id, rows in found.items()
    }


ENDPOINTS = (Endpoint("POST", "/mlflow/runs/log-inputs", ApiScope.TRACK, log, cost=2),)
