"""Memory that was freed and is still the process's."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress


def return_freed_memory() -> None:
    """Give the free pieces of the heap, and of Arrow's own, back to the system: each allocator keeps what another one then has to ask for anew."""
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError):  # another C library than that of GNU
        ctypes.CDLL(None).malloc_trim(0)
