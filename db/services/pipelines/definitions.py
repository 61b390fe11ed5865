"""Validation of pipeline definitions: soundness, required to save one, and completeness, required to run it.

Sound: every step exists and accepts its parameters, keys and links are consistent, the graph is acyclic with at most one dataset, split
and training node, and if there is a dataset node, every other node has an input. Complete: sound, with exactly one dataset node and at
least one more step.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol, cast

import orjson
from sqlalchemy import Row, select

from db.core import formulas
from db.core.checks import Checks, canonical_name
from db.core.work import Work
from db.errors import Issue
from db.services.pipelines import exporting
from db.tables import StepDefinition
from db.tables.datasets import Modality
from db.tables.pipelines import StepType

MAX_NODES = 200
MAX_BYTES = 262_144
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

_LIMITS = {
    "minimum": ("small", "at least"),
    "exclusiveMinimum": ("small", "greater than"),
    "maximum": ("large", "at most"),
    "exclusiveMaximum": ("large", "less than"),
}

Definition = dict[str, Any]
Steps = Mapping[str, Row[Any]]
_STEPS = select(StepDefinition).where(StepDefinition.retired_at.is_(None))


async def load_steps(work: Work) -> dict[str, Row[Any]]:
    """Return the steps that are not retired, by key."""
    return {row.key: row for row in await work.all(_STEPS)}


def normalise(definition: Definition) -> Definition:
    """Return the definition with only the known keys; missing parameters become an empty object."""
    nodes: list[dict[str, Any]] = [
        {"key": node["key"], "step": node["step"], "parameters": node.get("parameters") or {}} for node in definition["nodes"]
    ]
    links = [{"source": link["source"], "target": link["target"]} for link in definition["links"]]
    return {"nodes": nodes, "links": links}


def sha256(definition: Definition) -> str:
    """Hex digest of the canonical form: nodes, links and keys sorted, so that their order does not count."""
    canonical = {
        "nodes": sorted(definition["nodes"], key=lambda node: node["key"]),
        "links": sorted(definition["links"], key=lambda link: (link["source"], link["target"])),
    }
    return hashlib.sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).hexdigest()


def soundness_issues(definition: Definition, steps: Steps, modality: Modality) -> list[Issue]:
    """Return what makes a normalised definition unsound; paths begin with "definition"."""
    checks = Checks()
    nodes, links = definition["nodes"], definition["links"]
    if len(nodes) > MAX_NODES or len(orjson.dumps(definition)) > MAX_BYTES:
        checks.add("definition", message=f"A definition has at most {MAX_NODES} nodes and {MAX_BYTES} bytes of JSON.")
        return checks.issues
    index_by_key: dict[str, int] = {}
    for index, node in enumerate(nodes):
        _check_node(checks, index, node, index_by_key, steps, modality)
    _check_links(checks, links, nodes, index_by_key, steps)
    _check_shape(checks, definition, steps)
    exporting.check(checks, definition, steps)
    _check_validation_rows(checks, definition, steps)
    return checks.issues


def _check_node(checks: Checks, index: int, node: dict[str, Any], index_by_key: dict[str, int], steps: Steps, modality: Modality) -> None:
    path = ("definition", "nodes", index)
    if not _KEY.fullmatch(node["key"]):
        checks.add(
            *path,
            "key",
            message="A node's key is 1 to 64 letters, digits, dots, dashes and underscores, and begins with a letter or digit.",
        )
    elif node["key"] in index_by_key:
        checks.add(
            *path, "key", message=f"The key {node['key']!r} is node {index_by_key[node['key']]}'s already; every node needs its own."
        )
    else:
        index_by_key[node["key"]] = index
    step = steps.get(node["step"])
    if step is None:
        known_keys = ", ".join(sorted(steps))
        checks.add(
            *path,
            "step",
            message=f"There is no step {node['step'][:100]!r}. Known steps: {known_keys or 'none; a worker must have started once'}.",
        )
        return
    if modality is not Modality.MULTIMODAL and modality.name not in {name.upper() for name in step.modalities}:
        checks.add(
            *path,
            "step",
            message=f"The step {step.key!r} does not work on {modality.name} data, but on {', '.join(step.modalities).upper()}.",
        )
    checks.issues.extend(parameter_issues(step, node["parameters"], *path, "parameters"))


class Parametrized(Protocol):
    """What takes parameters by a JSON Schema."""

    @property
    def key(self) -> str: ...

    @property
    def parameter_schema(self) -> dict[str, Any]: ...


def parameter_issues(step: Parametrized | Row[Any], parameters: Any, *path: str | int, noun: str = "step") -> list[Issue]:
    """Validate parameters by the JSON Schema of a step, or of what `noun` says; each issue has the path of its parameter."""
    checks = Checks()
    checks.document(parameters, *(str(part) for part in path), size=MAX_BYTES)
    if checks.issues:
        return checks.issues
    from jsonschema import Draft202012Validator  # takes a hundredth of a start, and is used when a pipeline is written

    validator: Any = Draft202012Validator(step.parameter_schema)  # Any: jsonschema types its validators thinly
    for error in sorted(validator.iter_errors(parameters), key=lambda issue: list(map(str, issue.absolute_path))):
        message = _message(error)
        error_path = [*path, *error.absolute_path]
        if error.validator == "additionalProperties":
            unexpected = sorted(set(error.instance) - set(error.schema.get("properties", {})))
            accepted = ", ".join(sorted(error.schema.get("properties", {}))) or "none"
            for name in unexpected:
                checks.add(*error_path, name, message=f"The {noun} {step.key!r} has no such parameter. It takes: {accepted}.")
        elif error.validator == "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            for name in missing:
                message = error.schema.get("x-message", f"The {noun} {step.key!r} needs this parameter.")
                checks.add(*error_path, name, message=message)
        else:
            checks.add(*error_path, message=message)
    if not checks.issues:
        for formula_path, text in marked(step.parameter_schema, parameters, "x-formula"):
            try:
                formulas.parse(text)
            except formulas.FormulaError as error:
                checks.add(*path, *formula_path, message=str(error))
    return list(dict.fromkeys(checks.issues))


def _message(error: Any) -> str:
    """Say what is wrong with a value, in words of our own where jsonschema's are hard to understand."""
    if "x-message" in error.schema:
        return str(error.schema["x-message"])
    if error.validator == "anyOf":  # a value or null: say what is wrong with the value
        meant = [each for each in error.context if each.validator != "type"]
        if len(meant) == 1:
            return _message(meant[0])
    if error.validator in _LIMITS:
        fault, condition = _LIMITS[error.validator]
        return f"{error.instance} is too {fault}; it must be {condition} {error.validator_value}."
    return error.message if len(error.message) <= 300 else f"{error.message[:300]}…"


