"""The page that tells why a sign-in by a provider ended without one."""

from __future__ import annotations

from html import escape

from starlette.responses import HTMLResponse

from server.plain_page import plain_page


def problem_page(message: str, status: int, request_id: str) -> HTMLResponse:
    """A page without scripts. Its texts are ours, so that nobody can make it say theirs by a link."""
    return plain_page("That did not work", f'<p>{escape(message)}</p>\n<p><a href="/graphql">Back to Trellis</a></p>', status, request_id)
