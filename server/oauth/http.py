"""Requests to providers: short, small, without redirects, and answered in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import orjson

TIMEOUT = 5.0  # seconds for each request
MAX_BYTES = 512 * 1024  # of an answer


class ProviderError(Exception):
    """A provider did not answer, or answered what cannot be used. The text is for the operator's log."""


class ProviderHttp:
    """Sends requests to one provider."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT, follow_redirects=False, headers={"Accept": "application/json", "User-Agent": "Trellis"}
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, url: str, token: str | None = None) -> Any:
        """Return the JSON at an address. Raises `ProviderError`."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await self._send(self._client.build_request("GET", url, headers=headers))

    async def post(self, url: str, form: Mapping[str, str], auth: tuple[str, str] | None = None) -> Any:
        """Return the JSON that answers a form. Raises `ProviderError`."""
        return await self._send(self._client.build_request("POST", url, data=dict(form)), auth)

    async def _send(self, request: httpx.Request, auth: tuple[str, str] | None = None) -> Any:
        body = bytearray()
        try:
            response = await self._client.send(request, auth=auth, stream=True)
            try:
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise ProviderError(f"{request.url} answered more than {MAX_BYTES:,} bytes.")
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise ProviderError(f"{request.url} did not answer: {type(error).__name__}: {error}") from None
        if response.status_code != 200:
            raise ProviderError(f"{request.url} answered {response.status_code}: {bytes(body[:500])!r}")
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            raise ProviderError(f"{request.url} answered what is not JSON: {bytes(body[:500])!r}") from None
