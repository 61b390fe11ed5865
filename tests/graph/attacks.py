"""Documents that are expensive to process: a few kilobytes that expand to millions, or that make a rule compare all pairs."""

from __future__ import annotations

from collections.abc import Callable


def _chain(length: int, link: Callable[[int], str], last: str = "id") -> str:
    """Return a chain of fragments, each of which spreads the next."""
    links = "".join(f"fragment F{i} on User {{ {link(i + 1)} }} " for i in range(length))
    return f"{{ viewer {{ ...F0 }} }} {links} fragment F{length} on User {{ {last} }}"


def _repeat(count: int, part: Callable[[int], str]) -> str:
    return " ".join(part(i) for i in range(count))


ATTACKS: dict[str, str] = {
    "1,000 aliases": "{" + _repeat(1_000, lambda i: f"a{i}: __typename") + "}",
    "aliases below a field": "{ viewer {" + _repeat(60, lambda i: f"a{i}: id") + "} }",
    "aliases in fragments": _chain(10, lambda i: f"a{i}: id ...F{i} ... on User {{ ...F{i} }}"),
    "50,000 tokens": "{" + "a " * 49_000 + "}",
    "5,001 tokens": "{" + "a " * 5_000 + "}",
    "more than 100 kB": "{ viewer { id } } #" + "x" * 100_000,
    "a chain of 60 fragments": _chain(60, lambda i: f"...F{i} ...F{i}"),
    "a chain that doubles its depth": _chain(
        22, lambda i: f"datasets {{ edges {{ node {{ owner {{ ...F{i} }} o: owner {{ ...F{i} }} }} }} }}"
    ),
    "a circle of fragments": "{ viewer { ...F0 } }" + _repeat(50, lambda i: f"fragment F{i} on User {{ ...F{(i + 1) % 50} id }}"),
    "fragments that all spread each other": "{ viewer { ...F0 } }"
    + _repeat(30, lambda i: f"fragment F{i} on User {{ id {_repeat(30, lambda j: f'...F{j}')} }}"),
    "fragments that all spread the later ones": "{ viewer { ...F0 } }"
    + _repeat(49, lambda i: f"fragment F{i} on User {{ id {_repeat(48 - i, lambda j: f'...F{i + j + 1}')} }}"),
    "100 levels": "{ viewer" + " { datasets { edges { node { owner" * 25 + " { id }" + " } } } }" * 25 + " }",
    "1,000 levels": "{ viewer" + " { a" * 1_000 + " }" * 1_000 + " }",
    "20,000 variables": "query(" + _repeat(20_000, lambda i: f"$v{i}: Int") + ") { viewer { id } }",
    "1,000 variables": "query(" + _repeat(1_000, lambda i: f"$v{i}: Int") + ") { viewer { id } }",
    "3,000 directives": "{ viewer { id" + " @include(if: true)" * 3_000 + " } }",
    "600 directives": "{ viewer {" + "id @skip(if: true) " * 600 + " } }",
    "6 directives in one place": "{ viewer { id" + " @include(if: true)" * 6 + " } }",
    "800 inline fragments": "{ viewer {" + "... on User { id } " * 800 + "} }",
    "800 inline fragments on an interface": '{ node(id: "1") {' + "... on Node { id } " * 800 + "} }",
    "500 equal fields with arguments": "{ viewer {" + "datasets(first: 1) { totalCount } " * 500 + "} }",
    "500 unequal fields of one name": "{ viewer {" + _repeat(500, lambda i: f"datasets(first: {i}) {{ totalCount }}") + "} }",
    "4,900 equal fields": "{ viewer {" + "id " * 4_900 + "} }",
    "21 root fields": "{" + "__typename " * 21 + "}",
    "4,000 unknown fields": "{ viewer {" + _repeat(4_000, lambda i: f"emai{i}") + "} }",
    "800 unknown types": '{ node(id: "1") {' + _repeat(700, lambda i: f"... on Datase{i} {{ id }}") + "} }",
    "1,600 unknown arguments": "{ viewer { datasets(" + _repeat(1_600, lambda i: f"firs{i}: 1") + ") { totalCount } } }",
    "1,600 unknown input fields": "{ datasets(filter: {" + _repeat(1_600, lambda i: f"modalit{i}: 1") + "}) { totalCount } }",
    "4,900 unknown enum values": "{ datasets(filter: {modality: [" + _repeat(4_900, lambda i: f"TABULA{i}") + "]}) { totalCount } }",
    "a number of 90,000 digits": "{ datasets(first: " + "9" * 90_000 + ") { totalCount } }",
    "a name of 90,000 letters": "{" + "n" * 90_000 + "}",
    "lists in lists": "{ datasets(first: " + "[" * 2_000 + "]" * 2_000 + ") { totalCount } }",
    "objects in objects": "{ datasets(filter: " + "{and: " * 190 + "1" + "}" * 190 + ") { totalCount } }",
    "a list of 4,900 ids": "{ nodes(ids: [" + "1 " * 4_900 + "]) { id } }",
    "400 operations": _repeat(400, lambda i: f"query q{i} {{ viewer {{ id }} }}"),
    "800 fragments": "{ viewer { id } }" + _repeat(800, lambda i: f"fragment F{i} on User {{ id }}"),
    "introspection of types of types": "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }",
    "introspection 19 times": "{" + " ".join(f"a{n}: __schema {{ types {{ fields {{ args {{ name }} }} }} }}" for n in range(19)) + "}",
    "introspection by 40 names": "{ __schema {"
    + _repeat(40, lambda i: f"a{i}: types {{ fields {{ args {{ name type {{ name kind ofType {{ name }} }} }} }} }}")
    + "} }",
    "pages of pages of pages": "{ datasets(first: 100) { edges { node { jobs(first: 100) { edges { node { id } } } } } } }",
}
