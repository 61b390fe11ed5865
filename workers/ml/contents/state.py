"""What a pipeline run knows of the contents of its rows' items."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workers.ml.contents.content import ContentNode
from workers.ml.contents.places import Items
from workers.ml.contents.program import ITEM_COLUMN, Augmentation, role_of
from workers.ml.errors import BadInput


@dataclass
class Contents:
    """The operations so far, in the order of the chain, and the `names` of the columns of those that read.

    `is_divided` if the rows are parts of items; `augmented` has what made each row that is a copy. `is_joined` if the items are files that a table names:
    then a row has several, or none, and nodes of the role "files" say which ones the nodes after them work on.
    """

    items: Items
    nodes: list[ContentNode] = field(default_factory=list[ContentNode])
    names: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    is_divided: bool = False
    is_joined: bool = False
    augmented: dict[int, tuple[Augmentation, ...]] = field(default_factory=dict[int, tuple[Augmentation, ...]])

    @property
    def divided_by(self) -> ContentNode | None:
        """The node that divides items into parts, if any."""
        return next((node for node in self.nodes if role_of(node) == "divide"), None)

    def add(self, node: ContentNode) -> None:
        """Raises BadInput: UNSOUND_PIPELINE, NOT_SUPPORTED, NO_FILES."""
        path = ["definition", "nodes", str(node.index), "step"]
        if role_of(node) == "divide" and (earlier := self.divided_by) is not None:
            message = f"Step '{node.key}' divides items that step '{earlier.key}' divides already. Keep one of them."
            raise BadInput("UNSOUND_PIPELINE", message, path=path)
        if self.is_joined and role_of(node) in ("divide", "write"):
            message = f"Step '{node.key}' makes other items, and the rows of this version are no items: each names some. Remove the step."
            raise BadInput("NOT_SUPPORTED", message, path=path)
        if self.is_joined and role_of(node) != "files" and self.files_of(node) is None:
            message = (
                f"Step '{node.key}' works on the contents of files, and no step before it says of which. Link a use_files step before it."
            )
            raise BadInput("NO_FILES", message, path=path)
        self.nodes.append(node)

    def files_of(self, node: ContentNode) -> ContentNode | None:
        """The node that says which files this one works on."""
        earlier = [each for each in self.nodes if role_of(each) == "files" and each.order < node.order]
        return max(earlier, key=lambda each: each.order, default=None)

    def item_column(self, node: ContentNode) -> str:
        """The column with the number of the item that the node works on."""
        files = self.files_of(node)
        return ITEM_COLUMN if files is None else files_column(files)

    def beside(self, node: ContentNode) -> list[ContentNode]:
        """The operations on the items that this node works on."""
        files = self.files_of(node)
        return [each for each in self.nodes if role_of(each) != "files" and self.files_of(each) is files]

    def document(self) -> dict[str, Any]:
        """How the columns are computed, for `signature.json`."""
        modalities = set.intersection(*(set(node.step.modalities) for node in self.nodes)) if not self.is_joined else {"MULTIMODAL"}
        steps = [{"key": node.key, "step": node.step.key, "parameters": node.parameters.model_dump(mode="json")} for node in self.nodes]
        files = dict.fromkeys(node.parameters.column for node in self.nodes if role_of(node) == "files")
        document = {"modalities": sorted(modalities), "steps": steps, "columns": self.names}
        return {**document, "files": list(files)} if files else document


def files_column(node: ContentNode) -> str:
    """The column with the numbers of the items that a node of the role "files" names."""
    return f"{ITEM_COLUMN}_{node.index}"
