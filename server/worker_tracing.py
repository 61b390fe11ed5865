"""Spans of a worker's attempts, if `TRELLIS_TRACING` is on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from server.settings import server_settings


@contextmanager
def trace_attempts() -> Generator[None]:
    """Trace the attempts of this worker process until the block ends."""
    if not server_settings().tracing:
        yield
        return
    from server.tracing import Spans  # an optional extra, imported only when tracing is on
    from workers.runtime import telemetry

    spans = Spans("trellis-worker")
    telemetry.attempt_span = spans.attempt
    try:
        yield
    finally:
        spans.close()
