"""`/unsubscribe/<token>`: stop the mails that a link is for, with one click (RFC 8058).

POST changes the preference, whoever sends it: programs of mail do, without cookies. GET, which programs send to look at links, shows a page with a
button and changes nothing. Neither signs anybody in.
"""

from __future__ import annotations

from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from db.core.audit import AuditOrigin, Origin, acting
from db.core.viewer import SYSTEM
from db.errors import DatabaseNotMigrated, NotFound, Unavailable
from db.services import notifications
from db.services.mail import unsubscribing
from db.settings import StateSettings
from server.observability import record_rejection
from server.plain_page import plain_page

_REFUSALS = {
    404: ("NOT_FOUND", "This link is not one of ours, or its account is gone. Nothing was changed."),
    410: ("EXPIRED", "This link has expired. Nothing was changed; a newer mail has another one."),
    503: ("UNAVAILABLE", "This cannot be changed at the moment. Try again in a few seconds."),
}


def route(state: StateSettings) -> Route:
    async def respond(request: Request) -> Response:
        request_id = uuid4().hex
        link = unsubscribing.read(state, request.path_params["token"])
        if link is None:
            return _refused(404, request_id)
        if link.is_expired:
            return _refused(410, request_id)
        names = ", ".join(f"<b>{event_type.name}</b>" for event_type in link.event_types)
        if request.method != "POST":
            button = '<form method="post"><button name="List-Unsubscribe" value="One-Click">Stop these mails</button></form>'
            return plain_page(
                "Stop these mails?", f"<p>You would be mailed no more of {names}.</p>\n{button}", 200, request_id, has_form=True
            )
        origin = Origin(AuditOrigin.API, request.client.host if request.client else None, request_id)
        try:
            with acting(origin):
                async with request.app.state.database.work(SYSTEM) as work:
                    await notifications.stop_mails(work, link.user_id, link.event_types)
        except NotFound:
            return _refused(404, request_id)
        except (Unavailable, DatabaseNotMigrated):
            return _refused(503, request_id)
        said = f"<p>You are mailed no more of {names}. <code>setNotificationPreference</code> turns it on again.</p>"
        return plain_page("Done", said, 200, request_id)

    return Route(unsubscribing.PATH + "{token}", respond, methods=["GET", "POST"])


def _refused(status: int, request_id: str) -> Response:
    code, message = _REFUSALS[status]
    record_rejection(request_id, status, code)
    return plain_page("That did not work", f"<p>{message}</p>", status, request_id)
