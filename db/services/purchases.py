"""Purchases of credits through a payment provider: a checkout is made, and the provider tells when it is paid.

A purchase is a row with all that it is worth, so that no callback decides an amount or an account. What a callback does, its id and the entry of the
ledger are one transaction; callbacks of one purchase wait for each other at its row, may come in any order, and each takes effect once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.policy import visible_or_shipped
from db.core.viewer import UserRole, UserTier, Viewer
from db.core.work import Database, Work
from db.errors import Forbidden, NotFound, QuotaExceeded, Unavailable, Unsupported, WrongState, invalid
from db.queries.storage import payer
from db.services import credits, idempotency
from db.settings import state_settings
from db.stores.stripe import PaymentNotice, PaymentOutcome, create_checkout
from db.tables import CreditPackage, CreditPurchase, PaymentEvent, User
from db.tables.billing import PurchaseStatus, TierRestriction, TransactionType

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MAX_OPEN = 20  # purchases of an account that were begun within a day and are neither paid nor given up
CHECKOUT_RETRY = timedelta(hours=23)  # for which the provider makes the same checkout again, with an hour's margin
_TIERS = {TierRestriction.PRO_ONLY: UserTier.PRO, TierRestriction.ENTERPRISE_ONLY: UserTier.ENTERPRISE}
_NO_PROVIDER = "Credits cannot be bought here, as no payment provider is set up. Ask an admin, who gives credits by `grantCredits`."


@dataclass(frozen=True, slots=True)
class NewPurchase:
    """The package to buy, for an account: a team, or the viewer if None."""

    package_id: UUID
    account_id: UUID | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Purchased:
    """Where to pay; or the entry of the ledger, if the purchase was sent again and has been paid meanwhile."""

    checkout_url: str | None
    transaction_id: UUID | None


async def purchase(database: Database, viewer: Viewer, new: NewPurchase) -> Purchased:
    """Begin a purchase and make its checkout. A process that dies in between leaves a purchase that nobody can pay; with the idempotency key, it goes on.

    Raises `Unsupported` without a payment provider, `NotFound`, `InvalidInput`, `Forbidden`, `WrongState`, `Conflict`, `QuotaExceeded` or `Unavailable`.
    """
    if state_settings().payment_provider == "manual":
        raise Unsupported(_NO_PROVIDER)
    async with database.work(viewer) as work:
        begun = await _begin(work, new)
    if begun.status is PurchaseStatus.COMPLETED or begun.checkout_url is not None:
        return Purchased(begun.checkout_url if begun.status is PurchaseStatus.OPEN else None, begun.transaction_id)
    try:
        checkout = await create_checkout(state_settings(), begun)
    except Unavailable:
        if new.idempotency_key is None:  # nobody can go on with it
            async with database.work(viewer) as work:
                await _set_expired(work, begun.id)
        raise
    async with database.work(viewer) as work:
        values = {"checkout_url": checkout.url, "external_reference": checkout.reference}
        await work.run(update(CreditPurchase).where(CreditPurchase.id == begun.id).values(values))
    return Purchased(checkout.url, None)


async def _begin(work: Work, new: NewPurchase) -> Row[Any]:
    work.viewer.require_write()
    account_id = work.viewer.owner_of_new(new.account_id)
    if account_id != work.viewer.id and work.viewer.role_in(account_id) is not UserRole.ADMIN:
        raise Forbidden("Only its ADMINs buy credits for a team.")
    request = {"package_id": new.package_id, "account_id": account_id}
    stored = await idempotency.recall(work, "purchaseCredits", new.idempotency_key, request)
    if stored is not None:
        begun = await work.one(
            select(*CreditPurchase.__table__.c, func.now().label("now")).where(CreditPurchase.id == UUID(stored["purchase"]))
        )
        is_too_late = begun.checkout_url is None and begun.now - begun.created_at > CHECKOUT_RETRY
        if begun.status is PurchaseStatus.EXPIRED or (begun.status is PurchaseStatus.OPEN and is_too_late):
            raise WrongState(
                "EXPIRED",
                "The purchase with this idempotency key was not paid in time, or not as it should. Use a new key to buy the package.",
            )
        return begun
    package = await work.first(
        select(*CreditPackage.__table__.c).where(CreditPackage.id == new.package_id, visible_or_shipped(CreditPackage, work.viewer))
    )
    if package is None:
        raise NotFound(str(new.package_id))
    await _require_sale(work, package, account_id)
    await work.run(select(func.pg_advisory_xact_lock(func.hashtextextended(f"purchases {account_id}", 0))))  # nobody begins one meanwhile
    is_open = (CreditPurchase.owner_id == account_id, CreditPurchase.status == PurchaseStatus.OPEN)
    is_recent = CreditPurchase.created_at > func.now() - timedelta(days=1)
    count: int = await work.scalar(select(func.count()).select_from(CreditPurchase).where(*is_open, is_recent))
    if count >= MAX_OPEN:
        raise QuotaExceeded("purchases that are not paid, of one day", MAX_OPEN, count)
    copied = {name: getattr(package, name) for name in ("name", "credits", "price_cents", "currency", "external_price_id")}
    values = {"owner_id": account_id, "package_id": package.id, "created_by_id": work.viewer.maker_id, **copied}
    begun = await work.one(insert(CreditPurchase).values(values).returning(*CreditPurchase.__table__.c))
    await idempotency.remember(work, new.idempotency_key, {"purchase": str(begun.id)})
    after = {"package": package.name, "credits": package.credits, "price_cents": package.price_cents, "currency": package.currency}
    work.record("purchase_credits", "user", account_id, account_id, after=after)
    return begun


async def _require_sale(work: Work, package: Row[Any], account_id: UUID) -> None:
    if not package.is_active:
        raise WrongState("INACTIVE", "This package is not sold any more; `creditPackages` has those that are.")
    columns = (User.tier, payer(literal(account_id)).label("payer_id"))
    account = await work.one(select(*columns).where(User.id == account_id))
    if account.payer_id != account_id:
        raise invalid(
            "accountId", message="Jobs of this team are paid by whoever made it, until an admin gives the team a quota of its own."
        )
    tier = _TIERS.get(package.tier_restriction)
    if tier is not None and account.tier is not tier:
        message = f"This package is for accounts of the tier {tier.name}, and this one has {account.tier.name}; an admin sets tiers."
        raise invalid("packageId", message=message)


async def _set_expired(work: Work, purchase_id: UUID) -> None:
    is_open = (CreditPurchase.id == purchase_id, CreditPurchase.status == PurchaseStatus.OPEN)
    await work.run(update(CreditPurchase).where(*is_open).values(status=PurchaseStatus.EXPIRED))


async def apply(work: Work, notice: PaymentNotice) -> bool:
    """Do what an event of the provider says, once. A payment is credited even if the purchase was given up: the money has been taken.

    Returns whether the payment has to be sent back, because it is not what the purchase costs; also if the event comes again, as whoever got it first
    may have died.
    """
    found = await work.first(select(*CreditPurchase.__table__.c).where(CreditPurchase.id == notice.purchase_id).with_for_update())
    if found is None:
        log.error("payment_without_purchase", event_id=notice.event_id, purchase=str(notice.purchase_id))
        return False
    mismatch = _mismatch(found, notice)
    event = {"event_id": notice.event_id, "type": notice.type, "purchase_id": found.id, "refused": mismatch}
    inserted = upsert(PaymentEvent).values(event).on_conflict_do_nothing().returning(PaymentEvent.event_id)
    if await work.first(inserted) is None:
        return await work.scalar(select(PaymentEvent.refused).where(PaymentEvent.event_id == notice.event_id)) is not None
    match notice.outcome:
        case PaymentOutcome.PAID:
            if mismatch is not None:
                log.error(
                    "payment_mismatch", event_id=notice.event_id, purchase=str(found.id), account=str(found.owner_id), reason=mismatch
                )
                await _set_expired(work, found.id)
            elif found.status is not PurchaseStatus.COMPLETED and _is_its_checkout(found, notice):
                reference = notice.reference or found.id.hex
                work.before_commit(found.owner_id, lambda: _credit(work, found, reference))
        case PaymentOutcome.FAILED:
            if _is_its_checkout(found, notice):
                await _set_expired(work, found.id)
        case PaymentOutcome.REFUNDED:
            refunded = max(found.refunded, int(found.credits * notice.share))
            await _give_back(work, found, "refunded", refunded=refunded, disputed=found.disputed)
        case PaymentOutcome.DISPUTED:
            disputed = min(found.credits, found.disputed + int(found.credits * notice.share))
            await _give_back(work, found, "disputed, and the dispute was lost", refunded=found.refunded, disputed=disputed)
    return mismatch is not None


def _mismatch(found: Row[Any], notice: PaymentNotice) -> str | None:
    """What is wrong with the payment of the purchase's own checkout, if something is, such as another price behind `external_price_id`."""
    is_its = found.external_reference in (None, notice.reference)
    if notice.outcome is not PaymentOutcome.PAID or found.status is PurchaseStatus.COMPLETED or not is_its:
        return None
    paid = (notice.amount, (notice.currency or "").upper())
    if paid == (found.price_cents, found.currency):
        return None
    return f"{paid[0]} {paid[1]} were paid, and the package costs {found.price_cents} {found.currency}."


