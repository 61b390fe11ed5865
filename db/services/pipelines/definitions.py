"""When a definition is sound, and when it is complete.

Sound: every step is known and takes its parameters, keys and links fit together, nothing runs in a circle, there is at most one
dataset node and one training node, and beside a dataset node every node has its input. Complete: sound, with exactly one dataset
node and at least one step behind it.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from sqlalchemy import Row, select

from db.core.checks import Checks
from db.core.work import Work
from db.errors import Issue
from db.tables import StepDefinition
from db.tables.datasets import Modality
from db.tables.pipelines import StepType

MAX_NODES = 200
MAX_BYTES = 262_144
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

Definition = dict[str, Any]
Steps = Mapping[str, Row[Any]]
_STEPS = select(StepDefinition).where(StepDefinition.retired_at.is_(None))


async def steps(work: Work) -> dict[str, Row[Any]]:
    """The steps that can be used, by key."""
    return {row.key: row for row in await work.all(_STEPS)}


def normalised(definition: Definition) -> Definition:
    """The same definition with every node's parameters an object."""
    nodes: list[dict[str, Any]] = [
        {"key": node["key"], "step": node["step"], "parameters": node.get("parameters") or {}} for node in definition["nodes"]
    ]
    links = [{"source": link["source"], "target": link["target"]} for link in definition["links"]]
    return {"nodes": nodes, "links": links}


def sha256(definition: Definition) -> str:
    """Hex digest of the canonical form: nodes by key, links in order, keys sorted, so that drawing order does not count."""
    canonical = {
        "nodes": sorted(definition["nodes"], key=lambda node: node["key"]),
        "links": sorted(definition["links"], key=lambda link: (link["source"], link["target"])),
    }
    return hashlib.sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).hexdigest()


def unsound(definition: Definition, known: Steps, modality: Modality) -> list[Issue]:
    """Everything that makes a normalised definition unsound; paths begin with "definition"."""
    checks = Checks()
    nodes, links = definition["nodes"], definition["links"]
    if len(nodes) > MAX_NODES or len(orjson.dumps(definition)) > MAX_BYTES:
        checks.add("definition", message=f"A definition has at most {MAX_NODES} nodes and {MAX_BYTES} bytes of JSON.")
        return checks.issues
    position: dict[str, int] = {}
    for index, node in enumerate(nodes):
        _check_node(checks, index, node, position, known, modality)
    _check_links(checks, links, nodes, position, known)
    _check_shape(checks, definition, known)
    return checks.issues


def _check_node(checks: Checks, index: int, node: dict[str, Any], position: dict[str, int], known: Steps, modality: Modality) -> None:
    at = ("definition", "nodes", index)
    if not _KEY.fullmatch(node["key"]):
        checks.add(
            *at, "key", message="A node's key is 1 to 64 letters, digits, dots, dashes and underscores, and begins with a letter or digit."
        )
    elif node["key"] in position:
        checks.add(*at, "key", message=f"The key {node['key']!r} is node {position[node['key']]}'s already; every node needs its own.")
    else:
        position[node["key"]] = index
    step = known.get(node["step"])
    if step is None:
        near = ", ".join(sorted(known))
        checks.add(
            *at, "step", message=f"There is no step {node['step'][:100]!r}. Known steps: {near or 'none; a worker must have started once'}."
        )
        return
    if modality is not Modality.MULTIMODAL and modality.name not in {name.upper() for name in step.modalities}:
        checks.add(
            *at, "step", message=f"The step {step.key!r} does not work on {modality.name} data, but on {', '.join(step.modalities)}."
        )
    checks.issues.extend(parameter_issues(step, node["parameters"], *at, "parameters"))


def parameter_issues(step: Row[Any], parameters: Any, *path: str | int) -> list[Issue]:
    """What a step's JSON Schema has against the parameters, each issue at the parameter it speaks of."""
    checks = Checks()
    checks.document(parameters, *(str(part) for part in path), size=MAX_BYTES)
    if checks.issues:
        return checks.issues
    validator: Any = Draft202012Validator(step.parameter_schema)  # its generics leave too much open to be checked
    for error in sorted(validator.iter_errors(parameters), key=lambda found: list(map(str, found.absolute_path))):
        message = error.message if len(error.message) <= 300 else f"{error.message[:300]}…"
        place = [*path, *error.absolute_path]
        if error.validator == "additionalProperties":
            extra = sorted(set(error.instance) - set(error.schema.get("properties", {})))
            takes = ", ".join(sorted(error.schema.get("properties", {}))) or "none"
            for name in extra:
                checks.add(*place, name, message=f"The step {step.key!r} has no such parameter. It takes: {takes}.")
        elif error.validator == "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            for name in missing:
                checks.add(*place, name, message=f"The step {step.key!r} needs this parameter.")
        else:
            checks.add(*place, message=message)
    return list(dict.fromkeys(checks.issues))