def _check_links(
    checks: Checks, links: list[dict[str, str]], nodes: list[dict[str, Any]], index_by_key: dict[str, int], steps: Steps
) -> None:
    inputs: dict[str, list[str]] = defaultdict(list)
    for index, link in enumerate(links):
        path = ("definition", "links", index)
        missing = [end for end in ("source", "target") if link[end] not in index_by_key]
        for end in missing:
            checks.add(*path, end, message=f"There is no node with the key {link[end][:100]!r}.")
        if missing:
            continue
        if _step_type(nodes[index_by_key[link["target"]]], steps) is StepType.DATASET:
            checks.add(*path, "target", message=f"{link['target']!r} is the dataset node, which takes no input.")
        elif inputs[link["target"]]:
            checks.add(
                *path, "target", message=f"{link['target']!r} has its input from {inputs[link['target']][0]!r} already; a node takes one."
            )
        inputs[link["target"]].append(link["source"])
    try:
        TopologicalSorter(inputs).prepare()
    except CycleError as error:
        cycle = [str(key) for key in error.args[1]]
        index = next(i for i, link in enumerate(links) if link["source"] in cycle and link["target"] in cycle)
        checks.add(
            "definition", "links", index, message=f"The nodes {' → '.join(reversed(cycle))} form a cycle; remove one of their links."
        )
    if any(_step_type(node, steps) is StepType.DATASET for node in nodes):
        for key, index in index_by_key.items():
            if not inputs[key] and _step_type(nodes[index], steps) not in {None, StepType.DATASET}:
                checks.add("definition", "nodes", index, message=f"{key!r} has no input; link another node to it.")


