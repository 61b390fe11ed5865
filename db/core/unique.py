"""Translate the violation of a unique index into the error that users read."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from asyncpg import UniqueViolationError
from sqlalchemy.exc import IntegrityError

from db.errors import StateError


@contextmanager
def translate_unique_violation(index: str, replacement: StateError) -> Generator[None]:
    """Raise `replacement` if a statement in the block violates the unique `index`; other errors pass."""
    try:
        yield
    except IntegrityError as error:
        if violated_unique_index(error) == index:
            raise replacement from None
        raise


def violated_unique_index(error: IntegrityError) -> str | None:
    """The name of the unique index that a statement violates, of a partitioned table that of a partition; None for another violation."""
    cause = error.orig.__cause__ if error.orig is not None else None
    return getattr(cause, "constraint_name", None) if isinstance(cause, UniqueViolationError) else None
