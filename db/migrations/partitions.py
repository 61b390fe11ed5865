"""Exclude partitions from Alembic's comparison: a database function creates them, the tables in code do not declare them."""

from __future__ import annotations

import re

_PARTITION = re.compile(r"(job_events|metric_points|audit_events|api_requests)_(default|\d{4}_\d{2})(_.*)?")


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    """Alembic's `include_name`: False for partitions and their indexes."""
    return kind not in {"table", "index"} or name is None or _PARTITION.fullmatch(name) is None
