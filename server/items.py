"""`/items/<token>`: the bytes of one item, or its preview, read from their place in an object of the store and unpacked on the way."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from db.errors import DatabaseNotMigrated, Unavailable
from db.queries.item_places import ItemPlace, place_of
from db.services import item_links
from db.settings import StateSettings
from db.stores.objects import ObjectMissing, ObjectStore, content_disposition
from db.tables.items import ItemStorage
from server.observability import record_rejection
from server.protocol.http_errors import error_body

_CHUNK = 256 * 1024  # bytes that are unpacked at once
_GONE = (410, "EXPIRED", "This link has expired. Ask for `downloadUrl` again.")
_UNKNOWN = (404, "NOT_FOUND", "There is nothing at this address. Operations go to `/graphql`.")
_UNAVAILABLE = (503, "UNAVAILABLE", "The item cannot be read at the moment. Try again in a few seconds.")


def route(state: StateSettings) -> Route:
    async def respond(request: Request) -> Response:
        link = item_links.read(state, request.path_params["token"])
        if link is None:
            return _refused(_UNKNOWN)
        if link.is_expired:
            return _refused(_GONE)
        try:
            place = await place_of(request.app.state.database, link.item_id, is_preview=link.part is item_links.LinkedPart.PREVIEW)
            if place is None:
                return _refused(_UNKNOWN)
            content = _content(request.app.state.objects, place)
            # Before the headers are sent, so that a store that does not answer is a status and no cut response. HEAD reads nothing.
            first = b"" if request.method == "HEAD" else await anext(content, b"")
        except (Unavailable, DatabaseNotMigrated):
            return _refused(_UNAVAILABLE)
        except ObjectMissing:
            return _refused(_UNKNOWN)
        headers = {
            "Content-Length": str(place.size),
            "Content-Disposition": "inline" if link.part is item_links.LinkedPart.PREVIEW else content_disposition(place.filename),
            "Cache-Control": "private, max-age=60",
        }
        if request.method == "HEAD":
            return Response(headers=headers, media_type=place.content_type)
        return StreamingResponse(_joined(first, content), headers=headers, media_type=place.content_type)

    return Route(item_links.PATH + "{token}", respond, methods=["GET"])


async def _joined(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async with aclosing(rest):
        async for chunk in rest:
            yield chunk


async def _content(objects: ObjectStore, place: ItemPlace) -> AsyncGenerator[bytes]:
    """The unpacked bytes, no more than the item has."""
    async with aclosing(objects.stream(place.object_key, place.offset, place.stored_size)) as stored:
        if place.storage is ItemStorage.STORED:
            async for chunk in stored:
                yield chunk
            return
        decompressor, remaining = zlib.decompressobj(-zlib.MAX_WBITS), place.size
        async for chunk in stored:
            packed = chunk
            while remaining > 0 and not decompressor.eof:  # also without more bytes: the decompressor may have taken them all before
                content = decompressor.decompress(packed, min(_CHUNK, remaining))
                packed = decompressor.unconsumed_tail
                remaining -= len(content)
                if content:
                    yield content
                elif not packed:
                    break
            if decompressor.eof or not remaining:
                return  # the decompressor would keep what follows the end in memory


def _refused(refusal: tuple[int, str, str]) -> Response:
    status, code, message = refusal
    request_id = uuid4().hex
    record_rejection(request_id, status, code)
    headers = {"Cache-Control": "no-store", **({"Retry-After": "1"} if status == 503 else {})}
    return Response(error_body(code, message, request_id), status, headers, "application/json")
