"""Requests to addresses that users name. Each name is resolved once, every address of it is checked, and that address is connected to.

`fetch` follows redirects, and each hop is checked anew; `post` follows none. Proxies and credentials of the environment are not used.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import certifi
import httpcore
import httpx

from db.core.outbound import Network, is_allowed, is_public

MAX_REDIRECTS = 5
MAX_URL_LENGTH = 2_000
CONNECT_TIMEOUT = 10.0  # seconds, for resolving too
READ_TIMEOUT = 30.0  # seconds without a byte
ANSWER_TIMEOUT = 60.0  # seconds until all headers have arrived
MIN_BYTES, MIN_BYTES_TIME = 64 * 1024, 60.0  # in each of these times; else a server could keep a worker busy with a byte now and then
_WRITTEN_AT_ONCE = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass
class FetchFailed(Exception):
    """Why nothing could be fetched. `retryable` if it may be otherwise later."""

    code: str
    message: str
    retryable: bool = False

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was written, and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


def parse_url(text: str, *, insecure: bool = False) -> httpx.URL:
    """Return the address without its fragment. Raises `ValueError`, whose text is for the user, unless it is https, or http if `insecure`."""
    if len(text) > MAX_URL_LENGTH:
        raise ValueError(f"An address has at most {MAX_URL_LENGTH:,} characters.")
    try:
        url = httpx.URL(text)
        host = url.raw_host
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise ValueError("This is not an address: write https://host/path.") from None
    if url.scheme != "https" and not (insecure and url.scheme == "http"):
        raise ValueError("An address begins with https://.")
    if url.port is not None and not 0 < url.port < 2**16:
        raise ValueError("A port is a number from 1 to 65,535.")
    if not host:
        raise ValueError("The address names no host: write https://host/path.")
    if url.userinfo:
        raise ValueError("Leave the user and the password out of the address: they would be stored and shown with it.")
    return url.copy_with(fragment=None)


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to nothing but what the check of its address allows. TLS still verifies the name that was asked for."""

    def __init__(self, allowed: Sequence[Network], *, is_encrypted: bool) -> None:
        self._backend: Any = (
            httpcore.AnyIOBackend()
        )  # Any: without anyio, which Starlette needs, the library has another class of this name
        self._allowed = allowed
        self._is_encrypted = is_encrypted

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _resolve(host, port)
        for address in addresses:
            if not is_allowed(address, self._allowed) and not (self._is_encrypted and is_public(address)):
                raise FetchFailed("ADDRESS_REFUSED", _refusal(host, is_encrypted=self._is_encrypted))
        error: Exception | None = None
        for address in addresses:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
        assert error is not None
        raise error

    async def connect_unix_socket(
        self,
        path: str,  # noqa: ARG002 - the protocol's signature, as the next two
        timeout: float | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        raise FetchFailed("ADDRESS_REFUSED", "A socket of this machine is no address.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _refusal(host: str, *, is_encrypted: bool) -> str:
    # The same text whatever the address is: it says nothing about the network of the operator.
    if not is_encrypted:
        return f"{host} is not an address to which this Trellis sends requests without TLS. Use https."
    return not_public(host)


def not_public(host: str) -> str:
    """Why nothing is sent to this host."""
    return f"{host} is not an address of the public Internet. Whoever runs this Trellis can allow networks of their own."


async def _resolve(host: str, port: int) -> list[str]:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        raise FetchFailed("HOST_UNKNOWN", f"The name {host} could not be resolved.", retryable=True) from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@cache
def ssl_context() -> ssl.SSLContext:
    """The context of the process: certificates are loaded once, those of SSL_CERT_FILE if it is set."""
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


@asynccontextmanager
async def _request(
    method: str, url: httpx.URL, allowed: Sequence[Network], sent: Mapping[str, str], content: bytes | None = None
) -> AsyncGenerator[httpcore.Response]:
    """Send a request over a connection of its own."""
    backend = _CheckedBackend(allowed, is_encrypted=url.scheme == "https")
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    headers = [(b"Host", url.netloc), (b"User-Agent", b"Trellis"), (b"Accept", b"*/*"), (b"Accept-Encoding", b"identity")]
    headers += [(name.encode(), value.encode()) for name, value in sent.items()]
    if content is not None:
        headers.append((b"Content-Length", str(len(content)).encode()))
    timeouts = {"connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT, "write": READ_TIMEOUT, "pool": CONNECT_TIMEOUT}
    async with AsyncExitStack() as stack:
        pool = httpcore.AsyncConnectionPool(ssl_context=ssl_context(), max_connections=1, network_backend=backend)
        await stack.enter_async_context(pool)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                answer = pool.stream(method, target, headers=headers, content=content, extensions={"timeout": timeouts})
                response = await stack.enter_async_context(answer)
        except TimeoutError:
            message = f"{url.host} did not begin to answer within {ANSWER_TIMEOUT:g} seconds."
            raise FetchFailed("TOO_SLOW", message, retryable=True) from None
        yield response


async def fetch(
    address: str, path: Path, *, max_bytes: int, allowed: Sequence[Network], progress: Callable[[int, int | None], None]
) -> Fetched:
    """Write what is at an address to `path`; `progress` is called with the bytes so far, and all of them if they are known.

    Without TLS, only addresses in `allowed` are connected to. Raises `FetchFailed`; on a network's errors it is retryable.
    """
    try:
        url = parse_url(address, insecure=bool(allowed))
    except ValueError as error:
        raise FetchFailed("ADDRESS_REFUSED", str(error)) from None
    for _ in range(MAX_REDIRECTS + 1):
        with _translate_errors(url.host):
            async with _request("GET", url, allowed, {}) as response:
                if response.status not in _REDIRECTS:
                    return await _write(response, path, max_bytes, progress)
                location = _header(response, b"location")
        if location is None:
            raise FetchFailed("HTTP_STATUS", f"{url.host} answered with a redirect that leads nowhere.")
        try:
            url = parse_url(str(url.join(location)), insecure=bool(allowed))
        except (ValueError, httpx.InvalidURL) as error:
            raise FetchFailed("ADDRESS_REFUSED", f"{url.host} redirects to an address that is not used: {error}") from None
    raise FetchFailed("TOO_MANY_REDIRECTS", f"{url.host} is the end of more than {MAX_REDIRECTS} redirects.")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered: a status, and its content up to some size."""

    status: int
    content: bytes


async def post(
    address: str, content: bytes, headers: Mapping[str, str], *, allowed: Sequence[Network], timeout: float, max_bytes: int
) -> Answer:
    """POST to an address and return the answer, of which at most `max_bytes` are read. A redirect is an answer like others.

    Without TLS, only addresses in `allowed` are connected to. `timeout` is for all of it, in seconds. Raises `FetchFailed`.
    """
    try:
        url = parse_url(address, insecure=bool(allowed))
    except ValueError as error:
        raise FetchFailed("ADDRESS_REFUSED", str(error)) from None
    received = bytearray()
    try:
        async with asyncio.timeout(timeout):
            with _translate_errors(url.host):
                async with _request("POST", url, allowed, headers, content) as response:
                    async for chunk in response.aiter_stream():
                        received += chunk
                        if len(received) >= max_bytes:
                            break
                    return Answer(response.status, bytes(received[:max_bytes]))
    except TimeoutError:
        raise FetchFailed("TOO_SLOW", f"{url.host} did not answer within {timeout:g} seconds.", retryable=True) from None


@contextmanager
def _translate_errors(host: str) -> Generator[None]:
    try:
        yield
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, httpcore.UnsupportedProtocol) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise FetchFailed("TLS_FAILED", f"The certificate of {host} is not valid: {error}") from None
        text = f"{type(error).__name__} {error}".strip()
        raise FetchFailed("FETCH_FAILED", f"The transfer from {host} broke off: {text}.", retryable=True) from None


async def _write(response: httpcore.Response, path: Path, max_bytes: int, progress: Callable[[int, int | None], None]) -> Fetched:
    if response.status != 200:
        is_temporary = response.status in {408, 425, 429} or response.status >= 500
        raise FetchFailed("HTTP_STATUS", f"The server answered with the status {response.status}.", retryable=is_temporary)
    if (_header(response, b"content-encoding") or "identity").lower() != "identity":
        raise FetchFailed("ENCODED", "The server sent the file compressed, which was not asked for.")
    length = _header(response, b"content-length")
    total = int(length) if length is not None and length.isdecimal() else None
    too_large = FetchFailed("TOO_LARGE", f"The file is larger than {max_bytes:,} bytes, the most that is accepted.")
    if total is not None and total > max_bytes:
        raise too_large
    digest, size, arrived = sha256(), 0, bytearray()
    checked_at, checked_size = time.monotonic(), 0
    with path.open("wb") as file:

        def write() -> None:
            file.write(arrived)
            digest.update(arrived)
            arrived.clear()

        async for chunk in response.aiter_stream():
            size += len(chunk)
            if size > max_bytes:
                raise too_large
            if (now := time.monotonic()) - checked_at > MIN_BYTES_TIME:
                if size - checked_size < MIN_BYTES:
                    message = f"The server sent fewer than {MIN_BYTES:,} bytes in {MIN_BYTES_TIME:g} seconds."
                    raise FetchFailed("TOO_SLOW", message, retryable=True)
                checked_at, checked_size = now, size
            arrived += chunk
            if len(arrived) >= _WRITTEN_AT_ONCE:  # chunks may be of one byte each
                await asyncio.to_thread(write)
                progress(size, total)
        await asyncio.to_thread(write)
        progress(size, total)
    return Fetched(size, digest.hexdigest())


def _header(response: httpcore.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1").strip() for key, value in response.headers if key.lower() == name), None)
