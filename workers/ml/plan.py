"""Validation of a pipeline definition, and its execution order.

The steps up to the training form one chain that starts at the dataset; steps that use the model follow it, in any arrangement.
A redundant link, parallel to a longer path (such as one from the split past the training to `evaluate`), has no effect.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from workers.ml.errors import BadInput
from workers.ml.steps.registry import STEPS
from workers.ml.steps.step import PipelineNode, Step

MAX_NODES = 200


@dataclass(frozen=True)
class Plan:
    """`chain` runs from the dataset to the training node, or to the last step if nothing is trained; `after` holds the nodes after the training, and
    `end` those that work on what all others made."""

    chain: list[PipelineNode]
    after: list[PipelineNode]
    end: list[PipelineNode]

    @property
    def training(self) -> PipelineNode | None:
        return self.chain[-1] if self.chain[-1].step.place == "train" else None

    def nodes_at(self, *places: str) -> list[PipelineNode]:
        return [node for node in self.chain if node.step.place in places]

    @property
    def execution_order(self) -> list[PipelineNode]:
        """Nodes as they run: rows are filtered and split before anything is fitted on them."""
        return [
            *self.nodes_at("source"),
            *self.nodes_at("choose"),
            *self.nodes_at("split"),
            *self.nodes_at("rows"),
            *self.nodes_at("fit"),
            *self.nodes_at("train"),
            *self.after,
        ]


def make_plan(definition: dict[str, Any]) -> Plan:
    """Raises BadInput (UNSOUND_PIPELINE, UNKNOWN_STEP, BAD_PARAMETER) with the path of the faulty part of the definition."""
    nodes: list[dict[str, Any]] = list(definition.get("nodes") or [])
    if len(nodes) > MAX_NODES:
        raise BadInput(
            "UNSOUND_PIPELINE", f"The pipeline has {len(nodes)} nodes; the maximum is {MAX_NODES}.", path=["definition", "nodes"]
        )
    index_by_key: dict[str, int] = {}
    for index, node in enumerate(nodes):
        if node["key"] in index_by_key:
            raise BadInput(
                "UNSOUND_PIPELINE", f"Two nodes have the key '{node['key']}'. Rename one.", path=["definition", "nodes", str(index), "key"]
            )
        index_by_key[node["key"]] = index
    steps = [_find_step(node, index) for index, node in enumerate(nodes)]
    parameters = [_validated_parameters(step, node, index) for index, (step, node) in enumerate(zip(steps, nodes, strict=True))]
    execution_order, ancestors = _topological_order(nodes, _link_sources(definition, index_by_key))
    _check_counts(steps, nodes)
    planned_nodes = {
        index: PipelineNode(nodes[index]["key"], index, position, steps[index], parameters[index])
        for position, index in enumerate(execution_order)
    }
    placed = [planned_nodes[index] for index in execution_order]
    after, end = ([node for node in placed if node.step.place == place] for place in ("after", "end"))
    chain = [node for node in placed if node.step.place not in ("after", "end")]
    _check_chain(chain, after, ancestors)
    _check_end(chain, after, end, ancestors)
    _check_contents(chain)
    return Plan(chain, after, end)


def _find_step(node: dict[str, Any], index: int) -> Step:
    step = STEPS.get(node["step"])
    if step is None:
        close_matches = difflib.get_close_matches(str(node["step"]), STEPS, n=1)
        hint = f" Did you mean '{close_matches[0]}'?" if close_matches else " Steps are: " + ", ".join(STEPS) + "."
        raise BadInput(
            "UNKNOWN_STEP",
            f"Node '{node['key']}' names the step '{node['step']}', which does not exist.{hint}",
            path=["definition", "nodes", str(index), "step"],
        )
    return step


def _validated_parameters(step: Step, node: dict[str, Any], index: int) -> Any:
    try:
        return step.parameters.model_validate(node.get("parameters") or {})
    except ValidationError as error:
        first = error.errors()[0]
        location = [str(part) for part in first["loc"]]
        raise BadInput(
            "BAD_PARAMETER",
            f"Node '{node['key']}' ({step.key}): {'.'.join(location) or 'its parameters'}: {first['msg']}.",
            path=["definition", "nodes", str(index), "parameters", *location],
        ) from None


def _link_sources(definition: dict[str, Any], index_by_key: dict[str, int]) -> list[set[int]]:
    sources: list[set[int]] = [set() for _ in index_by_key]
    for number, link in enumerate(definition.get("links") or []):
        for end in ("source", "target"):
            if link[end] not in index_by_key:
                raise BadInput(
                    "UNSOUND_PIPELINE",
                    f"A link names the node '{link[end]}', which does not exist.",
                    path=["definition", "links", str(number), end],
                )
        sources[index_by_key[link["target"]]].add(index_by_key[link["source"]])
    return sources


def _topological_order(nodes: list[dict[str, Any]], sources: list[set[int]]) -> tuple[list[int], list[set[int]]]:
    """Node indices in topological order, ties broken by position in the definition, and the ancestors of each node."""
    order: list[int] = []
    ancestors: list[set[int]] = [set() for _ in nodes]
    remaining = list(range(len(nodes)))
    while remaining:
        ready = next((index for index in remaining if sources[index].isdisjoint(remaining)), None)
        if ready is None:
            names = ", ".join(f"'{nodes[index]['key']}'" for index in remaining)
            raise BadInput("UNSOUND_PIPELINE", f"The links form a cycle through {names}. Remove one of them.", path=["definition", "links"])
        remaining.remove(ready)
        order.append(ready)
        ancestors[ready] = sources[ready].union(*(ancestors[source] for source in sources[ready]))
    return order, ancestors


def _check_counts(steps: list[Step], nodes: list[dict[str, Any]]) -> None:
    for place, minimum, label in (("source", 1, "dataset"), ("train", 0, "training"), ("split", 0, "split")):
        indices = [index for index, step in enumerate(steps) if step.place == place]
        if len(indices) < minimum:
            raise BadInput(
                "UNSOUND_PIPELINE", "The pipeline has no dataset node. Add one and link it to the first step.", path=["definition", "nodes"]
            )
        if len(indices) > 1:
            keys = ", ".join(f"'{nodes[index]['key']}'" for index in indices)
            raise BadInput(
                "UNSOUND_PIPELINE",
                f"The pipeline has more than one {label} node: {keys}. Keep one.",
                path=["definition", "nodes", str(indices[1])],
            )


def _check_chain(chain: list[PipelineNode], after: list[PipelineNode], ancestors: list[set[int]]) -> None:
    training = next((node for node in chain if node.step.place == "train"), None)
    for node in [*chain, *after]:
        path = ["definition", "nodes", str(node.index)]
        if node.step.place == "source":
            if ancestors[node.index]:
                raise BadInput(
                    "UNSOUND_PIPELINE", f"A link leads to the dataset node '{node.key}', which takes no input. Remove it.", path=path
                )
        elif chain[0].step.place != "source" or chain[0].index not in ancestors[node.index]:
            raise BadInput("UNSOUND_PIPELINE", f"Node '{node.key}' is not reachable from the dataset node. Link it.", path=path)
    for previous, node in pairwise(chain):
        path = ["definition", "nodes", str(node.index)]
        if training is not None and training.index in ancestors[node.index]:
            raise BadInput(
                "UNSOUND_PIPELINE",
                f"Node '{node.key}' comes after the training node '{training.key}'. Link it before the training.",
                path=path,
            )
        if previous.index not in ancestors[node.index]:
            raise BadInput(
                "UNSOUND_PIPELINE",
                f"The nodes '{previous.key}' and '{node.key}' are parallel. Link the steps before training in one chain.",
                path=path,
            )
    for node in after:
        if training is None or training.index not in ancestors[node.index]:
            message = f"Node '{node.key}' uses a model, but no training node leads to it. Link it after a training node."
            raise BadInput("UNSOUND_PIPELINE", message, path=["definition", "nodes", str(node.index)])
    if len(chain) == 1 and not after:
        raise BadInput(
            "UNSOUND_PIPELINE",
            "The pipeline has no step besides the dataset. Add a step that prepares columns, or one that trains.",
            path=["definition", "nodes"],
        )


def _check_end(chain: list[PipelineNode], after: list[PipelineNode], end: list[PipelineNode], ancestors: list[set[int]]) -> None:
    for node in end:
        path = ["definition", "nodes", str(node.index)]
        if chain[-1].index not in ancestors[node.index]:
            message = f"Node '{node.key}' works on what the pipeline makes. Link it after '{chain[-1].key}'."
            raise BadInput("UNSOUND_PIPELINE", message, path=path)
        if node.step.type == "EXPLAIN" and chain[-1].step.place != "train":
            message = f"Node '{node.key}' explains a model, and no training node leads to it. Link it after a training node."
            raise BadInput("UNSOUND_PIPELINE", message, path=path)
        later = next((other for other in [*chain, *after, *end] if node.index in ancestors[other.index]), None)
        if later is not None:
            message = f"Node '{later.key}' comes after '{node.key}', which nothing may follow. Link it elsewhere."
            raise BadInput("UNSOUND_PIPELINE", message, path=["definition", "nodes", str(later.index)])


def _check_contents(chain: list[PipelineNode]) -> None:
    """What changes the contents of items has an effect only on what reads them later."""
    unread: PipelineNode | None = None
    for node in chain:
        if node.step.content is not None:
            if node.step.content.role == "files" and unread is not None:
                break
            unread = None if node.step.content.role in ("read", "write") else unread or node
    if unread is not None:
        readers = ", ".join(
            key
            for key, step in STEPS.items()
            if step.content is not None
            and step.content.role in ("read", "write")
            and ("MULTIMODAL" in unread.step.modalities or set(step.modalities) & set(unread.step.modalities))
        )
        raise BadInput(
            "UNSOUND_PIPELINE",
            f"No step after '{unread.key}' reads the contents that it changes. Link a step after it that does: {readers}.",
            path=["definition", "nodes", str(unread.index)],
        )
    for node in chain:
        if node.step.content is not None and node.step.content.role == "write":
            other = next((each for each in chain if each.step.place in ("split", "rows", "fit", "train") or each.order > node.order), None)
            if other is not None:
                raise BadInput(
                    "UNSOUND_PIPELINE",
                    f"'{node.key}' writes items, whose table is read anew, so '{other.key}' would have no effect. Remove one of them.",
                    path=["definition", "nodes", str(other.index)],
                )
