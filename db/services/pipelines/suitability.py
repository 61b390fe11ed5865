"""Whether a training pipeline can learn from a dataset version, as far as the types of its columns tell.

The steps say by `x-` keywords of their parameter schemas what they do with columns (see `workers.ml.steps.step.Step`). What cannot be decided
without the values, such as whether an integer target is a class, is left to the body; so is a step or a type that another release declares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from db.core import formulas
from db.core.checks import Checks, canonical_name, composed
from db.errors import Issue
from db.services.pipelines.definitions import Definition, Steps, changed_columns, formula_texts, may_be_made, split_columns
from db.tables.datasets import ProblemType
from db.tables.pipelines import StepType

MAX_COLUMN_ISSUES = 20  # a table of texts may have thousands of columns
MAX_FORMULA_ISSUES = 20  # and a pipeline as many formulas, each of which is compared with all columns

_KINDS = {
    **dict.fromkeys(("INTEGER", "FLOAT", "BOOLEAN", "DECIMAL", "DURATION", "TIME"), "number"),
    **dict.fromkeys(("STRING", "CATEGORY", "JSON"), "text"),
    **dict.fromkeys(("DATE", "DATETIME"), "time"),
    "BINARY": "other",
}


@dataclass(frozen=True, slots=True)
class Training:
    """The training node of a definition, applied to a version. `problem_type` is None where only the values decide it."""

    index: int
    key: str
    step: Any
    parameters: Mapping[str, Any]
    target: str | None
    problem_type: ProblemType | None

    def issue(self, message: str, *path: str) -> Issue:
        return Issue(("definition", "nodes", str(self.index), "parameters", *path), message)


def find_training(
    definition: Definition,
    steps: Steps,
    columns: Sequence[Mapping[str, Any]],
    default_target: str | None,
    default_problem: ProblemType | None,
) -> Training | None:
    """Return the training node of a definition, if any, with its target and problem type on these columns, [{name, type}]."""
    for index, node in enumerate(definition["nodes"]):
        step = steps.get(node["step"])
        if step is None or step.type is not StepType.TRAIN:
            continue
        parameters = node["parameters"]
        supported = step.parameter_schema.get("x-problem-types", [])
        chosen = parameters.get("target")
        default = None if default_target is None else canonical_name(default_target)
        needs_target = step.parameter_schema.get("x-requires-target")
        target = None if not needs_target else canonical_name(chosen) if isinstance(chosen, str) else default
        types = _types(columns)
        problem_name = _problem_name(supported, parameters, default_problem if target == default else None, types.get(target or ""))
        problem_type = None if problem_name is None else ProblemType.__members__.get(problem_name)
        return Training(index, node["key"], step, parameters, target, problem_type)
    return None


def _problem_name(
    supported: Sequence[str], parameters: Mapping[str, Any], default_problem: ProblemType | None, target_type: str | None
) -> str | None:
    if len(supported) == 1:
        return supported[0]
    chosen = parameters.get("problem_type", "auto")
    if chosen != "auto":
        return str(chosen).upper()
    if default_problem is not None and default_problem.name in supported:
        return default_problem.name
    if target_type == "BOOLEAN" or _KINDS.get(target_type or "") == "text":
        return ProblemType.CLASSIFICATION.name
    return ProblemType.REGRESSION.name if target_type in {"FLOAT", "DECIMAL"} else None


def suitability_issues(
    definition: Definition, steps: Steps, columns: Sequence[Mapping[str, Any]], training: Training, default_target: str | None
) -> list[Issue]:
    """Return why the training cannot learn from these columns: of its target, then of its features in their order."""
    types = _types(columns)
    issues = list(_target_issues(training, types))
    if issues or "number" not in (takes := training.step.parameter_schema.get("x-takes", [])):
        return issues
    target = training.target or (default_target and canonical_name(default_target))
    kinds = _feature_kinds(definition, steps, types, target)
    unsuitable = [(name, kind) for name, kind in kinds.items() if kind is not None and kind not in takes]
    issues = [
        training.issue(_feature_message(training, steps, name, kind, types.get(name, kind)))
        for name, kind in unsuitable[:MAX_COLUMN_ISSUES]
    ]
    if len(unsuitable) > MAX_COLUMN_ISSUES:
        issues.append(training.issue(f"The same holds for {len(unsuitable) - MAX_COLUMN_ISSUES:,} more columns."))
    return issues


def condition_issues(definition: Definition, steps: Steps, columns: Sequence[Mapping[str, Any]]) -> list[Issue]:
    """Return why conditions (`x-operators`) cannot be applied to columns of their types: each with an operator or a value of another kind."""
    types, checks = _types(columns), Checks()
    for name in changed_columns(definition, steps):
        types.pop(name, None)  # of another type where the condition is applied
    for index, node in enumerate(definition["nodes"]):
        step, parameters = steps.get(node["step"]), _object(node["parameters"])
        schema: Any = {} if step is None else step.parameter_schema
        for name, member in schema.get("properties", {}).items():
            item_schema = schema.get("$defs", {}).get(member.get("items", {}).get("$ref", "").removeprefix("#/$defs/"), {})
            conditions = parameters.get(name)
            if "x-operators" not in item_schema or not isinstance(conditions, list):
                continue
            for position, condition in enumerate(map(_object, cast("list[Any]", conditions))):
                if isinstance(condition.get("column"), str):
                    path = ("definition", "nodes", index, "parameters", name, position)
                    _check_condition(checks, condition, types.get(canonical_name(condition["column"])), item_schema["x-operators"], path)
    return checks.issues


def formula_issues(definition: Definition, steps: Steps, columns: Sequence[Mapping[str, Any]]) -> list[Issue]:
    """Return why formulas (`x-formula`) cannot be computed from columns of these types, `MAX_FORMULA_ISSUES` at most."""
    kinds: dict[str, formulas.Kind | None] = {name: _formula_kind(type_) for name, type_ in _types(columns).items()}
    kinds |= dict.fromkeys(changed_columns(definition, steps))  # known only to the body
    checks = Checks()
    for index, node in enumerate(definition["nodes"]):
        step = steps.get(node["step"])
        for path, text in formula_texts(step, _object(node["parameters"])) if step is not None else ():
            try:
                formula = formulas.parse(composed(text, 2 * formulas.MAX_LENGTH))
                made = {name: None for name in formula.columns if name not in kinds and may_be_made(name, kinds, definition, steps)}
                formulas.kind_of(formula, {**kinds, **made})
            except formulas.FormulaError as error:
                checks.add("definition", "nodes", index, "parameters", *path, message=str(error))
            if len(checks.issues) == MAX_FORMULA_ISSUES:
                return list(dict.fromkeys(checks.issues))
    return list(dict.fromkeys(checks.issues))


def _formula_kind(type_: str) -> formulas.Kind | None:
    kinds: dict[str, formulas.Kind] = {"number": "number", "text": "text", "time": "time"}
    return "boolean" if type_ == "BOOLEAN" else None if type_ == "JSON" else kinds.get(_KINDS.get(type_, ""))


def _object(value: Any) -> dict[str, Any]:
    """Return a JSON object; an empty one for what is none, which is reported elsewhere."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _check_condition(
    checks: Checks, condition: Mapping[str, Any], type_: str | None, operators: Mapping[str, Sequence[str]], path: tuple[str | int, ...]
) -> None:
    kind = "boolean" if type_ == "BOOLEAN" else _KINDS.get(type_ or "", "")
    operator, column = condition.get("operator"), f"The column {condition['column']!r} is of type {type_}"
    if kind not in operators or type_ == "JSON" or not any(operator in known for known in operators.values()):
        return  # reported already, or known only to the body: JSON is kept as text, or as nested values
    if operator not in operators[kind]:
        message = f"{column}, which {operator!r} does not support. Operators for it: {', '.join(operators[kind])}."
        checks.add(*path, "operator", message=message)
    elif operator not in operators["other"]:  # those take no value
        value = condition.get("value")
        values = cast("list[Any]", value) if isinstance(value, list) else [value]
        for position, each in enumerate(values):
            place = (position,) if isinstance(value, list) else ()
            if isinstance(each, bool | int | float | str) and not _is_of_kind(each, kind):
                example = ", such as '2024-05-01'" if kind == "time" else ""
                checks.add(*path, "value", *place, message=f"{column}, and {each!r:.100} is not. Give a value of that type{example}.")


