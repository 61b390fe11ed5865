"""Which kinds of jobs may have a price: those whose maker can be told that there are too few credits."""

from __future__ import annotations

MAX_CREDITS = 10**12  # credits that one line of the ledger moves at most; a million of these fit what a user may have

PRICED_KINDS = ("PROFILE", "DEDUCE_SCHEMA", "PROCESS", "TRAIN", "STUDY", "TRIAL", "EXPLAIN", "EXPORT", "IMPORT", "GENERATE")
UNPRICED_KINDS = {
    "INGEST": "`completeUpload` cannot answer that there are too few credits, so an ingest has no price.",
    "PURGE": "Nobody asks for a purge, so it has no price.",
}


def validate_prices(value: object) -> dict[str, int]:
    """The prices as they may be set, by the name of a job's kind. Raises `ValueError` with what is wrong with them."""
    if not isinstance(value, dict):
        raise ValueError('Prices are a JSON object by the kind of job: {"TRAIN": 10}.')  # noqa: TRY004 - settings tell of ValueErrors alone
    prices: dict[str, int] = {}
    for kind, price in value.items():  # pyright: ignore[reportUnknownVariableType] - looked at here
        if kind in UNPRICED_KINDS:
            raise ValueError(f"{UNPRICED_KINDS[kind]} Leave {kind} out.")
        if kind not in PRICED_KINDS:
            raise ValueError(f"There is no kind of job {kind!r} that may have a price. These may: {', '.join(PRICED_KINDS)}.")
        if isinstance(price, bool) or not isinstance(price, int) or not 0 <= price <= MAX_CREDITS:
            raise ValueError(f"The price of {kind} is {price!r}; a price is a whole number of credits from 0 to {MAX_CREDITS}.")
        prices[kind] = price
    return prices
