"""A worker's attempts as spans, where the settings ask for them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from server.settings import server_settings


@contextmanager
def trace_attempts() -> Generator[None]:
    """Trace what this worker process does until the block ends."""
    if not server_settings().tracing:
        yield
        return
    from server.tracing import Spans  # an extra: not imported unless it is asked for
    from workers.runtime import telemetry

    spans = Spans("trellis-worker")
    telemetry.attempt_span = spans.attempt
    try:
        yield
    finally:
        spans.close()
