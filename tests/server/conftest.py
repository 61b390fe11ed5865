"""Fixtures of the server tests: a database that publishes its changes, a browser and the page built for it."""

from __future__ import annotations

from tests.event_writer import notifying_database
from tests.server.console_page import browser, built_console

__all__ = ["browser", "built_console", "notifying_database"]
