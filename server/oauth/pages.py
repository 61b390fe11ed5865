"""The page that tells why a sign-in by a provider ended without one."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from starlette.responses import HTMLResponse

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem;color:#1f2328;background:#fff}"
    "@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}a{color:#79b8ff}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def problem_page(message: str, status: int, request_id: str) -> HTMLResponse:
    """A page without scripts. Its texts are ours, so that nobody can make it say theirs by a link."""
    html = (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f"<title>Trellis</title>\n<style>{_STYLE}</style>\n<h1>That did not work</h1>\n<p>{escape(message)}</p>\n"
        f'<p><a href="/graphql">Back to Trellis</a></p>\n</html>\n'
    )
    policy = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return HTMLResponse(html, status, {"Content-Security-Policy": policy, "Cache-Control": "no-store", "X-Request-Id": request_id})
