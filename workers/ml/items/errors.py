"""What is wrong with one item."""

from __future__ import annotations


class NoSignal(Exception):
    """The bytes are no signal that can be read; the message says why."""
