"""Which values of a metric are better."""

from __future__ import annotations

from enum import StrEnum


class Goal(StrEnum):
    """Which values of a metric are better."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"