_ENDS = {StepType.EXPLAIN, StepType.EXPORT}
"""What works on the result of a pipeline, and is followed by nothing."""
_NEEDING_A_MODEL = {StepType.EVALUATE: "evaluates", StepType.EXPLAIN: "explains a model"}


def _check_shape(checks: Checks, definition: Definition, steps: Steps) -> None:
    """At most one dataset, split and training node, on one path without branches; only what evaluates, explains or exports comes after the training."""
    nodes: dict[str, dict[str, Any]] = {node["key"]: node for node in definition["nodes"]}
    for type_, label in ((StepType.DATASET, "dataset"), (StepType.SPLIT, "split"), (StepType.TRAIN, "training")):
        indexes = [index for index, node in enumerate(definition["nodes"]) if _step_type(node, steps) is type_]
        for index in indexes[1:]:
            checks.add("definition", "nodes", index, message=f"A pipeline has at most one {label} node; node {indexes[0]} is it already.")
    source_of: dict[str, str] = {}
    next_of: dict[str, str] = {}
    for index, link in enumerate(definition["links"]):
        source, target = link["source"], link["target"]
        if source not in nodes or target not in nodes:
            continue
        source_of.setdefault(target, source)
        path = ("definition", "links", index)
        if (source_type := _step_type(nodes[source], steps)) in _ENDS:
            verb = "exports" if source_type is StepType.EXPORT else "explains"
            checks.add(*path, "source", message=f"{source!r} {verb} what the pipeline makes, so nothing comes after it.")
            continue
        if _step_type(nodes[target], steps) in {StepType.EVALUATE, *_ENDS, None}:
            continue
        if _step_type(nodes[source], steps) in {StepType.TRAIN, StepType.EVALUATE}:
            checks.add(
                *path,
                "target",
                message=f"Only steps that evaluate, explain or export may come after the training; {target!r} does none of it.",
            )
        elif next_of.setdefault(source, target) != target:
            checks.add(
                *path, "source", message=f"{source!r} leads to {next_of[source]!r} already; the path to the training must not branch."
            )
    for index, node in enumerate(definition["nodes"]):
        verb = None if (type_ := _step_type(node, steps)) is None else _NEEDING_A_MODEL.get(type_)
        if verb is not None and node["key"] in source_of:
            ancestor, visited = source_of.get(node["key"]), set[str]()
            while ancestor is not None and ancestor not in visited and _step_type(nodes[ancestor], steps) is not StepType.TRAIN:
                visited.add(ancestor)
                ancestor = source_of.get(ancestor)
            if ancestor is None:
                checks.add("definition", "nodes", index, message=f"{node['key']!r} {verb}, so a training node must come before it.")


def _check_validation_rows(checks: Checks, definition: Definition, steps: Steps) -> None:
    """A parameter that needs validation rows (`x-needs-validation-rows`) contradicts a pipeline that holds none out."""
    if may_hold_out_validation_rows(definition, steps):
        return
    for index, name, value, schema in _given_parameters(definition, steps):
        needs = schema.get("x-needs-validation-rows")
        if (needs is True and value is not None) or (isinstance(needs, list) and value in needs):
            message = (
                "This needs validation rows, and the pipeline holds none out. Set validation_fraction in a split step, or change this."
            )
            checks.add("definition", "nodes", index, "parameters", name, message=message)


def may_hold_out_validation_rows(definition: Definition, steps: Steps, searched: Container[tuple[str, str]] = ()) -> bool:
    """Whether a node holds validation rows out (`x-gives-validation-rows`), or takes them from a column, whose values are known only with the version.

    A parameter that is `searched`, (node, name), may have any value.
    """
    return any(
        schema.get("x-split-column")
        or (
            schema.get("x-gives-validation-rows")
            and ((definition["nodes"][index]["key"], name) in searched or (isinstance(value, int | float) and value > 0))
        )
        for index, name, value, schema in _given_parameters(definition, steps)
    )


