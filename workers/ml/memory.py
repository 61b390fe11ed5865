"""Memory that was freed and is still the process's."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def return_freed_memory() -> None:
    """Give the free pieces of the heap back to the system, where the C library can: Polars and Arrow have allocators of their own, which cannot use them."""
    with suppress(AttributeError, OSError):  # another C library than that of GNU
        ctypes.CDLL(None).malloc_trim(0)
