"""What the checkpoints of a table's parts say, to the worker and to the body alike. The worker loads nothing heavy for it."""

from __future__ import annotations

from typing import Final, TypedDict

PART_CHECKPOINT_PREFIX: Final = "rows"
"""What the checkpoints of parts are called, before their number."""


class PartState(TypedDict):
    """Rows are those of the part's pass over the file, without and with its own; `made_by` are the programs that read them."""

    passes: int
    after: int
    rows: int
    made_by: str


class StoredPart(PartState):
    path: str


class PartCheckpointSettings(TypedDict):
    """`every` so many seconds a part is cut; `left` are those of earlier attempts, each beginning where the one before ends."""

    interval: float
    parts: list[StoredPart]
