"""Files of runs and model versions. Small ones are taken as they are sent; for others a client is redirected to the store, and sends them again there.
Those of 500 MB or more, if the client is told that it may, are sent and read in parts, by URLs of the store.

An address is that of a run or a model version, `artifacts`, and the path of the file, which is a name in a row and never a part of a key.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement
from starlette.responses import RedirectResponse, Response

from db.core.checks import Checks
from db.core.viewer import ApiScope
from db.queries import artifacts as queries
from db.queries import models, runs
from db.services.tracking import artifact_parts, artifacts
from db.services.upload_parts import SentPart
from db.settings import state_settings
from db.tables import Artifact
from graph.core.ids import parse
from server.mlflow.errors import MlflowError, invalid, not_found
from server.mlflow.requests import Call, Endpoint, as_integer, read_file
from server.mlflow.values import artifact_uri

MAX_STORED_BYTES = 1024 * 1024  # of a file that is kept as it was sent to us
MAX_ENTRIES = 10_000
ROOT = "artifacts"
_DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Place:
    """Files of a run or of a model version, and the path among them; "" is the folder of all."""

    kind: str
    key: UUID
    path: str

    @classmethod
    def of(cls, address: str) -> Place:
        """The place of an address. Raises `MlflowError` if it is none, or if its path is not that of a file or folder."""
        owner, _, rest = address.strip("/").partition("/")
        root, _, path = rest.partition("/")
        parsed = parse(owner)
        if parsed is None or parsed[0] not in {"run", "mversion"} or root != ROOT:
            raise MlflowError(
                "RESOURCE_DOES_NOT_EXIST", f"No artifacts at '{address[:200]}': their address begins with <id of a run>/{ROOT}."
            )
        if path:
            require_path(path)
        return cls(*parsed, path)

    @property
    def is_here(self) -> ColumnElement[bool]:
        """The condition on the files of this run or model version."""
        column = Artifact.run_id if self.kind == "run" else Artifact.model_version_id
        return column == self.key


def require_path(path: str) -> None:
    """Raise `MlflowError` for what is no path of a file or folder."""
    checks = Checks()
    artifacts.check_path(checks, path)
    if checks.issues:
        raise invalid(f"Invalid artifact path {path[:200]!r}. {checks.issues[0].message}")


async def put(call: Call) -> Mapping[str, Any] | Response:
    size, content = await read_file(call.request, MAX_STORED_BYTES)
    place = _writable(call.path["path"])
    if not place.path:
        raise invalid("Missing the path of the file.")
    new = artifacts.NewArtifact(place.key, place.path, size, content_type=call.request.headers.get("content-type") or _DEFAULT_TYPE)
    if content is not None:
        await artifacts.store(call.database, call.store, call.viewer, new, content)
        return {}
    async with call.database.work(call.viewer) as work:
        upload = await artifacts.request(work, new)
    # The client repeats its Content-Type and Content-Length, which are signed.
    url, _ = await call.store.presign_put(upload.object_key, size, upload.content_type, None, state_settings().upload_expires)
    return _redirect(url)


async def create_parts(call: Call) -> Mapping[str, Any]:
    """Announce a file in parts, whose sizes the client does not tell; return a URL for each."""
    folder = _writable(call.path["path"])
    # The client tells where the file is on its disk.
    name = call.text("path", length=5_000).replace("\\", "/").rpartition("/")[2]
    path = f"{folder.path}/{name}" if folder.path else name
    require_path(path)
    content_type = mimetypes.guess_type(name)[0] or _DEFAULT_TYPE
    new = artifacts.NewArtifact(folder.key, path, content_type=content_type, parts=call.integer("num_parts", 1))
    async with call.database.work(call.viewer) as work:
        upload = await artifacts.request(work, new)
    urls = await artifact_parts.begin(call.database, call.store, call.viewer, upload)
    credentials: list[dict[str, Any]] = [{"part_number": number, "url": url, "headers": {}} for number, url in enumerate(urls, 1)]
    return {"upload_id": str(upload.id), "credentials": credentials}


async def complete_parts(call: Call) -> Mapping[str, Any]:
    sent = [SentPart(as_integer(part.get("part_number"), "part_number", 32), str(part.get("etag"))) for part in call.objects("parts")]
    await artifacts.complete_parts(call.database, call.store, call.viewer, _upload_id(call), sent)
    return {}


async def abort_parts(call: Call) -> Mapping[str, Any]:
    await artifacts.abort(call.database, call.store, call.viewer, _upload_id(call))
    return {}


async def get(call: Call) -> Response:
    return _redirect((await _stored(call)).url)


async def presigned(call: Call) -> Mapping[str, Any]:
    """Where to read a file from, in ranges if it is large."""
    stored = await _stored(call)
    return {"url": stored.url, "headers": {}, "file_size": stored.size}


async def list_folder(call: Call) -> Mapping[str, Any]:
    return {"files": await _entries(call, Place.of(call.text("path", length=2_000)))}


async def list_of_run(call: Call) -> Mapping[str, Any]:
    run_id, path = call.optional_text("run_id") or call.text("run_uuid"), (call.optional_text("path", length=2_000) or "").strip("/")
    files = await _entries(call, Place.of(f"{run_id}/{ROOT}/{path}"))
    prefix = f"{path}/" if path else ""
    return {"root_uri": artifact_uri(run_id), "files": [{**file, "path": prefix + file["path"]} for file in files]}


async def delete(call: Call) -> Mapping[str, Any]:
    place = _writable(call.path["path"])
    await _settle(call, place)  # what has arrived would come back otherwise
    async with call.database.work(call.viewer) as work:
        await artifacts.remove(work, place.key, place.path)
    return {}


async def server_info(_: Call) -> Mapping[str, Any]:
    """What this server can do, in the form of version 3: it keeps rows in a database, and takes and gives files in parts."""
    return {"store_type": "SqlStore", "workspaces_enabled": False, "multipart_uploads_enabled": True, "multipart_downloads_enabled": True}


def _writable(address: str) -> Place:
    place = Place.of(address)
    if place.kind != "run":
        raise invalid(
            "The files of a registered model version do not change. Log to a run and register another version, or delete this one."
        )
    return place


def _upload_id(call: Call) -> UUID:
    """The id of an upload in parts of the run that the address names."""
    text = call.text("upload_id")
    try:
        return UUID(text)
    except ValueError:
        raise not_found("upload", text) from None


class _Stored(NamedTuple):
    """A file in the store: a URL that reads it, and its size in bytes."""

    url: str
    size: int


async def _stored(call: Call) -> _Stored:
    """The file at the address, the newest that has arrived; the URL expires as those of uploads do. Raises `MlflowError` if there is none."""
    place = Place.of(call.path["path"])
    pending = await _settle(call, place)
    expires = state_settings().upload_expires
    for upload in reversed(pending):
        if upload.path == place.path and (info := await call.store.head(upload.object_key)) is not None:
            return _Stored(await call.store.presign_get(upload.object_key, place.path, upload.content_type, expires), info.size)
    file = await queries.at_path(call.database, call.viewer, place.is_here, place.path)
    if file is None:
        raise not_found("artifact", place.path)
    return _Stored(await call.store.presign_get(file.object_key, file.filename, file.content_type, expires), file.size_bytes)


async def _entries(call: Call, place: Place) -> list[dict[str, Any]]:
    await _settle(call, place)
    rows = await queries.folder(call.database, call.viewer, place.is_here, place.path, MAX_ENTRIES + 1)
    if len(rows) > MAX_ENTRIES:
        raise invalid(f"This folder has more than {MAX_ENTRIES:,} entries. `Run.artifacts` of the graph lists them by pages.")
    return [{"path": row.name, "is_dir": row.is_folder, **({} if row.is_folder else {"file_size": row.size_bytes})} for row in rows]


async def _settle(call: Call, place: Place) -> list[Any]:
    """Complete what has arrived; return the uploads that are still open. Raises `MlflowError` for what the viewer cannot see."""
    by_id = runs.live_by_id if place.kind == "run" else models.live_version_by_id
    if place.key not in await by_id(call.database, call.viewer, [place.key]):
        raise not_found("Run" if place.kind == "run" else "Model Version", call.path.get("path") or call.fields.get("path"))
    return await artifacts.complete_arrived(call.database, call.store, place.key) if place.kind == "run" else []


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 307, {"Cache-Control": "no-store"})


ENDPOINTS = (
    Endpoint("GET", "/mlflow-artifacts/artifacts", ApiScope.READ, list_folder, cost=2),
    Endpoint("GET", "/mlflow-artifacts/artifacts/{path:any}", ApiScope.READ, get),
    Endpoint("PUT", "/mlflow-artifacts/artifacts/{path:any}", ApiScope.TRACK, put, cost=5, is_file=True),
    Endpoint("DELETE", "/mlflow-artifacts/artifacts/{path:any}", ApiScope.TRACK, delete, cost=2),
    Endpoint("POST", "/mlflow-artifacts/mpu/create/{path:any}", ApiScope.TRACK, create_parts, cost=5),
    Endpoint("POST", "/mlflow-artifacts/mpu/complete/{path:any}", ApiScope.TRACK, complete_parts, cost=5),
    Endpoint("POST", "/mlflow-artifacts/mpu/abort/{path:any}", ApiScope.TRACK, abort_parts, cost=2),
    Endpoint("GET", "/mlflow-artifacts/presigned/{path:any}", ApiScope.READ, presigned),
    Endpoint("GET", "/mlflow/artifacts/list", ApiScope.READ, list_of_run, cost=2),
    Endpoint("GET", "/mlflow/server-info", ApiScope.READ, server_info, version="3.0"),
)
