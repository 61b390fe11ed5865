"""`/hooks/mail`: the mail server's provider tells what has become of mails, signed as Standard Webhooks has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from db.core.viewer import SYSTEM
from db.errors import DatabaseNotMigrated, Unavailable
from db.services.mail import callbacks
from server.protocol.callbacks import read_body, refused
from server.protocol.http_errors import HttpError

if TYPE_CHECKING:
    from server.settings import ServerSettings

PATH = "/hooks/mail"


def route(settings: ServerSettings) -> Route:
    """POST with the signature of `TRELLIS_MAIL_WEBHOOK_SECRET`; without that setting there is nothing at the address."""

    async def respond(request: Request) -> Response:
        secret = settings.mail_webhook_secret.get_secret_value()
        if not secret:
            raise HTTPException(404)
        try:
            callback = await _verified(request, secret)
            if callback is not None:
                async with request.app.state.database.work(SYSTEM) as work:
                    await callbacks.record_callback(work, callback)
        except HttpError as error:
            return refused(error)
        except (Unavailable, DatabaseNotMigrated) as error:
            return refused(HttpError(503, "UNAVAILABLE", error.message, {"Retry-After": "1"}))
        return Response(status_code=204)

    return Route(PATH, respond, methods=["POST"])


async def _verified(request: Request, secret: str) -> callbacks.Callback | None:
    body = await read_body(request)
    if not callbacks.is_signed(secret, request.headers, body):
        message = "The signature is not one of `TRELLIS_MAIL_WEBHOOK_SECRET` over this body, or is older than five minutes."
        raise HttpError(401, "UNAUTHENTICATED", message)
    try:
        return callbacks.parse(body)
    except ValueError:
        raise HttpError(400, "BAD_REQUEST", "A callback is a JSON object with `type` and `data`.") from None
