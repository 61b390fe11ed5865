"""The rows' split into training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Subset = Literal["train", "validation", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "validation", "test")
MIN_TRAINING_ROWS = 5
MIN_TEST_ROWS = 2


@dataclass(frozen=True)
class DataSplit:
    """Row indices of each subset. `is_default` if the pipeline has no split step; `note` explains a strategy that was chosen automatically."""

    strategy: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    note: str | None = None
    is_default: bool = False

    def rows(self, subset: Subset) -> np.ndarray:
        return {"train": self.train, "validation": self.validation, "test": self.test}[subset]

    def sizes(self) -> dict[str, int]:
        return {subset: len(self.rows(subset)) for subset in SUBSETS}
