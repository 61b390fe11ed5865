"""Schemas that are proposed for known tables, and tables that break a contract."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.lazy_module import LazyModule
from tests.workers.ingest_runner import run_ingest
from workers.ml.errors import BadInput

DATASETS: Any = LazyModule("sklearn.datasets")
ROWS = 120


def proposal_of(folder: Path, data: bytes, **changes: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    result, _ = run_ingest(folder, data, **changes)
    proposal: dict[str, Any] = json.loads(json.dumps(result["proposal"]))
    return proposal, {column["name"]: column for column in proposal["columns"]}


@pytest.mark.parametrize(
    ("load", "problem_type", "columns"),
    [
        ("load_iris", "CLASSIFICATION", 5),
        ("load_breast_cancer", "CLASSIFICATION", 31),
        ("load_diabetes", "REGRESSION", 11),
    ],
    ids=["iris", "breast cancer", "diabetes"],
)
def test_the_target_and_the_problem_of_known_tables_are_found(tmp_path: Path, load: str, problem_type: str, columns: int) -> None:
    proposal, by_name = proposal_of(tmp_path, getattr(DATASETS, load)(as_frame=True).frame.to_csv(index=False).encode())
    assert (proposal["target_column"], proposal["problem_type"], len(by_name)) == ("target", problem_type, columns)
    assert {column["role"] for name, column in by_name.items() if name != "target"} == {"FEATURE"}
    assert by_name["target"]["role"] == "TARGET"
    assert 0.8 <= proposal["confidence"] <= 1


TEXT = "The pump was loud in the morning and stopped at noon, case"
MEANINGS: dict[str, tuple[Any, str | None, str, str | None]] = {
    "customer_id": (lambda i: 1000 + 3 * i, "identifier", "IDENTIFIER", None),
    "account id": (lambda i: i % 40, "identifier", "GROUP", None),
    "token": (lambda i: str(uuid.uuid5(uuid.NAMESPACE_DNS, str(i))), "uuid", "IDENTIFIER", None),
    "contact": (lambda i: f"user{i}@mail{i % 3}.example.org", "email", "IGNORED", None),
    "site": (lambda i: f"https://example.org/{i}", "url", "IGNORED", None),
    "host": (lambda i: f"10.0.{i % 7}.{i}", "ip_address", "IGNORED", None),
    "phone": (lambda i: f"+49 30 {100000 + i}", "phone", "IGNORED", None),
    "ordered": (lambda i: f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}", "date", "TIMESTAMP", "YYYY-MM-DD"),
    "nation": (lambda i: ["DE", "FR", "US", "JP", "BR"][i % 5], "country", "FEATURE", "ISO 3166-1 alpha-2"),
    "place": (lambda i: ["Germany", "France", "Japan", "Brazil"][i % 4], "country", "FEATURE", "name"),
    "paid in": (lambda i: ["EUR", "USD", "JPY"][i % 3], "currency_code", "FEATURE", "ISO 4217"),
    "total_price": (lambda i: f"{i * 1.37:.2f}", "currency", "FEATURE", None),
    "lat": (lambda i: 47 + i / 1000, "latitude", "FEATURE", None),
    "lon": (lambda i: 8 + i / 1000, "longitude", "FEATURE", None),
    "color": (lambda i: ["red", "green", "blue", "dark blue"][i % 4], "category", "FEATURE", None),
    "is_new": (lambda i: ["true", "false"][i % 2], "boolean", "FEATURE", None),
    "note": (lambda i: f"{TEXT} {i}", "text", "FEATURE", None),
    "same": (lambda _: "x", "category", "IGNORED", None),
    "empty": (lambda _: "", None, "IGNORED", None),
    "sample_weight": (lambda i: 0.5 + i / 7, "number", "WEIGHT", None),
    "size": (lambda i: i * 0.77 + (i * 7919 % 13), "number", "FEATURE", None),
    "label": (lambda i: ["a", "b", "c"][i * i % 3], "category", "TARGET", None),
}


def test_the_meaning_of_each_column_is_found(tmp_path: Path) -> None:
    lines = [";".join(MEANINGS), *(";".join(str(make(row)) for make, *_ in MEANINGS.values()) for row in range(ROWS))]
    proposal, by_name = proposal_of(tmp_path, "\n".join(lines).encode())
    found = {name: [column["semantic_type"], column["role"], column["format"]] for name, column in by_name.items()}
    assert found == {name: expected for name, (_, *expected) in MEANINGS.items()}
    assert all(0 <= column["confidence"] <= 1 and column["reason"].endswith(".") for column in by_name.values())
    assert (proposal["target_column"], proposal["problem_type"]) == ("label", "CLASSIFICATION")
    assert [name for name, column in by_name.items() if column["nullable"]] == ["empty"]


def test_amounts_tell_their_currency_and_what_the_dataset_declares_counts_for_more(tmp_path: Path) -> None:
    amounts = "".join(f'{row},"€ {row}.50",{row % 9}\n' for row in range(ROWS))
    declared = {"target_column": "n", "problem_type": "REGRESSION"}
    proposal, by_name = proposal_of(tmp_path, f"n,amount,label\n{amounts}".encode(), declared=declared)
    assert (by_name["amount"]["semantic_type"], by_name["amount"]["format"]) == ("currency", "€")
    assert (proposal["target_column"], proposal["problem_type"], by_name["label"]["role"]) == ("n", "REGRESSION", "FEATURE")


def test_numbers_without_a_target_are_to_be_clustered_and_an_empty_table_has_no_problem(tmp_path: Path) -> None:
    rows = "".join(f"{row * 0.3},{row * row * 0.1},r{row}\n" for row in range(ROWS))
    proposal, _ = proposal_of(tmp_path, f"u,v,id\n{rows}".encode())
    assert (proposal["target_column"], proposal["problem_type"]) == (None, "CLUSTERING")


def accepted(name: str, type_: str, role: str = "FEATURE", *, nullable: bool = False) -> dict[str, Any]:
    return {"name": name, "type": type_, "role": role, "nullable": nullable}


COLUMNS = [
    accepted("id", "INTEGER", "IDENTIFIER"),
    accepted("x", "FLOAT"),
    accepted("kind", "CATEGORY", nullable=True),
    accepted("gone", "STRING", "IGNORED"),
]


def contract_issues(folder: Path, data: bytes, *, fails: bool = False) -> list[tuple[str, str | None]]:
    result, _ = run_ingest(folder, data, contract={"columns": COLUMNS, "fails": fails})
    assert result["issue_count"] == len(result["issues"])
    return [(issue["code"], issue["column"]) for issue in result["issues"] if issue["code"].startswith("SCHEMA_")]


def test_a_table_that_keeps_the_contract_has_no_issue_whatever_its_values_happen_to_need(tmp_path: Path) -> None:
    """Whole numbers are floats too, text without repetition is no category, and what is ignored may be missing."""
    rows = "".join(f"{row},{row * 2},name {row} of a kind\n" for row in range(50))
    assert contract_issues(tmp_path, f"id,x,kind\n{rows}".encode(), fails=True) == []


def test_each_difference_is_an_issue_of_its_column(tmp_path: Path) -> None:
    rows = "".join(f"{row % 40},{'x' if row % 2 else 'y'},{'' if row else 'a'},{row}\n" for row in range(50))
    assert contract_issues(tmp_path, f"id,x,kind,more\n{rows}".encode()) == [
        ("SCHEMA_NOT_UNIQUE", "id"),
        ("SCHEMA_TYPE_CHANGED", "x"),
        ("SCHEMA_COLUMN_NEW", "more"),
    ]
    assert contract_issues(tmp_path, b"id,kind\n1,a\n2,b\n,a\n") == [("SCHEMA_NULLS", "id"), ("SCHEMA_COLUMN_MISSING", "x")]


def test_a_contract_that_fails_names_what_is_broken_and_a_new_column_breaks_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="The accepted schema has a column 'x', and the file has none") as raised:
        contract_issues(tmp_path, b"id,kind,more\n1,a,1\n2,b,2\n", fails=True)
    assert (raised.value.code, raised.value.column) == ("SCHEMA_BROKEN", "x")
    assert contract_issues(tmp_path, b"id,x,kind,more\n1,1.5,a,1\n2,2.5,b,2\n", fails=True) == [("SCHEMA_COLUMN_NEW", "more")]