def _is_of_kind(value: bool | float | str, kind: str) -> bool:
    if kind == "time" and isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return False
        return True
    return isinstance(value, {"boolean": bool, "number": int | float, "text": str}.get(kind, ())) and (kind == "boolean") is isinstance(
        value, bool
    )


def _types(columns: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the types of the columns by name, in the form in which names are compared."""
    return {canonical_name(column["name"]): str(column["type"]) for column in columns}


def _names(value: Any) -> set[str]:
    """Return the columns that a parameter names, one or a list."""
    return {canonical_name(name) for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)}  # pyright: ignore[reportUnknownVariableType] - JSON


def _target_issues(training: Training, types: Mapping[str, str]) -> Iterator[Issue]:
    if not training.step.parameter_schema.get("x-requires-target"):
        return
    target, key = training.target, training.key
    if target is None:
        message = f"{key!r} has no target: neither this parameter nor the dataset names the column to predict. Set one of them."
        yield training.issue(message, "target")
    elif target not in types:
        if training.parameters.get("target") is None:  # a column that the step names is checked as every other parameter
            message = f"The dataset's target column {target[:100]!r} is not in this version. Name the column to predict here."
            yield training.issue(message, "target")
    elif training.problem_type is ProblemType.REGRESSION and _KINDS.get(types[target], "number") != "number":
        message = f"{key!r} predicts numbers, and the target {target!r} is of type {types[target]}. Choose a numeric target, or a step that predicts classes."
        yield training.issue(message, "target")
    elif _KINDS.get(types[target]) in {"time", "other"}:
        message = f"The target {target!r} is of type {types[target]}; classes must be text, booleans or integers. Choose another target."
        yield training.issue(message, "target")


def _feature_kinds(definition: Definition, steps: Steps, types: Mapping[str, str], target: str | None) -> dict[str, str | None]:
    """Return the kinds of the features as the training gets them, by name; None for one that cannot be told."""
    kinds: dict[str, str | None] = {name: _KINDS.get(type_) for name, type_ in types.items()}
    non_features: set[str | None] = {target}
    for node in definition["nodes"]:
        parameters, step = node["parameters"], steps.get(node["step"])
        if step is None:
            return {}
        schema = step.parameter_schema
        named = _names(parameters.get("columns"))
        if schema.get("x-chooses") == "keep":
            non_features |= kinds.keys() - named
        elif schema.get("x-chooses") == "drop":
            non_features |= named
        elif schema.get("x-chooses") == "numbers":
            non_features |= {name for name, kind in kinds.items() if kind not in {"number", None}}
        elif schema.get("x-gives") is not None:
            for name, kind in kinds.items():
                if name in named if named else kind in schema.get("x-takes", []):
                    kinds[name] = None if types.get(name) == "JSON" else schema["x-gives"]  # JSON is kept as text, or as nested values
        _apply_changes(schema, parameters, kinds)
        non_features |= {name for name in _names(parameters.get("time_column")) if kinds.get(name) == "time"}
        non_features |= _names(parameters.get("group_column")) | _names(parameters.get("exclude"))
        non_features |= {name for _, name in split_columns(schema, parameters)}
    return {name: kind for name, kind in kinds.items() if name not in non_features}


def _apply_changes(schema: Mapping[str, Any], parameters: Mapping[str, Any], kinds: dict[str, str | None]) -> None:
    """Rename and convert columns as the step does. The kind of a column that a formula gives is left to the body."""
    for name, member in schema.get("properties", {}).items():
        value = parameters.get(name)
        if "x-gives-by-value" in member and isinstance(value, str):
            kinds |= dict.fromkeys(_names(parameters.get("columns")) & kinds.keys(), member["x-gives-by-value"].get(value))
        elif member.get("x-renames") and isinstance(value, list):
            for renaming in map(_object, cast("list[Any]", value)):
                for old in _names(renaming.get("column")) & kinds.keys():
                    kinds |= dict.fromkeys(_names(renaming.get("name")), kinds.pop(old))
        elif isinstance(value, list):
            made = [_object(item) for item in cast("list[Any]", value) if "formula" in _object(item)]
            kinds |= dict.fromkeys((name for item in made for name in _names(item.get("name"))), None)


def _feature_message(training: Training, steps: Steps, name: str, kind: str, type_: str) -> str:
    droppers = _step_names(steps, **{"x-chooses": "drop"})
    advice = f"Leave it out: name it in `exclude` of {training.key!r}{f', or in a {droppers} step' if droppers else ''}."
    converters = _step_names(steps, **{"x-gives": "number", "x-takes": kind})
    if converters:
        what = "encodes text" if kind == "text" else "turns it into numbers"
        advice = f"Link a step before it that {what} ({converters}), or l{advice[1:]}"
    if kind == "text":
        return f"The column {name!r} is text which is not encoded, and {training.key!r} learns only from numbers. {advice}"
    return f"The column {name!r} is of type {type_}, and {training.key!r} learns only from numbers. {advice}"


def _step_names(steps: Steps, **keywords: str) -> str:
    """The steps whose schemas have these values, or lists that contain them."""
    schemas = {key: step.parameter_schema for key, step in sorted(steps.items())}
    return " or ".join(
        key
        for key, schema in schemas.items()
        if all(value == schema.get(name) or value in schema.get(name, ()) for name, value in keywords.items())
    )
