"""`/hooks/s3`: the object store tells that objects were created, so that uploads that their clients forget are completed sooner.

It takes what S3, MinIO and others send of a bucket's notifications. A notice only says that an upload may have arrived: the file is looked at before
anything is done with it, and the client still has minutes to complete the upload itself. Without a notice, an upload is looked at before it expires.
"""

from __future__ import annotations

from secrets import compare_digest
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_plus

import orjson
from starlette.requests import Request
from starlette.routing import Route

from db.services import uploads
from server.protocol.callbacks import callback_route, read_body
from server.protocol.http_errors import HttpError

if TYPE_CHECKING:
    from db.settings import StateSettings
    from server.settings import ServerSettings

PATH = "/hooks/s3"
PREFIX = "uploads/"


def route(settings: ServerSettings, state: StateSettings) -> Route:
    """POST with the token of `TRELLIS_S3_EVENTS_TOKEN`; without that setting there is nothing at the address."""

    async def accept(request: Request, token: str) -> None:
        _require_token(request, token)
        await uploads.notice(request.app.state.database, created_keys(await read_body(request), state.s3_bucket))

    return callback_route(PATH, lambda: settings.s3_events_token, accept)


def _require_token(request: Request, token: str) -> None:
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not compare_digest(given.encode(), token.encode()):
        raise HttpError(
            401, "UNAUTHENTICATED", "The token of the notice is wrong. The store sends `TRELLIS_S3_EVENTS_TOKEN` as its bearer token."
        )


def created_keys(body: bytes, bucket: str) -> list[str]:
    """Return the keys of uploads that a notice says were created in the bucket. Raises `HttpError` for what is no JSON object.

    Records of another shape are left out: stores send notices of their own, such as a test when the hook is set up.
    """
    try:
        notice: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        notice = None
    if not isinstance(notice, dict):
        raise HttpError(400, "BAD_REQUEST", "A notice is a JSON object with `Records`.")
    records: Any = cast("dict[str, Any]", notice).get("Records")
    keys: list[str] = []
    for record in cast("list[Any]", records) if isinstance(records, list) else ():
        try:
            event, place, key = record["eventName"], record["s3"]["bucket"]["name"], record["s3"]["object"]["key"]
        except (KeyError, TypeError, IndexError):
            continue
        if isinstance(event, str) and event.removeprefix("s3:").startswith("ObjectCreated:") and place == bucket and isinstance(key, str):
            keys.append(unquote_plus(key))  # keys are written as in a form
    return [key for key in keys if key.startswith(PREFIX) and "\0" not in key]
