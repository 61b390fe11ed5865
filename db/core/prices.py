"""Which kinds of jobs may have a price, and what a valid price is. Settings read it, so it knows kinds by the name of their enum member alone."""

from __future__ import annotations

from db.core.discovery import import_submodules

MAX_CREDITS = 10**12  # credits that one line of the ledger moves at most; a million of these fit a user's balance

# Every declared kind, and why it has no price; None where it may have one. `db.services.jobs.kinds.declare` writes it.
PRICE_REFUSALS: dict[str, str | None] = {}


def validate_prices(value: object) -> dict[str, int]:
    """Return the prices by the name of a job's kind. Raise `ValueError` with what is wrong with them."""
    if not isinstance(value, dict):
        raise ValueError('Prices are a JSON object by the kind of job: {"TRAIN": 10}.')  # noqa: TRY004 - settings report only ValueErrors
    if value:
        import_submodules("db.services")  # by name, since the layer above declares the kinds
    prices: dict[str, int] = {}
    for kind, price in value.items():  # pyright: ignore[reportUnknownVariableType] - checked here
        refusal = PRICE_REFUSALS.get(kind)  # pyright: ignore[reportUnknownArgumentType] - any key misses
        if refusal is not None:
            raise ValueError(f"{refusal} Leave {kind} out.")
        if kind not in PRICE_REFUSALS:
            priced = sorted(name for name, reason in PRICE_REFUSALS.items() if reason is None)
            raise ValueError(f"There is no kind of job {kind!r} that may have a price. These may: {', '.join(priced)}.")
        if isinstance(price, bool) or not isinstance(price, int) or not 0 <= price <= MAX_CREDITS:
            raise ValueError(f"The price of {kind} is {price!r}; a price is a whole number of credits from 0 to {MAX_CREDITS}.")
        prices[kind] = price
    return prices
