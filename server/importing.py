"""How a process imports what it runs."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def importing() -> Generator[None]:
    """Import a process's modules without garbage collection.

    An import makes hardly any garbage, and the collector would walk through all that is imported again and again: a quarter of a start's CPU time.
    What is imported stays, so that later collections leave it out too.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
