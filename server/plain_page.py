"""Pages without scripts that say a sentence or two, under a Content-Security-Policy that allows nothing else."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from starlette.responses import HTMLResponse

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem;color:#1f2328;background:#fff}"
    "button{font:inherit;padding:.5rem 1.25rem;border:0;border-radius:6px;color:#fff;background:#0a6e5c;cursor:pointer}"
    "@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}a{color:#79b8ff}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def plain_page(heading: str, content: str, status: int, request_id: str, *, has_form: bool = False) -> HTMLResponse:
    """A page of a heading, which is text, and `content`, which is HTML. It sends forms, if it has one, to its own origin alone."""
    html = (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f"<title>Trellis</title>\n<style>{_STYLE}</style>\n<h1>{escape(heading)}</h1>\n{content}\n</html>\n"
    )
    form_action = "'self'" if has_form else "'none'"
    policy = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Request-Id": request_id,
    }
    return HTMLResponse(html, status, headers)
