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
        cause = error.orig.__cause__ if error.orig is not None else None
        if isinstance(cause, UniqueViolationError) and getattr(cause, "constraint_name", None) == index:
            raise replacement from None
        raise
