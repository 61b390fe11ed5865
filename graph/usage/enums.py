"""Enums of the API's use."""

from __future__ import annotations

from db.queries.usage import UsageGranularity
from graph.core.enums import describe

__all__ = ["UsageGranularity"]

describe(
    UsageGranularity,
    "The length of the periods that requests are summed over.",
    HOUR="Hours.",
    DAY="Days of UTC.",
)
