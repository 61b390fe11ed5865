"""Every table declares in one place which of its rows a viewer may see, and each policy leads to an owner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, ForeignKey, MetaData, Table, Uuid, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import aliased

from db.core.policy import POLICIES, Internal, Owned, Personal, Policy, Shared, Through, visible
from db.core.viewer import SYSTEM, UserRole, Viewer
from db.tables import DatasetProfile, JobCheckpoint, JobEvent, StepDefinition
from db.tables import Table as MappedTable

ADA = Viewer(UUID(int=1), UserRole.MEMBER)


def complaints(tables: Iterable[Table], policies: Mapping[str, Policy]) -> list[str]:
    """Report what is wrong with the policies of these tables, one sentence each."""
    return [complaint for table in tables if (complaint := _complaint(table, policies, ())) is not None]


def _complaint(table: Table, policies: Mapping[str, Policy], path: tuple[str, ...]) -> str | None:
    match policies.get(table.name):
        case None:
            return f"{table.name} has no policy: declare one in its class header, see db/core/policy.py."
        case Owned(column) | Personal(column) | Through(column) if column not in table.c:
            return f"{table.name} has no column {column!r}, which its policy names."
        case Owned(column) | Personal(column) if column != "id" and {key.column.table.name for key in table.c[column].foreign_keys} != {
            "users"
        }:
            return f"{table.name}.{column}, which its policy names, refers to no user."
        case Through(column):
            parents = {key.column.table for key in table.c[column].foreign_keys}
            if len(parents) != 1:
                return f"{table.name}.{column}, which its policy names, is no foreign key to one table."
            (parent,) = parents
            if parent.name in path:
                return f"The policy of {table.name} leads back to {parent.name}."
            if isinstance(policies.get(parent.name), Shared | Internal):
                return f"The policy of {table.name} leads to {parent.name}, whose rows have no owner."
            return _complaint(parent, policies, (*path, table.name))
        case Shared() if "owner_id" in table.c:
            return f"{table.name} has owners and is shared with everybody."
        case Shared(reason) | Internal(reason) if len(reason) < 10:
            return f"The policy of {table.name} gives no reason."
        case _:
            return None


def test_every_table_has_a_policy_that_leads_to_an_owner() -> None:
    assert complaints(MappedTable.metadata.tables.values(), POLICIES) == []
    assert set(POLICIES) == set(MappedTable.metadata.tables)


def test_each_way_to_get_a_policy_wrong_is_reported() -> None:
    metadata = MetaData()
    Table("users", metadata, Column("id", Uuid, primary_key=True))
    for name, parent in (("reports", "users"), ("pages", "reports"), ("lines", "pages")):
        Table(name, metadata, Column("id", Uuid, primary_key=True), Column("owner_id", Uuid, ForeignKey(f"{parent}.id")))
    policies: dict[str, Policy] = {"users": Personal("id"), "reports": Owned(), "pages": Through("owner_id"), "lines": Through("owner_id")}

    def reported(**changed: Policy | None) -> list[str]:
        merged = {**policies, **changed}
        return complaints(metadata.tables.values(), {name: policy for name, policy in merged.items() if policy is not None})

    assert reported() == []
    assert any("lines has no policy" in text for text in reported(lines=None))
    assert any("has no column 'report_id'" in text for text in reported(lines=Through("report_id")))
    assert any("refers to no user" in text for text in reported(lines=Owned()))
    assert any("is no foreign key" in text for text in reported(lines=Through("id")))
    assert any("whose rows have no owner" in text for text in reported(pages=Internal("For nobody to read.")))
    assert any("is shared with everybody" in text for text in reported(reports=Shared("For everybody to read.")))
    assert any("gives no reason" in text for text in reported(lines=Internal("")))


def test_a_table_without_a_policy_cannot_be_defined() -> None:
    with pytest.raises(TypeError, match="policy"):
        type("Example", (MappedTable,), {"__tablename__": "examples"})
    assert "examples" not in MappedTable.metadata.tables


def test_a_part_is_visible_with_what_it_is_part_of() -> None:
    assert _condition(DatasetProfile, ADA).count("EXISTS") == 2
    assert "datasets_1.owner_id = " in _condition(DatasetProfile, ADA)
    assert "jobs_1.id = job_events_1.job_id" in _condition(aliased(JobEvent), ADA)
    assert _condition(DatasetProfile, SYSTEM) == "true"


def test_what_belongs_to_nobody_is_for_everybody_or_for_no_user() -> None:
    assert _condition(StepDefinition, ADA) == "true"
    assert (_condition(JobCheckpoint, ADA), _condition(JobCheckpoint, SYSTEM)) == ("false", "true")


def _condition(entity: Any, viewer: Viewer) -> str:
    statement = select(literal(1)).select_from(entity).where(visible(entity, viewer))
    return str(statement.compile(dialect=postgresql.dialect())).partition("WHERE ")[2]