def _check_links(checks: Checks, links: list[dict[str, str]], nodes: list[dict[str, Any]], position: dict[str, int], known: Steps) -> None:
    inputs: dict[str, list[str]] = defaultdict(list)
    for index, link in enumerate(links):
        at = ("definition", "links", index)
        missing = [end for end in ("source", "target") if link[end] not in position]
        for end in missing:
            checks.add(*at, end, message=f"There is no node with the key {link[end][:100]!r}.")
        if missing:
            continue
        if _type(nodes[position[link["target"]]], known) is StepType.DATASET:
            checks.add(*at, "target", message=f"{link['target']!r} is the dataset; nothing leads to it.")
        elif inputs[link["target"]]:
            checks.add(
                *at, "target", message=f"{link['target']!r} has its input from {inputs[link['target']][0]!r} already; a node takes one."
            )
        inputs[link["target"]].append(link["source"])
    try:
        TopologicalSorter(inputs).prepare()
    except CycleError as error:
        circle = [str(key) for key in error.args[1]]
        index = next(i for i, link in enumerate(links) if link["source"] in circle and link["target"] in circle)
        checks.add(
            "definition", "links", index, message=f"The nodes {' → '.join(reversed(circle))} run in a circle; remove one of their links."
        )
    if any(_type(node, known) is StepType.DATASET for node in nodes):
        for key, index in position.items():
            if not inputs[key] and _type(nodes[index], known) not in {None, StepType.DATASET}:
                checks.add("definition", "nodes", index, message=f"{key!r} has no input; link another node to it.")


def _check_shape(checks: Checks, definition: Definition, known: Steps) -> None:
    """One dataset, one split and one training at most, on one line; what measures stands behind the training, and nothing else does."""
    nodes: dict[str, dict[str, Any]] = {node["key"]: node for node in definition["nodes"]}
    for type_, what in ((StepType.DATASET, "dataset"), (StepType.SPLIT, "split"), (StepType.TRAIN, "training")):
        found = [index for index, node in enumerate(definition["nodes"]) if _type(node, known) is type_]
        for index in found[1:]:
            checks.add("definition", "nodes", index, message=f"A pipeline has at most one {what} node; node {found[0]} is it already.")
    source_of: dict[str, str] = {}
    next_of: dict[str, str] = {}
    for index, link in enumerate(definition["links"]):
        source, target = link["source"], link["target"]
        if source not in nodes or target not in nodes:
            continue
        source_of.setdefault(target, source)
        if _type(nodes[target], known) in {StepType.EVALUATE, None}:
            continue
        at = ("definition", "links", index)
        if _type(nodes[source], known) in {StepType.TRAIN, StepType.EVALUATE}:
            checks.add(*at, "target", message=f"Only steps that evaluate stand behind the training; {target!r} does not.")
        elif next_of.setdefault(source, target) != target:
            checks.add(*at, "source", message=f"{source!r} leads to {next_of[source]!r} already; the way to the training has no branches.")
    for index, node in enumerate(definition["nodes"]):
        if _type(node, known) is StepType.EVALUATE and node["key"] in source_of:
            before, seen = source_of.get(node["key"]), set[str]()
            while before is not None and before not in seen and _type(nodes[before], known) is not StepType.TRAIN:
                seen.add(before)
                before = source_of.get(before)
            if before is None:
                checks.add("definition", "nodes", index, message=f"{node['key']!r} evaluates, so a training node must come before it.")


def _type(node: dict[str, Any], known: Steps) -> StepType | None:
    step = known.get(node["step"])
    return None if step is None else step.type


def incomplete(definition: Definition, known: Steps) -> list[Issue]:
    """What a sound definition lacks before it can run."""
    types = [_type(node, known) for node in definition["nodes"]]
    if StepType.DATASET not in types:
        return [Issue(("definition", "nodes"), "There is no dataset node; add one with the step 'dataset' and link it to the first step.")]
    if len(types) < 2:
        return [Issue(("definition", "nodes"), "Nothing happens to the dataset; add a step and link the dataset to it.")]
    return []


def trains(definition: Definition, known: Steps) -> dict[str, Any] | None:
    """The training node, where there is one."""
    return next((node for node in definition["nodes"] if _type(node, known) is StepType.TRAIN), None)


def with_parameters(definition: Definition, overrides: Any) -> tuple[Definition, list[Issue]]:
    """The definition with {nodeKey: {name: value}} laid over it, and what is wrong with the overrides."""
    checks = Checks()
    given = checks.document(overrides, "parameters", size=MAX_BYTES)
    keys = {node["key"] for node in definition["nodes"]}
    for key, values in given.items():
        if key not in keys:
            checks.add("parameters", key, message=f"The pipeline has no node {key[:100]!r}. Its nodes: {', '.join(sorted(keys))}.")
        elif not isinstance(values, dict):
            checks.add("parameters", key, message="A JSON object is expected here: {parameter: value}.")
    if checks.issues:
        return definition, checks.issues
    nodes = [{**node, "parameters": {**node["parameters"], **given.get(node["key"], {})}} for node in definition["nodes"]]
    return {**definition, "nodes": nodes}, []


def unknown_columns(definition: Definition, known: Steps, columns: list[str]) -> list[Issue]:
    """Parameters that name a column (`x-column` in the step's schema) which the nodes before cannot have made and the file does not have."""
    checks = Checks()
    present = set(columns)
    for index, node in enumerate(definition["nodes"]):
        step = known.get(node["step"])
        properties: dict[str, Any] = step.parameter_schema.get("properties", {}) if step is not None else {}
        for name, schema in properties.items():
            value = node["parameters"].get(name)
            if not schema.get("x-column") or value is None:
                continue
            listed = isinstance(value, list)
            for place, column in enumerate(value if listed else [value]):  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType] - JSON
                if isinstance(column, str) and column not in present:
                    rest = (place,) if listed else ()
                    checks.add(
                        "definition", "nodes", index, "parameters", name, *rest,
                        message=f"The dataset version has no column {column[:100]!r}.",
                    )  # fmt: skip
    return checks.issues
