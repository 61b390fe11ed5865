"""Tutorials as Markdown files of this package: front matter in TOML between lines of `+++`, then a section for each step.

    ## Make some data {#generate}

A section's first code block of the language `graphql` is the step's document, one of `json` right after it are its variables, and all else is the
body. docs/tutorials.md describes the format for authors.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any
from uuid import UUID, uuid5

LEVELS = ("beginner", "intermediate", "advanced")
_NAMESPACE = UUID("6f0b1d57-6a52-4c2d-9a43-2a4f6c1f8a10")
_FIELDS: dict[str, type] = {"slug": str, "title": str, "summary": str, "level": str, "minutes": int, "order": int}
_HEADING = re.compile(r"## (?P<title>.+?)(?: \{#(?P<key>[a-z0-9-]+)\})?")
_CODE = re.compile(r"^```graphql\n(?P<document>.*?)^```\n(?:\s*^```json\n(?P<variables>.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_REFERENCE = re.compile(r"\$\.(?P<step>[a-z0-9-]+)(?P<path>(?:\.[A-Za-z0-9_]+)+)")


class InvalidTutorial(ValueError):
    """A file that is no tutorial; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step. `variables` are those of `document`; a value `$.<key>.<path>` is one of the result of an earlier step; None if it has none."""

    key: str
    title: str
    body: str
    document: str | None = None
    variables: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TutorialContent:
    """A tutorial. `order` is its place among the others."""

    slug: str
    title: str
    summary: str
    level: str
    minutes: int
    order: int
    steps: tuple[Step, ...]

    @cached_property
    def id(self) -> UUID:
        """The same in every installation and release."""
        return uuid5(_NAMESPACE, self.slug)

    @property
    def stored_steps(self) -> list[dict[str, Any]]:
        """The steps as the database keeps them."""
        return [asdict(step) for step in self.steps]


def parse(filename: str, text: str) -> TutorialContent:
    """Read a tutorial. Raises `InvalidTutorial`, which names the file, the line and what is expected there."""
    lines = text.splitlines(keepends=True)
    ends = [number for number, line in enumerate(lines) if line.rstrip() == "+++"]
    if len(ends) < 2 or ends[0] != 0:
        raise _invalid(filename, 1, "a tutorial begins with front matter in TOML between two lines of `+++`")
    try:
        front = tomllib.loads("".join(lines[1 : ends[1]]))
    except tomllib.TOMLDecodeError as error:
        raise _invalid(filename, 2, f"the front matter is no TOML: {error}") from None
    _check_front(filename, front)
    starts = [number for number, line in enumerate(lines) if number > ends[1] and line.startswith("## ")]
    if not starts:
        raise _invalid(filename, ends[1] + 1, "there is no step: write one as `## Title {#key}`")
    if "".join(lines[ends[1] + 1 : starts[0]]).strip():
        raise _invalid(filename, ends[1] + 2, "text before the first step is shown to nobody: move it into `summary` or a step")
    steps: list[Step] = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        step = _step(filename, start, lines[start].strip(), "".join(lines[start + 1 : end]))
        earlier = {known.key for known in steps}
        if step.key in earlier:
            raise _invalid(filename, start + 1, f"two steps have the key {step.key!r}")
        for reference in references(step.variables):
            if reference[0] not in earlier:
                raise _invalid(filename, start + 1, f"the variables refer to {reference[0]!r}, which is no earlier step")
        steps.append(step)
    return TutorialContent(**front, steps=tuple(steps))


def references(value: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what variables take from earlier steps: the step's key, and the path in its result."""
    if isinstance(value, str) and (match := _REFERENCE.fullmatch(value)):
        yield match["step"], tuple(match["path"][1:].split("."))
    elif isinstance(value, Mapping):
        for part in value.values():  # pyright: ignore[reportUnknownVariableType] - any JSON
            yield from references(part)
    elif isinstance(value, list):
        for part in value:  # pyright: ignore[reportUnknownVariableType] - any JSON
            yield from references(part)


def _check_front(filename: str, front: Mapping[str, Any]) -> None:
    for name, type_ in _FIELDS.items():
        if type(front.get(name)) is not type_ or not front[name]:
            raise _invalid(filename, 2, f"the front matter lacks `{name}`, of type {type_.__name__}")
    if unknown := sorted(front.keys() - _FIELDS.keys()):
        raise _invalid(filename, 2, f"the front matter has `{unknown[0]}`; it takes {', '.join(_FIELDS)}")
    if front["level"] not in LEVELS:
        raise _invalid(filename, 2, f"`level` is one of {', '.join(LEVELS)}")
    if front["minutes"] < 1:
        raise _invalid(filename, 2, "`minutes` is at least 1")
    if filename != f"{front['slug']}.md":
        raise _invalid(filename, 2, f"the slug {front['slug']!r} has to be the name of the file")


def _step(filename: str, start: int, heading: str, text: str) -> Step:
    match = _HEADING.fullmatch(heading)
    if match is None or match["key"] is None:
        raise _invalid(filename, start + 1, "a step needs a title and a key, which stays the same in later releases: `## Title {#key}`")
    blocks = list(_CODE.finditer(text))
    if len(blocks) > 1:
        raise _invalid(filename, start + 1, "a step has one `graphql` document at most: make two steps of it")
    if not blocks:
        return Step(match["key"], match["title"], _body(filename, start, text))
    block = blocks[0]
    body = _body(filename, start, text[: block.start()] + text[block.end() :])
    try:
        variables = json.loads(block["variables"] or "{}")
    except json.JSONDecodeError as error:
        raise _invalid(filename, start + 1, f"the variables are no JSON: {error}") from None
    if not isinstance(variables, dict):
        raise _invalid(filename, start + 1, "the variables are no JSON object")
    return Step(match["key"], match["title"], body, block["document"], variables or None)  # pyright: ignore[reportUnknownArgumentType] - any JSON


def _body(filename: str, start: int, text: str) -> str:
    body = re.sub(r"\n{3,}", "\n\n", text).strip()
    if not body:
        raise _invalid(filename, start + 1, "the step says nothing")
    return body


def _invalid(filename: str, line: int, problem: str) -> InvalidTutorial:
    return InvalidTutorial(f"{filename}, line {line}: {problem}.")


def _shipped() -> dict[str, TutorialContent]:
    folder = files("db.services.learning") / "tutorials"
    read = [parse(file.name, file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".md")]
    return {tutorial.slug: tutorial for tutorial in sorted(read, key=lambda tutorial: (tutorial.order, tutorial.slug))}


TUTORIALS = _shipped()
"""The tutorials of this release by slug, in their order."""
