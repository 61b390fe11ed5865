"""`/hooks/mail`: the mail server's provider tells what has become of mails, signed as Standard Webhooks has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.routing import Route

from db.core.viewer import SYSTEM
from db.services.mail import callbacks
from server.protocol.callbacks import callback_route, read_body
from server.protocol.http_errors import HttpError

if TYPE_CHECKING:
    from server.settings import ServerSettings

PATH = "/hooks/mail"


def route(settings: ServerSettings) -> Route:
    """POST with the signature of `TRELLIS_MAIL_WEBHOOK_SECRET`; without that setting there is nothing at the address."""

    async def accept(request: Request, secret: str) -> None:
        callback = await _verified(request, secret)
        if callback is not None:
            async with request.app.state.database.work(SYSTEM) as work:
                await callbacks.record_callback(work, callback)

    return callback_route(PATH, lambda: settings.mail_webhook_secret, accept)


async def _verified(request: Request, secret: str) -> callbacks.Callback | None:
    body = await read_body(request)
    if not callbacks.is_signed(secret, request.headers, body):
        message = "The signature is not one of `TRELLIS_MAIL_WEBHOOK_SECRET` over this body, or is older than five minutes."
        raise HttpError(401, "UNAUTHENTICATED", message)
    try:
        return callbacks.parse(body)
    except ValueError:
        raise HttpError(400, "BAD_REQUEST", "A callback is a JSON object with `type` and `data`.") from None
