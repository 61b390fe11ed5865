"""The queries in the documentation are valid, and its links resolve."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from graphql import parse, validate

from graph.schema import schema

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUERIES = [query for path in DOCUMENTS for query in re.findall(r"```graphql\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)]


def test_the_readme_has_five_numbered_queries_to_try() -> None:
    steps = [
        (number, text.count("```graphql"))
        for number, text in re.findall(r"^\*\*(\d)\. (.+?)(?=^\*\*\d|^## )", README, re.DOTALL | re.MULTILINE)
    ]
    assert steps == [("1", 1), ("2", 2), ("3", 2), ("4", 1), ("5", 1)]


@pytest.mark.parametrize("query", QUERIES, ids=range(1, len(QUERIES) + 1))
def test_a_query_of_a_document_is_valid(query: str) -> None:
    assert validate(schema._schema, parse(query)) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_to_one(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []
