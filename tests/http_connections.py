"""Requests over connections that are kept, at a tenth of the CPU that httpx takes: the tests send tens of thousands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import httptools
import httpx


class HttpConnections:
    """The connections to one server, one request at a time each. Errors are those of httpx."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._host = host
        self._port = port
        self._timeout = timeout
        self._free: list[_Connection] = []

    async def post(self, path: str, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
        """Return the content of the response, whatever its status."""
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        message = b"POST %s HTTP/1.1\r\n%scontent-length: %d\r\n\r\n%s" % (path.encode(), head, len(body), body)
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._connection()
                try:
                    content = await connection.send(message)
                except BaseException:
                    connection.close()
                    raise
        except TimeoutError:
            raise httpx.ReadTimeout("") from None
        if connection.is_open:
            self._free.append(connection)
        return content

    def close(self) -> None:
        for connection in self._free:
            connection.close()
        self._free.clear()

    async def _connection(self) -> _Connection:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
        try:
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return connection


class _Connection(asyncio.Protocol):
    """One connection. The methods named `on_…` are called by the parser."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._content = bytearray()
        self._response: asyncio.Future[bytes] | None = None
        self._transport: Any = None  # uvloop's transports are no `asyncio.Transport`
        self.is_open = True

    async def send(self, message: bytes) -> bytes:
        self._response = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        return await self._response

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(httpx.RemoteProtocolError(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._end(httpx.ReadError(str(exc)) if exc else httpx.RemoteProtocolError("Server disconnected without sending a response."))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"set-cookie" and b"Max-Age=0" not in value:
            raise AssertionError("A client that keeps cookies sends its requests with httpx.")

    def on_body(self, body: bytes) -> None:
        self._content += body

    def on_message_complete(self) -> None:
        self.is_open = self.is_open and self._parser.should_keep_alive()
        if not self.is_open:
            self.close()
        content, self._content = bytes(self._content), bytearray()
        if self._response is not None and not self._response.done():
            self._response.set_result(content)

    def _end(self, error: Exception) -> None:
        if self._response is not None:
            with suppress(asyncio.InvalidStateError):
                self._response.set_exception(error)
