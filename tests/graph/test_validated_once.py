"""A document that was found valid is not validated again."""

from __future__ import annotations

from graphql import specified_rules

from graph.execution.limits import admission
from graph.schema import schema
from graph.settings import GraphSettings


def test_the_same_text_is_validated_once_for_each_set_of_rules_and_limits() -> None:
    text = "query Validated { viewer { id } }"
    rules, settings = tuple(specified_rules), GraphSettings()
    validator = admission.DocumentValidator(schema._schema)  # pyright: ignore[reportPrivateUsage] - Strawberry has no public way to it
    first = validator.validate_document(text, schema.read(text), rules, settings, hide_suggestions=False)
    assert first.errors == ()
    assert validator.validate_document(text, schema.read(text), rules, GraphSettings(), hide_suggestions=False) is first
    assert validator.validate_document(text, schema.read(text), rules[1:], settings, hide_suggestions=False) is not first
