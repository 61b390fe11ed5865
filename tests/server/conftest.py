"""Fixtures of the server tests: a database that publishes its changes."""

from __future__ import annotations

from tests.event_writer import notifying_database

__all__ = ["notifying_database"]
