"""What a pipeline run knows of the contents of its rows' items."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workers.ml.contents.content import ContentNode
from workers.ml.contents.places import Items
from workers.ml.contents.program import Augmentation, role_of
from workers.ml.errors import BadInput


@dataclass
class Contents:
    """The operations so far, in the order of the chain, and the `names` of the columns of those that read.

    `is_divided` if the rows are parts of items; `augmented` has what made each row that is a copy.
    """

    items: Items
    nodes: list[ContentNode] = field(default_factory=list[ContentNode])
    names: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    is_divided: bool = False
    augmented: dict[int, tuple[Augmentation, ...]] = field(default_factory=dict[int, tuple[Augmentation, ...]])

    @property
    def divided_by(self) -> ContentNode | None:
        """The node that divides items into parts, if any."""
        return next((node for node in self.nodes if role_of(node) == "divide"), None)

    def add(self, node: ContentNode) -> None:
        """Raises BadInput (UNSOUND_PIPELINE)."""
        if role_of(node) == "divide" and (earlier := self.divided_by) is not None:
            message = f"Step '{node.key}' divides items that step '{earlier.key}' divides already. Keep one of them."
            raise BadInput("UNSOUND_PIPELINE", message, path=["definition", "nodes", str(node.index), "step"])
        self.nodes.append(node)

    def document(self) -> dict[str, Any]:
        """How the columns are computed, for `signature.json`."""
        modalities = set.intersection(*(set(node.step.modalities) for node in self.nodes))
        steps = [{"key": node.key, "step": node.step.key, "parameters": node.parameters.model_dump(mode="json")} for node in self.nodes]
        return {"modalities": sorted(modalities), "steps": steps, "columns": self.names}