async def _give_back(work: Work, found: Row[Any], happened: str, *, refunded: int, disputed: int) -> None:
    """Keep of how many credits the payment was given back, and take them if the purchase was credited; else they are taken off the payment."""
    await work.run(update(CreditPurchase).where(CreditPurchase.id == found.id).values(refunded=refunded, disputed=disputed))
    if found.status is PurchaseStatus.COMPLETED:
        work.before_commit(found.owner_id, lambda: _take_back(work, found, found.external_reference, refunded + disputed, happened))


def _is_its_checkout(found: Row[Any], notice: PaymentNotice) -> bool:
    """Whether the event is of the checkout that was made for the purchase; its id is not known yet if a process died before it was stored."""
    if found.external_reference in (None, notice.reference):
        return True
    log.error("payment_of_another_checkout", event_id=notice.event_id, purchase=str(found.id), reference=notice.reference)
    return False


async def _credit(work: Work, found: Row[Any], reference: str) -> None:
    note = f"Bought: {found.name}."
    payment = (found.package_id, reference)
    written = await credits.write_entry(work, found.owner_id, TransactionType.PURCHASE, found.credits, note=note, payment=payment)
    values = {"status": PurchaseStatus.COMPLETED, "transaction_id": written.id, "external_reference": reference}
    await work.run(update(CreditPurchase).where(CreditPurchase.id == found.id).values(values))
    await _take_back(work, found, reference, found.refunded + found.disputed, "given back")


async def _take_back(work: Work, found: Row[Any], reference: str, given_back: int, happened: str) -> None:
    """Take the credits whose payment was given back, as far as the account still has them; the row keeps how many those were."""
    due = min(given_back, found.credits) - found.taken_back
    if due <= 0:
        return
    available: int = await work.scalar(select(User.credit_balance).where(User.id == found.owner_id).with_for_update())
    taken = min(due, available)
    if taken:
        note, payment = f"The payment was {happened}: {found.name}.", (found.package_id, reference)
        await credits.write_entry(work, found.owner_id, TransactionType.ADJUSTMENT, -taken, note=note, payment=payment)
        await work.run(update(CreditPurchase).where(CreditPurchase.id == found.id).values(taken_back=found.taken_back + taken))
    if taken < due:
        log.warning("refund_exceeds_credits", purchase=str(found.id), account=str(found.owner_id), missing=due - taken)
