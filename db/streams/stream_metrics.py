"""Prometheus metrics of the streams of a process."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

FOLLOWERS = Gauge("trellis_stream_subscribers", "Open subscriptions, as of the last second.", ["stream"], multiprocess_mode="livesum")
FOLLOWED_JOBS = Gauge(
    "trellis_stream_jobs", "Jobs that somebody follows, as of the last second; once for each process.", multiprocess_mode="livesum"
)
DELIVERIES = Counter(
    "trellis_stream_deliveries", "Events handed to subscriptions, whether read for all of them at once or for one.", ["stream"]
)
REREADS = Counter(
    "trellis_stream_rereads", "Times that a subscription had fallen behind what is kept in memory, and read rows by itself.", ["stream"]
)
LAG = Histogram(
    "trellis_stream_lag_seconds",
    "From an event's stamp by the database's clock to its being handed to its subscriptions by this process's.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
