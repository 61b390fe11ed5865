"""`/mail-previews`: each mail with made-up names, as a page, for whoever changes its template. It needs no sign-in, and shows nothing of anybody."""

from __future__ import annotations

from html import escape
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from db.services.mail.previews import previews
from db.settings import StateSettings
from server.plain_page import plain_page
from server.settings import ServerSettings

PATH = "/mail-previews"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"  # styles of mails are inline


def routes(settings: ServerSettings, state: StateSettings) -> list[Route]:
    """Without `TRELLIS_MAIL_PREVIEWS` there is nothing at these addresses."""

    async def list_all(_request: Request) -> Response:
        _require_on(settings)
        links = "".join(
            f'<li><a href="{PATH}/{name}.html">{name}</a> (<a href="{PATH}/{name}.txt">text</a>): {escape(mail.subject)}</li>\n'
            for name, mail in previews(state).items()
        )
        return plain_page("Mails", f"<ul>\n{links}</ul>", 200, uuid4().hex)

    async def show(request: Request) -> Response:
        _require_on(settings)
        name, _, kind = request.path_params["file"].rpartition(".")
        mail = previews(state).get(name)
        if mail is None or kind not in {"html", "txt"}:
            raise HTTPException(404)
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
        return HTMLResponse(mail.html, headers=headers) if kind == "html" else PlainTextResponse(mail.text, headers=headers)

    return [Route(PATH, list_all), Route(PATH + "/{file}", show)]


def _require_on(settings: ServerSettings) -> None:
    if not settings.mail_previews:
        raise HTTPException(404)
