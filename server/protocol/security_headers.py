"""Security headers of every response of this process."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def security_headers(hsts: int) -> dict[str, str]:
    """The headers. `hsts` is the max-age in seconds; 0 leaves Strict-Transport-Security to the proxy that ends TLS."""
    return {**SECURITY_HEADERS, **({"Strict-Transport-Security": f"max-age={hsts}; includeSubDomains"} if hsts else {})}


class SecurityHeaders:
    """ASGI middleware that adds the headers that a response does not set itself."""

    def __init__(self, app: ASGIApp, hsts: int = 0) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in security_headers(hsts).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                raw_headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
                names = {name for name, _ in raw_headers}
                message["headers"] = raw_headers + [header for header in self._headers if header[0] not in names]
                if b"vary" in names:  # the CORS middleware may have repeated a part of it
                    headers = MutableHeaders(scope=message)
                    parts = headers["vary"].split(",")
                    if len(parts) > 2:
                        headers["vary"] = ", ".join(dict.fromkeys(part.strip() for part in parts))
            await send(message)

        await self._app(scope, receive, send_with_headers)
