"""A database whose changes are told."""

from __future__ import annotations

from tests.event_writer import notifying_database

__all__ = ["notifying_database"]
