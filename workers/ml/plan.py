"""A definition checked and put in order.

Before training the steps form one line that begins at the dataset; after it come steps that use the model, side by side or in a row.
A link that only shortens a way which other links already lead (say from the split past the training to `evaluate`) changes nothing.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from workers.ml.errors import BadInput
from workers.ml.steps.registry import STEPS
from workers.ml.steps.step import Node, Step

MOST_NODES = 200


@dataclass(frozen=True)
class Plan:
    """`line` leads from the dataset to the training node, or to the last step where nothing is trained; `after` follows the training."""

    line: list[Node]
    after: list[Node]

    @property
    def training(self) -> Node | None:
        return self.line[-1] if self.line[-1].step.place == "train" else None

    def of(self, *places: str) -> list[Node]:
        return [node for node in self.line if node.step.place in places]

    @property
    def in_order(self) -> list[Node]:
        """As they run: rows are settled before anything is learnt from them."""
        return [*self.of("source"), *self.of("choose"), *self.of("split"), *self.of("fit"), *self.of("train"), *self.after]


def make_plan(definition: dict[str, Any]) -> Plan:
    """BadInput with a path into the definition where it is unsound."""
    nodes: list[dict[str, Any]] = list(definition.get("nodes") or [])
    if len(nodes) > MOST_NODES:
        raise BadInput(
            "UNSOUND_PIPELINE", f"The pipeline has {len(nodes)} nodes; at most {MOST_NODES} are allowed.", path=["definition", "nodes"]
        )
    places: dict[str, int] = {}
    for index, node in enumerate(nodes):
        if node["key"] in places:
            raise BadInput(
                "UNSOUND_PIPELINE", f"Two nodes have the key '{node['key']}'. Rename one.", path=["definition", "nodes", str(index), "key"]
            )
        places[node["key"]] = index
    steps = [_step(node, index) for index, node in enumerate(nodes)]
    parameters = [_parameters(step, node, index) for index, (step, node) in enumerate(zip(steps, nodes, strict=True))]
    order, ancestors = _order(nodes, _sources(definition, places))
    _count(steps, nodes)
    found = {index: Node(nodes[index]["key"], index, position, steps[index], parameters[index]) for position, index in enumerate(order)}
    line = [found[index] for index in order if steps[index].place != "after"]
    after = [found[index] for index in order if steps[index].place == "after"]
    _check_line(line, after, ancestors)
    return Plan(line, after)


def _step(node: dict[str, Any], index: int) -> Step:
    step = STEPS.get(node["step"])
    if step is None:
        near = difflib.get_close_matches(str(node["step"]), STEPS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else " Steps are: " + ", ".join(STEPS) + "."
        raise BadInput(
            "UNKNOWN_STEP",
            f"Node '{node['key']}' names the step '{node['step']}', which does not exist.{hint}",
            path=["definition", "nodes", str(index), "step"],
        )
    return step


def _parameters(step: Step, node: dict[str, Any], index: int) -> Any:
    try:
        return step.parameters.model_validate(node.get("parameters") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"]]
        raise BadInput(
            "BAD_PARAMETER",
            f"Node '{node['key']}' ({step.key}): {'.'.join(where) or 'its parameters'}: {first['msg']}.",
            path=["definition", "nodes", str(index), "parameters", *where],
        ) from None


def _sources(definition: dict[str, Any], places: dict[str, int]) -> list[set[int]]:
    sources: list[set[int]] = [set() for _ in places]
    for number, link in enumerate(definition.get("links") or []):
        for end in ("source", "target"):
            if link[end] not in places:
                raise BadInput(
                    "UNSOUND_PIPELINE",
                    f"A link names the node '{link[end]}', which does not exist.",
                    path=["definition", "links", str(number), end],
                )
        sources[places[link["target"]]].add(places[link["source"]])
    return sources


def _order(nodes: list[dict[str, Any]], sources: list[set[int]]) -> tuple[list[int], list[set[int]]]:
    """Nodes with all that lead to them first, by place in the definition where links leave it open; and the ancestors of each."""
    order: list[int] = []
    ancestors: list[set[int]] = [set() for _ in nodes]
    waiting = list(range(len(nodes)))
    while waiting:
        free = next((index for index in waiting if sources[index].isdisjoint(waiting)), None)
        if free is None:
            names = ", ".join(f"'{nodes[index]['key']}'" for index in waiting)
            raise BadInput(
                "UNSOUND_PIPELINE", f"The links go round in a circle through {names}. Remove one of them.", path=["definition", "links"]
            )
        waiting.remove(free)
        order.append(free)
        ancestors[free] = sources[free].union(*(ancestors[source] for source in sources[free]))
    return order, ancestors


def _count(steps: list[Step], nodes: list[dict[str, Any]]) -> None:
    for place, least, what in (("source", 1, "dataset"), ("train", 0, "training"), ("split", 0, "split")):
        found = [index for index, step in enumerate(steps) if step.place == place]
        if len(found) < least:
            raise BadInput(
                "UNSOUND_PIPELINE", "The pipeline has no dataset node. Add one and link it to the first step.", path=["definition", "nodes"]
            )
        if len(found) > 1:
            keys = ", ".join(f"'{nodes[index]['key']}'" for index in found)
            raise BadInput(
                "UNSOUND_PIPELINE",
                f"The pipeline has more than one {what} node: {keys}. Keep one.",
                path=["definition", "nodes", str(found[1])],
            )


def _check_line(line: list[Node], after: list[Node], ancestors: list[set[int]]) -> None:
    training = next((node for node in line if node.step.place == "train"), None)
    for node in [*line, *after]:
        path = ["definition", "nodes", str(node.index)]
        if node.step.place == "source":
            if ancestors[node.index]:
                raise BadInput(
                    "UNSOUND_PIPELINE", f"A link leads to the dataset node '{node.key}', which takes none. Remove it.", path=path
                )
        elif line[0].step.place != "source" or line[0].index not in ancestors[node.index]:
            raise BadInput("UNSOUND_PIPELINE", f"Node '{node.key}' has no input. Link it so that the dataset leads to it.", path=path)
    for before, node in pairwise(line):
        path = ["definition", "nodes", str(node.index)]
        if training is not None and training.index in ancestors[node.index]:
            raise BadInput(
                "UNSOUND_PIPELINE", f"Node '{node.key}' comes after the training node '{training.key}'. Link it before.", path=path
            )
        if before.index not in ancestors[node.index]:
            raise BadInput(
                "UNSOUND_PIPELINE",
                f"The nodes '{before.key}' and '{node.key}' stand side by side. Link the steps before training in one line.",
                path=path,
            )
    for node in after:
        if training is None or training.index not in ancestors[node.index]:
            message = f"Node '{node.key}' uses a model and no training node leads to it. Link it after a training node."
            raise BadInput("UNSOUND_PIPELINE", message, path=["definition", "nodes", str(node.index)])
    if len(line) == 1 and not after:
        raise BadInput(
            "UNSOUND_PIPELINE",
            "The pipeline has no step but the dataset. Add a step that prepares columns, or one that trains.",
            path=["definition", "nodes"],
        )
