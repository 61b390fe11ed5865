"""Validation of job prices. The settings import it, so it knows job kinds only by the name of their enum member."""

from __future__ import annotations

from db.core.discovery import import_submodules

MAX_CREDITS = 10**12  # credits that one ledger entry moves at most; a user's balance (bigint) holds a million times as many

# Why a declared kind has no price, None if it may have one. Filled by `db.services.jobs.kinds.declare`.
PRICE_REFUSALS: dict[str, str | None] = {}


def validate_prices(value: object) -> dict[str, int]:
    """Return the prices by name of the job kind. Raises `ValueError` with a message for operators."""
    if not isinstance(value, dict):
        raise ValueError('Prices are a JSON object by job kind: {"TRAIN": 10}.')  # noqa: TRY004 - settings report only ValueErrors
    if value:
        import_submodules("db.services")  # by name: the layer above declares the kinds
    prices: dict[str, int] = {}
    for kind, price in value.items():  # pyright: ignore[reportUnknownVariableType] - checked here
        refusal = PRICE_REFUSALS.get(kind)  # pyright: ignore[reportUnknownArgumentType] - any key misses
        if refusal is not None:
            raise ValueError(f"{refusal} Leave {kind} out.")
        if kind not in PRICE_REFUSALS:
            priced = sorted(name for name, reason in PRICE_REFUSALS.items() if reason is None)
            raise ValueError(f"There is no job kind {kind!r} that may have a price. These may: {', '.join(priced)}.")
        if isinstance(price, bool) or not isinstance(price, int) or not 0 <= price <= MAX_CREDITS:
            raise ValueError(f"The price of {kind} is {price!r}; a price is a whole number of credits from 0 to {MAX_CREDITS}.")
        prices[kind] = price
    return prices
