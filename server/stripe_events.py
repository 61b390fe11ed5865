"""`/hooks/stripe`: Stripe tells that a purchase of credits was paid, given up, refunded or lost to a dispute.

The signature is verified on the raw bytes. An answer other than 2xx makes Stripe send the event again, for up to three days.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from starlette.requests import Request
from starlette.routing import Route

from db.core.viewer import SYSTEM
from db.services import purchases
from db.stores import stripe
from server.metrics import PAYMENT_MISMATCHES
from server.protocol.callbacks import callback_route, read_body
from server.protocol.http_errors import HttpError

if TYPE_CHECKING:
    from db.settings import StateSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PATH = "/hooks/stripe"


def route(state: StateSettings) -> Route:
    """POST, signed with `TRELLIS_STRIPE_WEBHOOK_SECRET`; without that setting there is nothing at the address."""

    async def accept(request: Request, secret: str) -> None:
        body = await read_body(request)
        try:
            stripe.verify(body, request.headers.get("stripe-signature", ""), secret)
            notice = stripe.parse(body)
        except stripe.BadCallback as error:
            log.warning("payment_callback_refused", reason=str(error))
            raise HttpError(400, "BAD_REQUEST", str(error)) from error
        if isinstance(notice, stripe.LostDispute):
            notice = await stripe.payment_of_dispute(state, notice)
        if notice is not None:
            async with request.app.state.database.work(SYSTEM) as work:
                is_wrong = await purchases.apply(work, notice)
            if is_wrong:
                PAYMENT_MISMATCHES.inc()
                if notice.payment is not None:
                    await stripe.refund(state, notice.payment)

    return callback_route(PATH, lambda: state.stripe_webhook_secret, accept)