def _given_parameters(definition: Definition, steps: Steps) -> Iterator[tuple[int, str, Any, Mapping[str, Any]]]:
    """Yield the parameters of all nodes with known steps: the node's index, the name, the value or None, and the schema."""
    for index, node in enumerate(definition["nodes"]):
        step, parameters = steps.get(node["step"]), node["parameters"]
        if step is not None and isinstance(parameters, dict):
            for name, schema in step.parameter_schema.get("properties", {}).items():
                yield index, name, cast("dict[str, Any]", parameters).get(name), schema


def _step_type(node: dict[str, Any], steps: Steps) -> StepType | None:
    step = steps.get(node["step"])
    return None if step is None else step.type


def completeness_issues(definition: Definition, steps: Steps) -> list[Issue]:
    """Return what a sound definition lacks to be complete."""
    types = [_step_type(node, steps) for node in definition["nodes"]]
    if StepType.DATASET not in types:
        return [Issue(("definition", "nodes"), "There is no dataset node; add one with the step 'dataset' and link it to the first step.")]
    if len([type_ for type_ in types if type_ not in _ENDS]) < 2:
        return [
            Issue(
                ("definition", "nodes"),
                "Nothing happens to the dataset; add a step and link the dataset to it. To export a version as it is, use `createExport`.",
            )
        ]
    if StepType.TRAIN not in types:
        message = "{!r} chooses the rows that a training learns from, and there is no training node. Add one, or choose rows with a filter_rows step."
        choosers = [(index, node["key"]) for index, node in enumerate(definition["nodes"]) if _place(node, steps) == "rows"]
        return [Issue(("definition", "nodes", str(index)), message.format(key)) for index, key in choosers]
    return []


def _place(node: dict[str, Any], steps: Steps) -> str | None:
    step = steps.get(node["step"])
    return None if step is None else step.parameter_schema.get("x-place")


def apply_parameters(definition: Definition, overrides: Any) -> tuple[Definition, list[Issue]]:
    """Return the definition with {nodeKey: {name: value}} applied as far as possible, and the issues of the rest of the overrides."""
    checks = Checks()
    overrides_by_node = checks.document(overrides, "parameters", size=MAX_BYTES)
    keys = {node["key"] for node in definition["nodes"]}
    for key, values in overrides_by_node.items():
        if key not in keys:
            checks.add("parameters", key, message=f"The pipeline has no node {key[:100]!r}. Its nodes: {', '.join(sorted(keys))}.")
        elif not isinstance(values, dict):
            checks.add("parameters", key, message="A JSON object is expected here: {parameter: value}.")
    applicable: dict[str, Any] = {key: values for key, values in overrides_by_node.items() if isinstance(values, dict)}
    nodes = [{**node, "parameters": {**node["parameters"], **applicable.get(node["key"], {})}} for node in definition["nodes"]]
    return {**definition, "nodes": nodes}, checks.issues


def locate(issues: Iterable[Issue], definition: Definition, overrides: Any) -> list[Issue]:
    """Return the issues of a stored definition with overrides applied, each at its place: among the overrides, or in the definition.

    A parameter that neither has, such as one that an overridden one requires, belongs to the overrides of its node.
    """
    located: list[Issue] = []
    for issue in issues:
        match issue.path:
            case ("definition", "nodes", index, *rest):
                node = definition["nodes"][int(index)]
                values: Any = cast("dict[str, Any]", overrides).get(node["key"]) if isinstance(overrides, dict) else None
                match rest:
                    case ("parameters", name, *_) if isinstance(values, dict) and (name in values or name not in node["parameters"]):
                        located.append(Issue(("parameters", node["key"], *rest[1:]), issue.message))
                    case _:
                        located.append(Issue(issue.path, f"Node {node['key']!r} of the pipeline: {issue.message}"))
            case ("definition", *_):
                located.append(Issue(issue.path, f"The definition of the pipeline: {issue.message}"))
            case _:
                located.append(issue)
    return located


