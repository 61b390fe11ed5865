"""Packages of credits, which admins make and change."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy import update as update_rows

from db.core.audit import differences
from db.core.checks import Checks
from db.core.prices import MAX_CREDITS
from db.core.unique import translate_unique_violation
from db.core.viewer import SHIPPED_ACCOUNT
from db.core.work import Work
from db.errors import NameTaken, NotFound, QuotaExceeded
from db.queries.billing import MAX_PACKAGES
from db.tables import CreditPackage
from db.tables.billing import TierRestriction

MAX_PRICE = 99_999_999  # the largest amount that Stripe takes, https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts
_UNIQUE = "uq_credit_packages_owner_id_name"


@dataclass(frozen=True, slots=True)
class NewPackage:
    """A package to be sold. `price_cents` is in the currency's smallest unit, `currency` its code of ISO 4217."""

    name: str
    credits: int
    price_cents: int
    currency: str
    tier_restriction: TierRestriction = TierRestriction.NONE
    external_price_id: str | None = None


async def create(work: Work, new: NewPackage) -> UUID:
    """Raises `Forbidden` for all but admins, `InvalidInput`, `NameTaken` or `QuotaExceeded`."""
    work.viewer.require_admin()
    values = _checked(asdict(new))
    await work.run(select(func.pg_advisory_xact_lock(func.hashtextextended("credit packages", 0))))  # nobody adds one meanwhile
    count: int = await work.scalar(select(func.count()).select_from(CreditPackage))
    if count >= MAX_PACKAGES:
        raise QuotaExceeded("packages of credits", MAX_PACKAGES, count)
    with translate_unique_violation(_UNIQUE, NameTaken("package", str(values["name"]))):
        package_id: UUID = await work.scalar(insert(CreditPackage).values(owner_id=SHIPPED_ACCOUNT, **values).returning(CreditPackage.id))
    work.record("create_credit_package", "package", package_id, SHIPPED_ACCOUNT, after=values)
    return package_id


async def update(work: Work, package_id: UUID, changes: dict[str, Any]) -> UUID:
    """`changes` holds the fields to set. Purchases that have begun keep the package as it was.

    Raises `Forbidden` for all but admins, `NotFound`, `InvalidInput` or `NameTaken`.
    """
    work.viewer.require_admin()
    package = await work.first(select(*CreditPackage.__table__.c).where(CreditPackage.id == package_id).with_for_update())
    if package is None:
        raise NotFound(str(package_id))
    values = _checked(dict(changes))
    if values:
        with translate_unique_violation(_UNIQUE, NameTaken("package", str(values.get("name")))):
            await work.run(update_rows(CreditPackage).where(CreditPackage.id == package_id).values(values))
        work.record("update_credit_package", "package", package_id, package.owner_id, *differences(package, values))
    return package_id


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """Return the valid columns. Raises `InvalidInput`."""
    checks = Checks()
    checks.new_name(values, "A package")
    for column, path in (("is_active", "isActive"), ("tier_restriction", "tierRestriction"), ("currency", "currency")):
        if column in values and values[column] is None:
            checks.add(path, message="This cannot be cleared; leave the field out to keep it as it is.")
    for column, path, most in (("credits", "credits", MAX_CREDITS), ("price_cents", "priceCents", MAX_PRICE)):
        if column in values and (values[column] is None or not 1 <= values[column] <= most):
            checks.add(path, message=f"A package has from 1 to {most} here.")
    if isinstance(currency := values.get("currency"), str):
        values["currency"] = currency.upper()
        if not re.fullmatch("[A-Z]{3}", values["currency"]):
            checks.add("currency", message="Write the currency as its code of three letters, such as EUR (ISO 4217).")
    if (price_id := values.get("external_price_id")) is not None:
        values["external_price_id"] = checks.name(price_id, "externalPriceId")
    checks.raise_if_invalid()
    return values
