"""The enums of billing, published in the schema. `graph` imports them from here, so that none is used without a description."""

from __future__ import annotations

from enum import StrEnum

from db.tables.billing import TierRestriction, TransactionType
from graph.core.enums import describe

__all__ = ["GrantType", "TierRestriction", "TransactionType"]


class GrantType(StrEnum):
    """The types of ledger entries that admins write at will."""

    PURCHASE = TransactionType.PURCHASE.value
    ADJUSTMENT = TransactionType.ADJUSTMENT.value


describe(
    TransactionType,
    "What an entry of the ledger tells. What a job costs is held when it is submitted; when it ends, that is charged or released.",
    PURCHASE="Credits were bought.",
    CONSUMPTION="A job completed: what was held for it is spent.",
    REFUND="An admin gave back what a job was charged.",
    ADJUSTMENT="An admin gave or took credits, or they were taken because their payment was refunded.",
    HOLD="A job was submitted: its cost cannot be spent otherwise until it ends.",
    RELEASE="A job failed or was cancelled: what was held for it can be spent again.",
)
describe(
    GrantType,
    "Why credits are granted.",
    PURCHASE="They were paid for outside of Trellis, as by an invoice.",
    ADJUSTMENT="A gift or a correction; a negative amount takes credits away.",
)
describe(
    TierRestriction,
    "Accounts of which tier may buy a package.",
    NONE="All.",
    PRO_ONLY="Those of the tier PRO.",
    ENTERPRISE_ONLY="Those of the tier ENTERPRISE.",
)
