"""`/items/<token>`: the bytes of one item, or its preview, read from their place in an object of the store and unpacked on the way.

A range of an item that lies unpacked in its object is read from there. One of a compressed item is found by unpacking what is before it, which is done up to
`MAX_SKIPPED` bytes; a larger item has no ranges and is sent whole, since each request of a player would unpack gigabytes.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from db.errors import DatabaseNotMigrated, Unavailable
from db.queries.item_places import ItemPlace, place_of
from db.services import item_links
from db.settings import StateSettings
from db.stores.content_disposition import content_disposition
from db.stores.objects import ObjectMissing, ObjectStore
from db.tables.items import ItemStorage
from server.observability import record_rejection
from server.protocol.byte_ranges import ByteRange, Unsatisfiable, requested_range
from server.protocol.http_errors import error_body

MAX_SKIPPED = 64 * 1024 * 1024
_CHUNK = 256 * 1024  # bytes that are unpacked at once
_GONE = (410, "EXPIRED", "This link has expired. Ask for `downloadUrl` again.")
_UNKNOWN = (404, "NOT_FOUND", "There is nothing at this address. Operations go to `/graphql`.")
_NO_RANGE = (416, "RANGE_NOT_SATISFIABLE", "The range begins after the last byte. `Content-Range` has the number of bytes.")
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
            etag = f'"{place.sha256}"'
            headers = {
                "Content-Disposition": "inline" if link.part is item_links.LinkedPart.PREVIEW else content_disposition(place.filename),
                "Cache-Control": "private, max-age=60",
                "ETag": etag,
                "Accept-Ranges": "bytes" if _has_ranges(place) else "none",
            }
            if request.method == "HEAD":  # reads nothing; ranges are of GET alone
                return Response(headers=headers | {"Content-Length": str(place.size)}, media_type=place.content_type)
            try:
                part = requested_range(request.headers, place.size, etag) if _has_ranges(place) else None
            except Unsatisfiable:
                return _refused(_NO_RANGE, {"Content-Range": f"bytes */{place.size}"})
            sent = ByteRange(0, place.size, place.size) if part is None else part
            content = _content(request.app.state.objects, place, sent)
            # Before the headers are sent, so that a store that does not answer is a status and no cut response.
            first = await anext(content, b"")
        except (Unavailable, DatabaseNotMigrated):
            return _refused(_UNAVAILABLE)
        except ObjectMissing:
            return _refused(_UNKNOWN)
        headers["Content-Length"] = str(len(sent))
        if part is None:
            return StreamingResponse(_joined(first, content), 200, headers, media_type=place.content_type)
        return StreamingResponse(
            _joined(first, content), 206, headers | {"Content-Range": part.content_range}, media_type=place.content_type
        )

    return Route(item_links.PATH + "{token}", respond, methods=["GET"])


async def _joined(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async with aclosing(rest):
        async for chunk in rest:
            yield chunk


def _has_ranges(place: ItemPlace) -> bool:
    return place.storage is ItemStorage.STORED or place.size <= MAX_SKIPPED


async def _content(objects: ObjectStore, place: ItemPlace, part: ByteRange) -> AsyncGenerator[bytes]:
    """These of the unpacked bytes."""
    if place.storage is ItemStorage.STORED:
        async with aclosing(objects.stream(place.object_key, place.offset + part.start, len(part))) as stored:
            async for chunk in stored:
                yield chunk
        return
    position = 0
    async with aclosing(_unpacked(objects, place, part.end)) as unpacked:
        async for chunk in unpacked:
            position += len(chunk)
            if position > part.start:
                yield chunk[max(0, len(chunk) - (position - part.start)) :]
            else:
                await asyncio.sleep(0)  # other requests go on while one skips


async def _unpacked(objects: ObjectStore, place: ItemPlace, size: int) -> AsyncGenerator[bytes]:
    """The first `size` of the unpacked bytes, no more than the item has."""
    decompressor, remaining = zlib.decompressobj(-zlib.MAX_WBITS), size
    async with aclosing(objects.stream(place.object_key, place.offset, place.stored_size)) as stored:
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


def _refused(refusal: tuple[int, str, str], more_headers: Mapping[str, str] | None = None) -> Response:
    status, code, message = refusal
    request_id = uuid4().hex
    record_rejection(request_id, status, code)
    headers = {"Cache-Control": "no-store", **(more_headers or {}), **({"Retry-After": "1"} if status == 503 else {})}
    return Response(error_body(code, message, request_id), status, headers, "application/json")
