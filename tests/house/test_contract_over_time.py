"""What was released is kept until the day that its deprecation gave."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from graph import contract
from graph.schema import schema

BEFORE = """
type Query {
  a: Int
  b(first: Int, old: Int @deprecated(reason: "Use `first`. Removed after 2027-06-30.")): String
  c: Gone @deprecated(reason: "Use `a`. Removed after 2027-06-30.")
  d(input: In): E
}
type Gone { x: Int }
input In { y: Int z: Int @deprecated(reason: "It did nothing. Removed after 2027-06-30.") }
enum E { ONE TWO @deprecated(reason: "Nothing is TWO. Removed after 2027-06-30.") }
"""
AFTER = "type Query { a: Int b(first: Int): String d(input: In): E } input In { y: Int } enum E { ONE }"


def test_the_schema_keeps_what_was_released() -> None:
    assert contract.broken(contract.RELEASED.read_text(), schema.as_str(), datetime.now(UTC).date()) == []


def test_every_deprecation_says_when_it_ends() -> None:
    assert contract.undated(schema.as_str()) == []


def test_a_deprecation_without_a_day_is_noticed() -> None:
    assert contract.undated('type Query { a: Int @deprecated b: Int @deprecated(reason: "Soon.") }') == ["", "Soon."]
    assert contract.undated(BEFORE) == []


def test_what_was_announced_may_go_after_its_day_and_not_before() -> None:
    assert contract.broken(BEFORE, AFTER, date(2027, 7, 1)) == []
    lost = contract.broken(BEFORE, AFTER, date(2027, 6, 30))
    assert len(lost) == 5
    for name in ("Gone", "Query.c", "old", "In.z", "TWO"):
        assert any(name in change for change in lost), name


@pytest.mark.parametrize(
    "change", [("a: Int", "a: String"), ("a: Int", ""), ("first: Int", "first: Int!"), ("y: Int", "y: Int!"), ("ONE", "NONE")]
)
def test_what_was_not_announced_never_goes(change: tuple[str, str]) -> None:
    assert len(contract.broken(BEFORE, AFTER.replace(*change), date(2027, 7, 1))) == 1
