"""The reverse proxy through which clients reach the embedded S3 server; a program of its own, `python -m server.embedded.s3_proxy`.

rclone 1.75 answers a satisfiable range with status 200 and the checksum of the whole object, several ranges with 501, a suffix longer than the
object with 416, ignores If-Range, and has one ETag, `""`, for all objects; its CORS preflights allow no `x-amz-*` header. Here ranges are answered
as RFC 9110 (section 14) and S3 have it, and everything else is passed on as it comes: bodies in chunks and under back-pressure, and Host and the
target unchanged, since they are signed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs

import uvloop
from aiohttp import ClientConnectionError, ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector, hdrs, web
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict
from yarl import URL

HEAD_TIMEOUT = 10.0  # seconds within which a request's head must be complete; rclone has the same
KEEP_ALIVE_TIMEOUT = 60.0
CONNECT_TIMEOUT = 5.0
BUFFER_BYTES = 256 * 1024
MAX_HEAD_BYTES = 65536  # presigned URLs contain the file name
HOP_BY_HOP = ("Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade")
SINGLE_RANGE = re.compile(r"bytes\s*=\s*(\d{1,30})?\s*-\s*(\d{1,30})?", re.IGNORECASE | re.ASCII)
MAX_POSITION = 2**62  # rclone refuses a range with a larger number
WHOLE_CHECKSUMS = ("x-amz-checksum-", "x-amz-content-sha256", "x-amz-sdk-checksum-")
EXPOSED_HEADERS = "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, Last-Modified"
ANY_ORIGIN = "*"  # the signature protects objects, not the origin

log = logging.getLogger(__name__)


class S3Proxy:
    """Handles the requests for one S3 server, `upstream`."""

    def __init__(self, upstream: str, session: ClientSession) -> None:
        self._upstream = upstream
        self._session = session

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
            return _preflight_response(request)
        if hdrs.AUTHORIZATION in request.headers and "X-Amz-Signature=" in request.rel_url.raw_query_string:
            return _error_response(400, "InvalidArgument", "A presigned URL needs no Authorization header. Send the request without it.")
        try:
            async with AsyncExitStack() as stack:
                return await self._respond(request, stack)
        except ClientConnectionError:
            if request.transport is None:  # the client has left
                raise
            log.warning("The S3 server does not answer.", exc_info=True)
            return _unavailable_response()

    async def _respond(self, request: web.BaseRequest, stack: AsyncExitStack) -> web.StreamResponse:
        headers = _end_to_end(request.headers)
        is_signed = "range" in _signed_headers(request)
        requested = None if is_signed else _take_range(request.method, headers)
        whole = headers.copy()
        if requested is not None:
            headers[hdrs.RANGE] = requested.header
        response = await stack.enter_async_context(self._send(request, headers))
        if requested is None or response.status not in (200, 416):
            return await _relay(request, response)
        if response.status == 416:
            response = await stack.enter_async_context(self._send(request, whole))  # for the size, and the validators of If-Range
        if (validator := request.headers.get(hdrs.IF_RANGE)) is not None and not _is_current(validator, response):
            is_whole = hdrs.CONTENT_RANGE not in response.headers
            return await _relay(request, response if is_whole else await stack.enter_async_context(self._send(request, whole)))
        if response.status == 200 and hdrs.CONTENT_RANGE not in response.headers:
            size = response.content_length or 0
            if not (requested.suffix and size):
                return _unsatisfiable_response(size)
            return await _relay(request, response, content_range=f"bytes 0-{size - 1}/{size}")
        return await _relay(request, response)

    @asynccontextmanager
    async def _send(self, request: web.BaseRequest, headers: CIMultiDict[str]) -> AsyncGenerator[ClientResponse]:
        expects = "100-continue" in request.headers.get(hdrs.EXPECT, "").lower()

        async def body() -> AsyncGenerator[bytes]:
            if expects:  # by now the S3 server has asked for the body, as it does after checking the signature
                await _continue(request)
            async for chunk in request.content.iter_any():
                yield chunk

        async with self._session.request(
            request.method,
            # Passed on as it is: the client would normalise a URL that is not marked as encoded, and the signature would not hold.
            URL(self._upstream + request.rel_url.raw_path_qs, encoded=True),
            headers=headers,
            data=body() if request.can_read_body else None,
            expect100=expects and request.can_read_body,
            allow_redirects=False,
        ) as response:
            yield response


async def _relay(request: web.BaseRequest, upstream: ClientResponse, content_range: str | None = None) -> web.StreamResponse:
    headers = _end_to_end(upstream.headers)
    if content_range is not None:
        headers[hdrs.CONTENT_RANGE] = content_range
    is_partial = upstream.status == 200 and hdrs.CONTENT_RANGE in headers
    if is_partial:
        for name in [name for name in headers if name.lower().startswith(WHOLE_CHECKSUMS)]:
            del headers[name]
    if headers.get(hdrs.ETAG) == '""' and (etag := _etag(upstream)):
        headers[hdrs.ETAG] = etag
    headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED_HEADERS
    response = web.StreamResponse(status=206 if is_partial else upstream.status, headers=headers)
    await response.prepare(request)
    try:
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
    except ClientError:
        if request.transport is not None:
            request.transport.abort()  # an orderly end would pass off the part as the whole
        raise
    await response.write_eof()
    return response


@dataclass(frozen=True, slots=True)
class ByteRange:
    """From `first` to `last` or the end; or the last `suffix` bytes."""

    first: int | None
    last: int | None
    suffix: int | None

    @property
    def header(self) -> str:
        return f"bytes=-{self.suffix}" if self.first is None else f"bytes={self.first}-{'' if self.last is None else self.last}"


def _take_range(method: str, headers: CIMultiDict[str]) -> ByteRange | None:
    """Remove the range from `headers`, and return it if it is to be answered: RFC 9110 lets a server ignore any other, and S3 does."""
    ranges = headers.popall(hdrs.RANGE, [])
    match = SINGLE_RANGE.fullmatch(ranges[0].strip()) if method == hdrs.METH_GET and len(ranges) == 1 else None
    if match is None:
        return None
    first, last = (None if digits is None else min(int(digits), MAX_POSITION) for digits in match.groups())
    if first is None:
        return None if last is None else ByteRange(None, None, last)
    return None if last is not None and last < first else ByteRange(first, last, None)


def _is_current(validator: str, response: ClientResponse) -> bool:
    """Whether an If-Range validator is this object's: a strong ETag, or the exact Last-Modified."""
    return validator.strip() in (_etag(response), response.headers.get(hdrs.LAST_MODIFIED))


