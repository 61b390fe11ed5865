"""CSRF prevention: pages of other origins cannot run operations through a visitor's browser.

A POST body must be JSON, which a browser sends to another origin only after a preflight. A GET needs no preflight by itself, so it must
have a header that forces one, or Fetch Metadata headers, which pages cannot forge, that show that it is not cross-site.
"""

from __future__ import annotations

from starlette.datastructures import Headers

from server.protocol.http_errors import HttpError

# None is CORS-safelisted (Fetch, 2.2.2), so each forces a preflight, which only allowed origins pass.
PREFLIGHT_HEADERS = ("graphql-preflight", "apollo-require-preflight", "x-apollo-operation-name", "x-requested-with")

_SIMPLE_CONTENT_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
_SAME_SITES = frozenset({"same-origin", "none"})


def check_get(headers: Headers) -> None:
    """Raises `HttpError` for a GET that a page of another origin may have caused."""
    if "authorization" in headers or any(name in headers for name in PREFLIGHT_HEADERS):
        return
    content_type = headers.get("content-type")
    if content_type is not None and content_type.split(";")[0].strip().lower() not in _SIMPLE_CONTENT_TYPES and "/" in content_type:
        return
    # Browsers send all Sec-Fetch headers or, without TLS, none; other clients, such as Node, may send the mode alone.
    site = headers.get("sec-fetch-site")
    if site in _SAME_SITES or (site is None and "sec-fetch-mode" in headers and "origin" not in headers):
        return
    raise HttpError(
        400,
        "BAD_REQUEST",
        "This GET could have been caused by a page of another site. Add the header `GraphQL-Preflight: 1`, or send a POST with"
        " `Content-Type: application/json`.",
    )
