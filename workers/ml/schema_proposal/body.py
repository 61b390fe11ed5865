"""The body of DEDUCE_SCHEMA jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import orjson

from workers.ml.reporting import Reporter
from workers.ml.schema_proposal.proposal import Declared, Proposal, propose


class DeduceSpec(TypedDict):
    """`source` is a JSON file with the `profile` and the first `rows` of a version."""

    source: str
    declared: Declared


def propose_stored(spec: DeduceSpec, reporter: Reporter) -> Proposal:
    """Propose a schema from what is stored of a version."""
    reporter.progress(10.0, "Propose a schema")
    stored = orjson.loads(Path(spec["source"]).read_bytes())
    return propose(stored["profile"], stored["rows"], spec["declared"])
