"""Tutorials that ship: each document is valid and affordable, each variable is declared, and a file that is none is refused with its place."""

from __future__ import annotations

import re

import pytest
from graphql import GraphQLError, OperationDefinitionNode, parse, validate

from db.services.learning import TUTORIALS, InvalidTutorial
from db.services.learning import parse as parse_tutorial
from graph.schema import schema

CORE = schema._schema
STEPS = {f"{tutorial.slug}.md, step {step.key}": step for tutorial in TUTORIALS.values() for step in tutorial.steps}
GOOD = """+++
slug = "good"
title = "Good"
summary = "What is right."
level = "beginner"
minutes = 1
order = 1
+++

## See who you are {#who}

Run it.

```graphql
{ viewer { id } }
```

## And again {#again}

Run it with what came before.

```graphql
query Again($id: ID!) { node(id: $id) { id } }
```

```json
{"id": "$.who.viewer.id"}
```
"""


def _faults(place: str) -> list[str]:
    step = STEPS[place]
    assert step.document is not None
    try:
        document = parse(step.document)
    except GraphQLError as error:
        return [f"{place}: {error.message}"]
    operations = [definition for definition in document.definitions if isinstance(definition, OperationDefinitionNode)]
    faults = [f"{place}: {error.message}" for error in validate(CORE, document)]
    if len(operations) != 1:
        return [*faults, f"{place}: a document has one operation, and this has {len(operations)}"]
    declared = {definition.variable.name.value for definition in operations[0].variable_definitions or ()}
    given = step.variables or {}
    if declared != given.keys():
        faults.append(f"{place}: it declares the variables {sorted(declared)}, and those given are {sorted(given)}")
    return faults


def test_every_document_is_valid_with_its_variables() -> None:
    assert [fault for place, step in STEPS.items() if step.document is not None for fault in _faults(place)] == []


def test_what_is_promised_is_taught() -> None:
    assert list(TUTORIALS) == ["first-model", "live-streams", "pagination-and-lineage", "images", "study", "tracking"]
    assert len({tutorial.id for tutorial in TUTORIALS.values()}) == len(TUTORIALS)
    assert sum(step.document is not None for step in STEPS.values()) >= 40


def test_a_file_is_read_as_it_is_written() -> None:
    tutorial = parse_tutorial("good.md", GOOD)
    assert (tutorial.slug, tutorial.level, tutorial.minutes, tutorial.order) == ("good", "beginner", 1, 1)
    who, again = tutorial.steps
    assert (who.key, who.title, who.body, who.document, who.variables) == (
        "who",
        "See who you are",
        "Run it.",
        "{ viewer { id } }\n",
        None,
    )
    assert again.variables == {"id": "$.who.viewer.id"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("+++\nslug", "slug", "good.md, line 1: a tutorial begins with front matter"),
        ("minutes = 1\n", "", "good.md, line 2: the front matter lacks `minutes`, of type int"),
        ("minutes = 1\n", "minutes = -1\n", "good.md, line 2: `minutes` is at least 1"),
        ("order = 1\n", "order = 1\nauthor = 'me'\n", "good.md, line 2: the front matter has `author`"),
        ('level = "beginner"', 'level = "easy"', "good.md, line 2: `level` is one of beginner, intermediate, advanced"),
        ('slug = "good"', 'slug = "other"', "good.md, line 2: the slug 'other' has to be the name of the file"),
        ('slug = "good"', "slug = good", "good.md, line 2: the front matter is no TOML"),
        ("{#again}", "{#who}", "good.md, line 18: two steps have the key 'who'"),
        (" {#who}", "", "good.md, line 10: a step needs a title and a key"),
        ("Run it.\n", "", "good.md, line 10: the step says nothing"),
        ("$.who.", "$.nobody.", "good.md, line 18: the variables refer to 'nobody', which is no earlier step"),
        ('{"id": ', "{id: ", "good.md, line 18: the variables are no JSON"),
        ("```json\n", "```graphql\n{ viewer { id } }\n```\n\n```json\n", "good.md, line 18: a step has one `graphql` document at most"),
        ("## See", "Read on.\n\n## See", "good.md, line 9: text before the first step is shown to nobody"),
    ],
)
def test_a_file_that_is_no_tutorial_is_refused_with_its_place(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidTutorial, match=re.escape(message)):
        parse_tutorial("good.md", GOOD.replace(old, new, 1))
