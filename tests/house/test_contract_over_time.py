"""A released definition is kept until the date in its deprecation."""

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
    assert contract.breaking_changes(contract.RELEASED.read_text(), schema.as_str(), datetime.now(UTC).date()) == []


def test_every_deprecation_says_when_it_ends() -> None:
    assert contract.undated_deprecations(schema.as_str()) == []


def test_a_deprecation_without_a_day_is_noticed() -> None:
    assert contract.undated_deprecations('type Query { a: Int @deprecated b: Int @deprecated(reason: "Soon.") }') == ["Query.a", "Query.b"]
    assert contract.undated_deprecations(BEFORE) == []


def test_what_was_announced_may_go_after_its_day_and_not_before() -> None:
    assert contract.breaking_changes(BEFORE, AFTER, date(2027, 7, 1)) == []
    violations = contract.breaking_changes(BEFORE, AFTER, date(2027, 6, 30))
    assert len(violations) == 5
    for name in ("Gone", "Query.c", "old", "In.z", "TWO"):
        assert any(name in change for change in violations), name


@pytest.mark.parametrize(
    "change", [("a: Int", "a: String"), ("a: Int", ""), ("first: Int", "first: Int!"), ("y: Int", "y: Int!"), ("ONE", "NONE")]
)
def test_what_was_not_announced_never_goes(change: tuple[str, str]) -> None:
    assert len(contract.breaking_changes(BEFORE, AFTER.replace(*change), date(2027, 7, 1))) == 1


def test_a_day_that_no_calendar_has_is_noticed() -> None:
    sdl = """type Query { a(b: Int @deprecated(reason: "Removed after 2027-13-45.")): E } enum E { F @deprecated(reason: "Removed after 2027-02-30.") G }"""
    assert contract.undated_deprecations(sdl) == ["Query.a(b)", "E.F"]
    assert contract.breaking_changes(sdl, sdl, date(2028, 1, 1)) == []


INPUTS = "type Query { a(b: Int! = 1, c: In): Int } input In { d: Int! = 1 e: [Int!] = [1] }"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("b: Int! = 1", "b: Int!"), ["Query.a(b) no longer has a default."]),
        (("b: Int! = 1", "b: Int! = 2"), ["The default of Query.a(b) was 1 and is 2."]),
        (("d: Int! = 1", "d: Int!"), ["In.d no longer has a default."]),
        (("e: [Int!] = [1]", "e: [Int!] = [1, 2]"), ["The default of In.e was [1] and is [1, 2]."]),
        (("e: [Int!] = [1]", "e: [Int!] = [1] f: Int = 3"), []),
        (("b: Int! = 1", "b: Int = 1"), []),
    ],
)
def test_a_default_that_was_released_stays(change: tuple[str, str], expected: list[str]) -> None:
    assert contract.breaking_changes(INPUTS, INPUTS.replace(*change), date(2027, 1, 1)) == expected


def test_an_input_of_several_fields_does_not_become_one_of_a_single_one() -> None:
    before = "type Query { a(c: In): Int } input In { d: Int e: Int }"
    after = before.replace("input In", "input In @oneOf")
    assert contract.breaking_changes(before, after, date(2027, 1, 1)) == ["In now takes exactly one field, but took several."]
    assert contract.breaking_changes(after, before, date(2027, 1, 1)) == []


def test_a_deprecation_leaves_the_time_that_it_promised() -> None:
    def deprecated(day: str) -> str:
        return f'type Query {{ a: Int b: Int @deprecated(reason: "Use `a`. Removed after {day}.") }}'

    today, plain = date(2027, 1, 1), "type Query { a: Int b: Int }"
    assert contract.breaking_changes(plain, deprecated("2026-12-31"), today) == [
        "Query.b is deprecated with a date that has passed: 2026-12-31."
    ]
    assert contract.breaking_changes(plain, deprecated("2027-06-30"), today) == []
    assert contract.breaking_changes(deprecated("2027-06-30"), deprecated("2027-03-31"), today) == [
        "Query.b was to stay until 2027-06-30, but is now removed after 2027-03-31."
    ]
    assert contract.breaking_changes(deprecated("2027-06-30"), deprecated("2027-09-30"), today) == []
    assert contract.breaking_changes(deprecated("2026-06-30"), deprecated("2026-06-30"), today) == []