def _etag(response: ClientResponse) -> str | None:
    """An ETag of the time and the size, as web servers make them of files: objects are not changed in place."""
    size = response.headers.get(hdrs.CONTENT_RANGE, "").rpartition("/")[2] or response.headers.get(hdrs.CONTENT_LENGTH)
    modified = response.headers.get(hdrs.LAST_MODIFIED)
    if size is None or not size.isdecimal() or modified is None:
        return None
    return f'"{int(parsedate_to_datetime(modified).timestamp()):x}-{int(size):x}"'


def _signed_headers(request: web.BaseRequest) -> set[str]:
    """Names of the headers that the request's signature covers, in lower case: removing one of them would invalidate it."""
    in_query = parse_qs(request.rel_url.raw_query_string).get("X-Amz-SignedHeaders", [""])[0]
    in_header = re.search(r"SignedHeaders=([^,\s]*)", request.headers.get(hdrs.AUTHORIZATION, ""))
    return {*in_query.lower().split(";"), *(in_header[1].lower().split(";") if in_header else ())}


def _end_to_end(headers: Any) -> CIMultiDict[str]:
    """A copy without the headers that concern one connection only."""
    copy: CIMultiDict[str] = CIMultiDict(headers)
    listed = (name.strip() for value in copy.getall(hdrs.CONNECTION, []) for name in value.split(","))
    for name in (*filter(None, listed), *HOP_BY_HOP, hdrs.EXPECT):
        copy.popall(name, None)
    return copy


def _preflight_response(request: web.BaseRequest) -> web.Response:
    """Let pages of any origin send any header, as a declared `x-amz-checksum-sha256`."""
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: ANY_ORIGIN,
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, HEAD, PUT",
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, ""),
        hdrs.ACCESS_CONTROL_MAX_AGE: "86400",
    }
    return web.Response(headers=headers)


def _unsatisfiable_response(size: int) -> web.Response:
    return _error_response(416, "InvalidRange", "The requested range is not satisfiable", {hdrs.CONTENT_RANGE: f"bytes */{size}"})


def _unavailable_response() -> web.Response:
    return _error_response(503, "ServiceUnavailable", "The object store is temporarily unavailable", {hdrs.RETRY_AFTER: "1"})


def _error_response(status: int, code: str, message: str, headers: Mapping[str, str] = MappingProxyType({})) -> web.Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    own = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: ANY_ORIGIN, hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: EXPOSED_HEADERS}
    return web.Response(status=status, text=text, content_type="application/xml", headers={**own, **headers})


async def _continue(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


class Connection(RequestHandler):
    """A client's connection, with a timeout for the head of its first request; between requests the keep-alive timeout holds."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_timer = asyncio.get_running_loop().call_later(HEAD_TIMEOUT, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.head_received()
        super().connection_lost(exc)

    def head_received(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class ConnectionFactory(web.Server):
    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


async def serve(host: str, port: int, upstream: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with ClientSession(
        # A connection a request: one that was kept could be closed by the server just as a body that cannot be sent again sets out.
        connector=TCPConnector(limit=0, force_close=True),
        timeout=ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
        auto_decompress=False,
        read_bufsize=BUFFER_BYTES,
        max_line_size=MAX_HEAD_BYTES,
        max_field_size=MAX_HEAD_BYTES,
        skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT),
    ) as session:
        proxy = S3Proxy(upstream, session)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if isinstance(request.protocol, Connection):
                request.protocol.head_received()
            return await proxy.handle(request)

        server = ConnectionFactory(
            handle,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            read_bufsize=BUFFER_BYTES,
            keepalive_timeout=KEEP_ALIVE_TIMEOUT,
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
        )
        runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            await stopped.wait()
        finally:
            await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(prog="s3_proxy")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--upstream", required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    uvloop.run(serve(arguments.host, arguments.port, arguments.upstream))


if __name__ == "__main__":
    main()
