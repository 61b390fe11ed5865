"""What an explanation is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from db.tables.explanations import ExplanationMethod


@dataclass(frozen=True, slots=True)
class NewExplanation:
    """What to explain, by which method, and on which rows: those that the model was measured on, unless a version, an item or `rows` are given.

    `rows` are JSON objects as for a prediction.
    """

    model_version_id: UUID
    method: ExplanationMethod
    dataset_version_id: UUID | None = None
    item_id: UUID | None = None
    rows: list[Any] | None = None
    max_rows: int | None = None
    features: list[str] | None = None
    class_label: str | None = None
    seed: int | None = None
    idempotency_key: str | None = None
