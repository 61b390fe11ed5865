"""A filter or order is declared once, as an input whose fields are columns of the list's table; an unknown column is rejected at start-up."""

from __future__ import annotations

import base64
from dataclasses import fields
from typing import Any

import orjson
import pytest
import strawberry
from sqlalchemy.dialects import postgresql
from strawberry import ID

from db.core.criteria import AllOf, Criteria, Equals, Filters, OneOf, Order, Orders, TextMatch
from db.core.viewer import SYSTEM
from db.queries import datasets, versions
from db.tables import Dataset, Job, Run
from db.tables.datasets import Modality
from graph.core.edges import connection
from graph.core.filters import Filter, StringFilter, order_input, reference
from graph.core.ids import NODE_REGISTRY
from graph.schema import schema
from tests.client import Client


def sql(criteria: Criteria) -> str:
    statement = datasets.listing.rows(SYSTEM, criteria)
    return str(statement.compile(dialect=postgresql.dialect())).partition("WHERE ")[2]


def test_a_new_field_of_a_filter_takes_one_line() -> None:
    @strawberry.input
    class WiderFilter(Filter):
        description: StringFilter | None = None
        modality: list[Modality] | None = None
        target_column: str | None = None
        owner_id: ID | None = reference("user", description="Whose it is.")

    datasets.listing.require_filters(WiderFilter.field_names())
    criteria = WiderFilter(
        description=StringFilter(eq="x", contains=None, starts_with=None, in_=None),
        modality=[Modality.TEXT, Modality.IMAGE],
        target_column="y",
        owner_id=None,
    ).to_criteria()
    assert criteria == Criteria.of(description=TextMatch("x"), modality=OneOf((Modality.TEXT, Modality.IMAGE)), target_column=Equals("y"))
    assert hash(criteria) == hash(criteria.without("nothing"))
    for condition in ("lower(datasets.description) = lower(", "datasets.modality = ANY (", "datasets.target_column = "):
        assert condition in sql(criteria)
    assert "datasets.owner_id" not in sql(criteria)


def test_a_field_that_is_no_column_is_refused_when_its_edge_is_declared() -> None:
    @strawberry.input
    class ColourFilter(Filter):
        colour: str | None = None

    with pytest.raises(TypeError, match="datasets has no column 'colour'"):
        connection(datasets.listing, filtered_by=ColourFilter, description="")
    with pytest.raises(TypeError, match="This listing has no filters"):
        connection(versions.of_dataset, filtered_by=ColourFilter, description="")
    Filters(Dataset, colour=lambda _: ()).require(ColourFilter.field_names())


def test_an_id_in_a_filter_says_what_it_refers_to() -> None:
    @strawberry.input
    class OwnerFilter(Filter):
        owner_id: ID | None = None

    with pytest.raises(TypeError, match=r"OwnerFilter.owner_id is an id: declare it with `reference`"):
        connection(datasets.listing, filtered_by=OwnerFilter, description="")


def test_an_order_is_by_a_column_whose_values_have_an_order() -> None:
    with pytest.raises(TypeError, match="datasets has no column 'colour'"):
        connection(datasets.listing, ordered_by=order_input("Colour", "colours", colour="Its colour."), description="")
    with pytest.raises(TypeError, match="cannot be ordered by modality"):
        Orders(Dataset).require(["modality"])
    with pytest.raises(TypeError, match="This listing has a fixed order"):
        versions.of_dataset.require_orders(["number"])


def test_a_condition_of_the_domains_own_form_needs_a_function() -> None:
    with pytest.raises(TypeError, match="pass a function"):
        sql(Criteria.of(name=AllOf((1,))))


def test_every_id_in_a_filter_is_of_a_kind_that_exists() -> None:
    inputs: list[Any] = [kind for kind in Filter.__subclasses__() if kind.__module__.startswith("graph.")]
    prefixes = {(kind.__name__, field.name): field.metadata.get("prefix") for kind in inputs for field in fields(kind)}
    assert schema.get_type_by_name("Node") is not None, "all domains are imported"
    assert {place: prefix for place, prefix in prefixes.items() if prefix is not None and prefix not in NODE_REGISTRY} == {}
    assert {name for name, field in prefixes if field == "owner_id"} >= {"DatasetFilter", "JobFilter", "RunFilter"}


def test_the_kind_of_an_order_follows_from_its_column() -> None:
    kinds = {field: Orders(Run)(Order(field)).kind for field in ("created_at", "number", "name")}
    assert kinds == {"created_at": "time", "number": "int", "name": "text"}
    assert [Orders(Run)(Order(field)).nullable for field in ("created_at", "started_at", "name")] == [False, True, True]
    assert (Orders(Job)(None).name, Orders(Job)(Order("priority", descending=False)).name) == ("created_at.1", "priority.0")


async def test_the_names_in_cursors_stay_what_they_are(filled_client: Client) -> None:
    """A cursor issued before a release remains valid after it."""
    names: dict[str, list[str]] = {}
    for root, orders in {
        "datasets": ("{field: NAME}", "{field: UPDATED_AT, direction: ASC}", "{field: CREATED_AT}"),
        "jobs": ("{field: PRIORITY}", "{field: CREATED_AT, direction: ASC}"),
        "runs": ("{by: {field: NUMBER}}", '{by: {metric: "accuracy"}, direction: ASC}', "{by: {field: CREATED_AT}}"),
    }.items():
        for order in orders:
            page = await filled_client.one(f"{{ {root}(first: 1, orderBy: {order}) {{ pageInfo {{ endCursor }} }} }}")
            cursor = page["pageInfo"]["endCursor"]
            names.setdefault(root, []).append(orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))[0])
    assert names == {
        "datasets": ["name.1", "updated_at.0", "created_at.1"],
        "jobs": ["priority.1", "created_at.0"],
        "runs": ["number.1", "metric.0.accuracy", "created_at.1"],
    }
