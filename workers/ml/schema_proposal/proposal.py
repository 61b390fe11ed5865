"""The proposal: a meaning, a role, a confidence and a reason for each column, the target and the problem type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypedDict

from workers.ml.schema_proposal.meanings import ID_WORDS, MAX_CLASSES, NUMBERS, ColumnFacts, Meaning, meaning_of

AGENT: Final = "rules/1"
"""The name and version of these rules; another version may propose otherwise."""
_SAMPLES, _SAMPLE_LENGTH = 5, 100
_TARGET_WORDS: Final = frozenset({"target", "label", "class", "outcome", "response", "y"})
_LIKELY_TARGETS: Final = frozenset(
    {"species", "diagnosis", "churn", "churned", "survived", "default", "fraud", "quality", "price", "category"}
)
_WEIGHTS: Final = (frozenset({"sample", "weight"}), frozenset({"instance", "weight"}), frozenset({"case", "weight"}))
_GROUP_WORDS: Final = frozenset({"group", "fold", "subject", "patient", "session", "household", "customer", "user"})
_CONTACTS: Final = frozenset({"email", "url", "phone", "ip_address", "uuid"})
_SPLITS: Final = frozenset({"train", "training", "valid", "validation", "val", "test"})
_NO_TARGETS: Final = frozenset(
    {"identifier", "date", "datetime", "time", "text", "json", "binary", "geometry", "coordinates", "latitude", "longitude", *_CONTACTS}
)


class Declared(TypedDict):
    """What the owner says about the dataset, which counts for more than what its values suggest."""

    target_column: str | None
    problem_type: str | None


class ProposedColumn(TypedDict):
    name: str
    type: str
    semantic_type: str | None
    role: str
    nullable: bool
    format: str | None
    confidence: float
    reason: str
    samples: list[Any]


class Proposal(TypedDict):
    """`confidence` is the mean of those of the columns, 1 without any."""

    agent: str
    confidence: float
    columns: list[ProposedColumn]
    problem_type: str | None
    target_column: str | None


class _Role(NamedTuple):
    role: str
    confidence: float
    reason: str


class _Target(NamedTuple):
    name: str
    confidence: float
    reason: str


def propose(profile: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], declared: Declared) -> Proposal:
    """Propose a schema. `profile` is a `ProfileReport`, of which `columns`, `row_count` and `is_exact` are read; `rows` are the first rows."""
    facts = [_facts(column, profile, rows) for column in profile["columns"]]
    meanings = [meaning_of(column) for column in facts]
    roles = [_role(column, meaning) for column, meaning in zip(facts, meanings, strict=True)]
    roles = _with_one_timestamp(roles)
    target = _target(facts, meanings, roles, declared["target_column"])
    problem_type = declared["problem_type"]
    if target is not None:
        index = next(index for index, column in enumerate(facts) if column.name == target.name)
        problem_type, reason = _problem(facts[index], meanings[index], problem_type)
        roles[index] = _Role("TARGET", target.confidence, f"{target.reason} {reason}")
    elif (
        problem_type is None
        and sum(role.role == "FEATURE" and column.type in NUMBERS for role, column in zip(roles, facts, strict=True)) > 1
    ):
        problem_type = "CLUSTERING"
    columns = [_proposed(*parts) for parts in zip(facts, meanings, roles, strict=True)]
    confidence = sum(column["confidence"] for column in columns) / len(columns) if columns else 1.0
    return {
        "agent": AGENT,
        "confidence": round(confidence, 3),
        "columns": columns,
        "problem_type": problem_type,
        "target_column": None if target is None else target.name,
    }


def _facts(column: Mapping[str, Any], profile: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> ColumnFacts:
    name = column["name"]
    frequent = [entry["value"] for entry in column.get("top_values") or ()]
    samples: dict[str, Any] = {}
    for value in [*(row.get(name) for row in rows), *frequent]:
        if value is not None:
            samples.setdefault(repr(value), value)
    return ColumnFacts(
        name=name,
        type=column["type"],
        rows=profile["row_count"],
        missing=column["missing_count"],
        distinct=column["distinct_count"],
        minimum=column.get("min"),
        maximum=column.get("max"),
        samples=list(samples.values()),
        is_exact=profile["is_exact"],
    )


def _role(column: ColumnFacts, meaning: Meaning) -> _Role:
    """The role of a column by itself, without the choice of a target."""
    if column.is_empty:
        return _Role("IGNORED", 1.0, "There is nothing to learn from it.")
    if column.distinct == 1 and column.missing == 0 and column.rows > 1:
        return _Role("IGNORED", 0.95, "All rows have the same value.")
    texts = {text.casefold() for text in column.texts}
    if "train" in texts | {text.removesuffix("ing") for text in texts} and texts <= _SPLITS:
        return _Role("IGNORED", 0.95, "Its values tell the split of each row.")
    if meaning.semantic_type == "identifier":
        if column.is_unique:
            return _Role("IDENTIFIER", meaning.confidence, "It identifies a row.")
        return _Role("GROUP", 0.7, "Rows with the same value belong together.")
    if meaning.semantic_type in _CONTACTS and column.distinct > column.rows / 2:
        if meaning.semantic_type == "uuid" and column.is_unique:
            return _Role("IDENTIFIER", 0.95, "It identifies a row.")
        return _Role("IGNORED", 0.8, "Most rows have a value of their own, from which nothing can be learnt.")
    if any(words <= column.words for words in _WEIGHTS) and column.type in NUMBERS:
        return _Role("WEIGHT", 0.9, "Its name says that it weights the rows.")
    if meaning.semantic_type in {"date", "datetime"}:
        return _Role("TIMESTAMP", 0.85, "It tells when.")
    if column.words & _GROUP_WORDS and meaning.semantic_type == "category" and column.distinct > 2:
        return _Role("GROUP", 0.6, "Its name says that rows with the same value belong together.")
    return _Role("FEATURE", 0.9, "A model can learn from it.")


def _with_one_timestamp(roles: list[_Role]) -> list[_Role]:
    """Keep the first timestamp; the others are features."""
    first = next((index for index, role in enumerate(roles) if role.role == "TIMESTAMP"), None)
    return [
        role if role.role != "TIMESTAMP" or index == first else _Role("FEATURE", 0.7, "Another column is the time of the row.")
        for index, role in enumerate(roles)
    ]


def _target(facts: list[ColumnFacts], meanings: list[Meaning], roles: list[_Role], declared: str | None) -> _Target | None:
    """The declared target; else a feature that is named like one; else the last column, if it is a feature."""
    names = [column.name for column in facts]
    if declared in names:
        return _Target(str(declared), 1.0, "The dataset names it as its target.")
    candidates = [
        column
        for column, meaning, role in zip(facts, meanings, roles, strict=True)
        if role.role == "FEATURE" and meaning.semantic_type not in _NO_TARGETS
    ]
    if len(candidates) < 2:
        return None
    for words, confidence in ((_TARGET_WORDS, 0.95), (_LIKELY_TARGETS, 0.75)):
        named = [column for column in candidates if column.words & words and not column.words & ID_WORDS]
        if named:
            return _Target(named[-1].name, confidence, "Its name is that of a target.")
    if candidates[-1].name == names[-1]:
        return _Target(names[-1], 0.5, "It is the last column, where the target often is.")
    return None


def _problem(column: ColumnFacts, meaning: Meaning, declared: str | None) -> tuple[str, str]:
    """The problem type of a target, and its reason."""
    if declared is not None:
        return declared, f"The dataset is for {declared.lower()}."
    if column.type not in NUMBERS:
        return "CLASSIFICATION", f"It has {column.distinct:,} classes, so this is a classification."
    if meaning.semantic_type == "category" or (column.type == "FLOAT" and column.distinct <= 2 < column.rows):
        return "CLASSIFICATION", f"It has at most {MAX_CLASSES} classes, so this is a classification."
    return "REGRESSION", "It is a number, so this is a regression."


def _proposed(column: ColumnFacts, meaning: Meaning, role: _Role) -> ProposedColumn:
    meaning = replace(meaning, confidence=min(1.0, max(0.0, meaning.confidence)))
    return {
        "name": column.name,
        "type": column.type,
        "semantic_type": meaning.semantic_type,
        "role": role.role,
        "nullable": column.missing > 0,
        "format": meaning.format,
        "confidence": round(min(meaning.confidence, role.confidence), 3),
        "reason": f"{meaning.reason} {role.reason}",
        "samples": [value[:_SAMPLE_LENGTH] if isinstance(value, str) else value for value in column.samples[:_SAMPLES]],
    }
