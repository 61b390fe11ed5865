"""State of part checkpoints, shared by the worker and the body. Imports nothing heavy, because the worker imports it."""

from __future__ import annotations

from typing import Final, TypedDict

PART_CHECKPOINT_PREFIX: Final = "rows"
"""Prefix of the names of part checkpoints; a number follows."""


class PartState(TypedDict):
    """`after` and `rows` count the rows of pass number `passes` before and including this part; `made_by` names the library versions."""

    passes: int
    after: int
    rows: int
    made_by: str


class StoredPart(PartState):
    """A part that the worker has downloaded to `path`."""

    path: str


class PartCheckpointSettings(TypedDict):
    """`interval` is in seconds; `parts` are those of earlier attempts, each starting where the previous one ends."""

    interval: float
    parts: list[StoredPart]