def unknown_columns(definition: Definition, steps: Steps, columns: list[str]) -> list[Issue]:
    """Return issues for parameters that name a column (`x-column` in the step's schema) which the dataset version does not have."""
    checks = Checks()
    present = {canonical_name(column) for column in columns} | changed_columns(definition, steps)
    for index, node in enumerate(definition["nodes"]):
        step = steps.get(node["step"])
        for path, column in marked(step.parameter_schema, node["parameters"], "x-column") if step is not None else ():
            if canonical_name(column) not in present and not may_be_made(canonical_name(column), present, definition, steps):
                message = f"The dataset version has no column {column[:100]!r}."
                checks.add("definition", "nodes", index, "parameters", *path, message=message)
    return checks.issues


def changed_columns(definition: Definition, steps: Steps) -> set[str]:
    """Return the columns that steps make under a name that is known (`x-new-column`), or whose type they change (`x-gives-by-value`)."""
    names: set[str] = set()
    for node in definition["nodes"]:
        if (step := steps.get(node["step"])) is not None:
            names |= {canonical_name(name) for _, name in marked(step.parameter_schema, node["parameters"], "x-new-column")}
            if any("x-gives-by-value" in schema for schema in step.parameter_schema.get("properties", {}).values()):
                names |= {canonical_name(name) for _, name in marked(step.parameter_schema, node["parameters"], "x-column")}
    return names


def may_be_made(name: str, present: Iterable[str], definition: Definition, steps: Steps) -> bool:
    """Whether a step that replaces columns by others (`x-makes-columns`), or that reads contents (`x-column-prefix`), may make one of this name."""
    if any(name.startswith(f"{prefix}_") for prefix in _column_prefixes(definition, steps)):
        return True
    makers = (steps.get(node["step"]) for node in definition["nodes"])
    is_part = any(name.startswith(f"{column}_") for column in present)
    return is_part and any(step is not None and step.parameter_schema.get("x-makes-columns") for step in makers)


def _column_prefixes(definition: Definition, steps: Steps) -> Iterator[str]:
    for node in definition["nodes"]:
        schema: Any = {} if (step := steps.get(node["step"])) is None else step.parameter_schema
        for name, member in schema.get("properties", {}).items():
            prefix = node["parameters"].get(name, member.get("default")) if member.get("x-column-prefix") else None
            if isinstance(prefix, str):
                yield canonical_name(prefix)


def split_columns(schema: Mapping[str, Any], parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the parameters whose column names the part of each row (`x-split-column`), each with that column."""
    for name, member in schema.get("properties", {}).items():
        value = parameters.get(name, member.get("default"))
        if member.get("x-split-column") and isinstance(value, str):
            yield name, canonical_name(value)


def formula_texts(step: Row[Any], parameters: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield each formula among the parameters with its place."""
    return marked(step.parameter_schema, parameters, "x-formula")


def marked(root: Mapping[str, Any], parameters: Mapping[str, Any], keyword: str) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield each text that `keyword` marks, also in lists and objects, with its place. The parameters are valid for the schema `root`."""

    def walk(
        schema: Mapping[str, Any], value: Any, path: tuple[str | int, ...], *, is_marked: bool
    ) -> Iterator[tuple[tuple[str | int, ...], str]]:
        reference = schema.get("$ref", "").removeprefix("#/$defs/")
        schema = {**root.get("$defs", {}).get(reference, {}), **schema}
        is_marked = is_marked or bool(schema.get(keyword))
        if isinstance(value, str) and is_marked:
            yield path, value
        elif isinstance(value, dict):
            for name, member in cast("dict[str, Any]", value).items():
                yield from walk(schema.get("properties", {}).get(name, {}), member, (*path, name), is_marked=False)
        elif isinstance(value, list):
            for position, item in enumerate(cast("list[Any]", value)):
                yield from walk(schema.get("items", {}), item, (*path, position), is_marked=is_marked)

    yield from walk(root, parameters, (), is_marked=False)
