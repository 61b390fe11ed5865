"""The cookie that signs a browser in. It holds a bearer token, out of reach of the page's scripts.

A browser sends a cookie on its own. So it counts only in requests that no page of another origin can cause: over HTTP with a header that
forces a preflight, and never with a foreign `Origin`. The prefix `__Host-` keeps other hosts and plain HTTP from setting it (RFC 6265bis,
4.1.3.2). On loopback there is no TLS, and cookies do not distinguish ports, so there the name has the port.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from graph.core.session_cookie import NO_POST, SessionCookie
from server.protocol import csrf
from server.protocol.http_errors import HttpError, bad_request

if TYPE_CHECKING:
    from starlette.types import Scope

SECURE_NAME = "__Host-trellis"
NO_TLS = (
    "A browser is signed in by a cookie, which needs https, or an address of this machine such as http://127.0.0.1. Open Trellis by one of"
    " these; behind a proxy that ends TLS, set TRELLIS_PUBLIC_URL to its https address."
)
NEEDS_HEADER = (
    "The session cookie counts only with a header that pages of other sites cannot send. Add `GraphQL-Preflight: 1`, or send"
    " `Authorization: Bearer <token>` without the cookie."
)
FOREIGN_ORIGIN = (
    "The session cookie counts only for pages of this Trellis's own origin. Send `Authorization: Bearer <token>` without the cookie."
)
TWO_CREDENTIALS = "The request has the session cookie and a bearer token. Send one of them."

_LOOPBACK = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::([0-9]{1,5}))?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class CookieSite:
    """The origin that a request was sent to, as the browser knows it, and the name of the cookie there; None where there can be none."""

    origin: str
    name: str | None

    @classmethod
    def of(cls, scope: Scope, headers: Headers, public_url: str) -> CookieSite:
        host, public = headers.get("host", "").lower(), urlsplit(public_url)
        is_secure = scope["scheme"] in {"https", "wss"} or (public.scheme == "https" and public.netloc.lower() == host)
        if is_secure:
            return cls(f"https://{host}", SECURE_NAME)
        loopback = _LOOPBACK.fullmatch(host)
        return cls(f"http://{host}", f"trellis-{loopback[1] or 80}" if loopback else None)

    def token(self, headers: Headers) -> str | None:
        """The token in the cookie, wherever the request comes from; None without the cookie."""
        if self.name is None or "cookie" not in headers:
            return None
        # A client may send several Cookie headers (HTTP/2, 8.2.3).
        return cookie_parser("; ".join(headers.getlist("cookie"))).get(self.name) or None

    def is_own(self, headers: Headers) -> bool:
        """Whether the page that sent the request is one of ours."""
        return headers.get("origin", "").lower() == self.origin

    def request_token(self, headers: Headers) -> str | None:
        """The token of an HTTP request's cookie. Raises `HttpError` if a page of another site may have caused the request, or for two credentials."""
        token = self.token(headers)
        if token is None:
            return None
        if "authorization" in headers:
            raise bad_request(TWO_CREDENTIALS)
        if not any(name in headers for name in csrf.PREFLIGHT_HEADERS):
            raise HttpError(403, "FORBIDDEN", NEEDS_HEADER)
        if "origin" in headers and not self.is_own(headers):
            raise HttpError(403, "FORBIDDEN", FOREIGN_ORIGIN)
        return token

    def refusal(self, method: str, headers: Headers) -> str | None:
        """Why the answer to this request cannot set the cookie; None if it can."""
        if self.name is None:
            return NO_TLS
        if method != "POST":
            return NO_POST
        if not any(name in headers for name in csrf.PREFLIGHT_HEADERS):
            return NEEDS_HEADER
        return None if self.is_own(headers) else FOREIGN_ORIGIN

    def set_cookie(self, cookie: SessionCookie) -> str | None:
        """The `Set-Cookie` header for what a resolver decided; None where there can be no cookie."""
        if self.name is None:
            return None
        secure = "; Secure" if self.name == SECURE_NAME else ""
        value, age = ("", 0) if cookie.token is None else (cookie.token, int(cookie.lifetime))
        return f"{self.name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"
