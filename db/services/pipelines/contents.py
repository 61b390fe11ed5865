"""Whether steps on the contents of items (`x-content` of their schemas) fit their pipeline and the version that it is run on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from db.errors import Issue
from db.services.pipelines.definitions import Definition, Steps
from db.tables.datasets import Modality

_READING = ("read", "write")
_MAKING_ITEMS = ("divide", "write")
_OF_TABLES = ("split", "rows", "fit", "train")


def effect_issues(definition: Definition, steps: Steps, modality: Modality) -> list[Issue]:
    """Return an issue for the first step that has no effect: it changes contents which no later step reads, or a table which is read anew of the items
    that are written. The definition is sound for pipelines of the modality.
    """
    return _unread_issues(definition, steps, modality) or _writing_issues(definition, steps)


def writes_items(definition: Definition, steps: Steps) -> bool:
    """Whether the new version has items."""
    return any(_role(node, steps) == "write" for node in definition["nodes"])


def first_of_videos(definition: Definition, steps: Steps, modality: Modality) -> int | None:
    """The index of a node that works on the contents of videos, if any: of a dataset of videos each, of others those for videos alone."""
    of_videos = [Modality.VIDEO.value]
    for index, node in enumerate(definition["nodes"]):
        if _role(node, steps) is not None and (modality is Modality.VIDEO or list(steps[node["step"]].modalities) == of_videos):
            return index
    return None


def _writing_issues(definition: Definition, steps: Steps) -> list[Issue]:
    chain = list(_chain(definition, steps))
    nodes = definition["nodes"]
    position = next((position for position, index in enumerate(chain) if _role(nodes[index], steps) == "write"), None)
    if position is None:
        return []
    places = {index: steps[nodes[index]["step"]].parameter_schema.get("x-place") for index in chain}
    useless = [index for index in chain if places[index] in _OF_TABLES] + chain[position + 1 :]
    if not useless:
        return []
    message = f"{nodes[chain[position]]['key']!r} writes items, whose table is read anew, so {nodes[useless[0]]['key']!r} would have no effect. Remove one of them."
    return [Issue(("definition", "nodes", str(useless[0])), message)]


def _unread_issues(definition: Definition, steps: Steps, modality: Modality) -> list[Issue]:
    unread: int | None = None
    for index in _chain(definition, steps):
        role = _role(definition["nodes"][index], steps)
        if role == "files" and unread is not None:
            break  # what comes after works on others
        if role is not None:
            unread = None if role in _READING else index if unread is None else unread
    if unread is None:
        return []
    node = definition["nodes"][unread]
    modalities = set(steps[node["step"]].modalities)
    if modality is not Modality.MULTIMODAL:
        modalities &= {modality.value}
    is_any = Modality.MULTIMODAL.value in modalities
    readers = ", ".join(
        key
        for key, step in sorted(steps.items())
        if step.parameter_schema.get("x-content") in _READING and (is_any or modalities & set(step.modalities))
    )
    message = (
        f"No step after {node['key']!r} reads the contents that it changes. Link a step after it that does: {readers or 'none is known'}."
    )
    return [Issue(("definition", "nodes", str(unread)), message)]


def version_issues(definition: Definition, steps: Steps, dataset: Row[Any], version: Row[Any]) -> list[Issue]:
    """Return an issue for each step whose items the version does not have."""
    issues: list[Issue] = []
    has_files = False
    for index in _chain(definition, steps):
        node = definition["nodes"][index]
        role = _role(node, steps)
        if role is None:
            continue
        has_files = has_files or role == "files"
        path = ("definition", "nodes", str(index), "step")
        modalities = [name.upper() for name in steps[node["step"]].modalities]
        if dataset.modality is Modality.MULTIMODAL and role in _MAKING_ITEMS:
            message = (
                f"{node['key']!r} makes other items, and the rows of a MULTIMODAL version are no items: each names some. Remove the step."
            )
            issues.append(Issue(path, message))
        elif dataset.modality is Modality.MULTIMODAL and not has_files:
            message = (
                f"{node['key']!r} works on the contents of files, and no step before it says of which. Link a use_files step before it."
            )
            issues.append(Issue(path, message))
        elif dataset.modality is not Modality.MULTIMODAL and dataset.modality.name not in modalities:
            message = f"{node['key']!r} works on the contents of {' or '.join(modalities)} items, and the dataset holds {dataset.modality.name} data. "
            issues.append(Issue(path, message + "Remove the step, or choose a version of such a dataset."))
        elif not version.item_count:
            message = f"{node['key']!r} works on the contents of items, and the version has none, only their table. "
            issues.append(Issue(path, message + "Remove the step, or choose a version that was read from the items."))
    return issues


def _role(node: dict[str, Any], steps: Steps) -> str | None:
    step = steps.get(node["step"])
    return None if step is None else step.parameter_schema.get("x-content")


def _chain(definition: Definition, steps: Steps) -> Iterator[int]:
    """Yield the nodes from the dataset to the training; nothing leads past it but what evaluates, explains or exports."""
    indexes = {node["key"]: index for index, node in enumerate(definition["nodes"])}
    beside = {
        node["key"]
        for node in definition["nodes"]
        if node["step"] in steps and steps[node["step"]].parameter_schema.get("x-place") in ("after", "end")
    }
    following = {link["source"]: link["target"] for link in definition["links"] if link["target"] not in beside}
    key = next(iter(following.keys() - set(following.values())), None)
    for _ in range(len(indexes)):
        if key is None or key not in indexes:
            return
        yield indexes[key]
        key = following.get(key)
