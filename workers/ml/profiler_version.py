"""The version of the profiler. It stands alone, so that a worker knows it without importing the profiler's libraries."""

from __future__ import annotations

from typing import Final

PROFILER_VERSION: Final = "1"
"""Raise it with whatever changes a statistic: profiles of another version are computed again on request, and stay beside the new one."""
