"""The part of a pipeline node that the bundle needs, so that the bundle does not import the steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

ValueKind = Literal["number", "text", "time", "other"]
"""The kind of a column's values; booleans are numbers."""


@dataclass(frozen=True)
class Node(ABC):
    """`index` is the position in `definition.nodes`, for error paths; `order` the position in topological order."""

    key: str
    index: int
    order: int

    @property
    @abstractmethod
    def step_key(self) -> str:
        """The key of the step that the node runs."""

    def path(self, *rest: str) -> list[str]:
        """Return the path of the node's parameters in the definition, for errors."""
        return ["definition", "nodes", str(self.index), "parameters", *rest]
