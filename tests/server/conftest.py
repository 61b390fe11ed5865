"""A database whose changes are told."""

from __future__ import annotations

from tests.telling import announcing

__all__ = ["announcing"]
