"""Write the README's table of metrics from the code that exports them: `python docs/metrics.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from prometheus_client.metrics import MetricWrapperBase

from db.streams import stream_metrics
from server import db_metrics, metrics, metrics_endpoint
from workers.runtime import telemetry

README = Path(__file__).parents[1] / "README.md"
PROCESSES: tuple[tuple[str, Sequence[ModuleType]], ...] = (
    ("the API processes behind one port, together", (metrics, stream_metrics)),
    ("each worker, for itself", (telemetry,)),
)


def table() -> str:
    """One row per metric: name with labels, type, which process exports it, and description."""
    rows = ["| metric | type | exported by | description |", "| --- | --- | --- | --- |"]
    return "\n".join([*rows, *(f"| {' | '.join(row)} |" for row in metric_rows())])


def metric_rows() -> Iterator[tuple[str, str, str, str]]:
    """The rows: first the metrics read from the database, then those of each process."""
    yield (
        _format_name(metrics_endpoint.SERVICE_UP.name, metrics_endpoint.SERVICE_UP.labels),
        "gauge",
        "any API process, for all",
        metrics_endpoint.SERVICE_UP.help,
    )
    for family in (*db_metrics.FAMILIES, *db_metrics.DEPRECATED_FAMILIES.values()):
        name = _format_name(family.name + "_total" * family.is_counter, family.labels)
        yield name, "counter" if family.is_counter else "gauge", "any API process, for all", family.help
    for process, modules in PROCESSES:
        for module in modules:
            for value in vars(module).values():
                if isinstance(value, MetricWrapperBase):
                    (metric,) = value.describe()
                    name = metric.name + "_total" * (metric.type == "counter")
                    yield _format_name(name, cast("Any", value)._labelnames), metric.type, process, metric.documentation  # noqa: SLF001 - it has no public name


def _format_name(name: str, labels: Sequence[str]) -> str:
    return f"`{name}{{{', '.join(labels)}}}`" if labels else f"`{name}`"


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(
        re.sub(r"(<!-- metrics -->\n).*?(<!-- /metrics -->)", lambda m: f"{m[1]}{table()}\n{m[2]}", text, flags=re.DOTALL),
        encoding="utf-8",
    )
