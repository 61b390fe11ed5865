"""Which kinds of jobs may have a price: those whose maker can be told that there are too few credits."""

from __future__ import annotations

LARGEST = 10**12  # credits that one line of the ledger moves at most; a million of these fit what a user may have

PRICED = ("PROFILE", "DEDUCE_SCHEMA", "PROCESS", "TRAIN", "STUDY", "TRIAL", "EXPLAIN", "EXPORT", "IMPORT", "GENERATE")
FREE = {
    "INGEST": "`completeUpload` cannot answer that there are too few credits, so an ingest has no price.",
    "PURGE": "Nobody asks for a purge, so it has no price.",
}


def priced(given: object) -> dict[str, int]:
    """The prices as they may be set, by the name of a job's kind. Raises `ValueError` with what is wrong with them."""
    if not isinstance(given, dict):
        raise ValueError('Prices are a JSON object by the kind of job: {"TRAIN": 10}.')  # noqa: TRY004 - settings tell of ValueErrors alone
    found: dict[str, int] = {}
    for kind, price in given.items():  # pyright: ignore[reportUnknownVariableType] - looked at here
        if kind in FREE:
            raise ValueError(f"{FREE[kind]} Leave {kind} out.")
        if kind not in PRICED:
            raise ValueError(f"There is no kind of job {kind!r} that may have a price. These may: {', '.join(PRICED)}.")
        if isinstance(price, bool) or not isinstance(price, int) or not 0 <= price <= LARGEST:
            raise ValueError(f"The price of {kind} is {price!r}; a price is a whole number of credits from 0 to {LARGEST}.")
        found[kind] = price
    return found
