"""A node of a pipeline, as far as the rows that pass through it know it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class Node(ABC):
    """`index` is its place in `definition.nodes`, for paths in errors; `order` its place along the links, from the dataset on."""

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
