"""`/hooks/stripe`: Stripe tells that a purchase of credits was paid, given up or refunded.

The signature is verified on the raw bytes. An answer other than 2xx makes Stripe send the event again, for up to three days.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from db.core.viewer import SYSTEM
from db.errors import DatabaseNotMigrated, Unavailable
from db.services import purchases
from db.stores import stripe
from server.protocol.callbacks import read_body, refused
from server.protocol.http_errors import HttpError

if TYPE_CHECKING:
    from db.settings import StateSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PATH = "/hooks/stripe"


def route(state: StateSettings) -> Route:
    """POST, signed with `TRELLIS_STRIPE_WEBHOOK_SECRET`; without that setting there is nothing at the address."""

    async def respond(request: Request) -> Response:
        secret = state.stripe_webhook_secret.get_secret_value()
        if not secret:
            raise HTTPException(404)
        try:
            body = await read_body(request)
            stripe.verify(body, request.headers.get("stripe-signature", ""), secret)
            notice = stripe.parse(body)
            if notice is not None:
                async with request.app.state.database.work(SYSTEM) as work:
                    await purchases.apply(work, notice)
        except stripe.BadCallback as error:
            log.warning("payment_callback_refused", reason=str(error))
            return refused(HttpError(400, "BAD_REQUEST", str(error)))
        except HttpError as error:
            return refused(error)
        except (Unavailable, DatabaseNotMigrated) as error:
            return refused(HttpError(503, "UNAVAILABLE", error.message, {"Retry-After": "1"}))
        return Response(status_code=204)

    return Route(PATH, respond, methods=["POST"])
