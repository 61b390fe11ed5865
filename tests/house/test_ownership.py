"""Each table leads to the users whose rows it holds, or is named here among those that hold nobody's."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from sqlalchemy import Column, ForeignKey, MetaData, Table, Uuid, select
from sqlalchemy.dialects import postgresql

from db.tables import Table as MappedTable
from tests.ownership import owner_condition

OF_NOBODY = {
    "chores": "how the maintenance tasks of the workers went",
    "staged_points": "points of metrics on their way into the table that leads to their run",
    "step_definitions": "the catalogue of steps, the same for everybody",
    "uptime": "since when PostgreSQL runs",
    "workers": "the processes that do the jobs",
}
OWNER = UUID(int=7)


def complaints(tables: Iterable[Table], of_nobody: Collection[str]) -> list[str]:
    """Tables whose rows lead to no user and that are not known for it, and those that are known for it and lead to one."""
    found: list[str] = []
    for table in tables:
        leads_to_users = owner_condition(table, OWNER) is not None
        if not leads_to_users and table.name not in of_nobody:
            found.append(
                f"{table.name} has neither an owner_id nor a foreign key that leads to one: give it one, or say in {__name__} whose it is not."
            )
        if leads_to_users and table.name in of_nobody:
            found.append(f"{table.name} is said to hold nobody's rows and leads to users.")
    return found


def test_every_table_leads_to_its_owners_or_says_that_it_has_none() -> None:
    assert complaints(MappedTable.metadata.tables.values(), OF_NOBODY) == []
    assert set(OF_NOBODY) <= set(MappedTable.metadata.tables)


def test_a_table_without_an_owner_is_reported() -> None:
    metadata = MetaData()
    Table("users", metadata, Column("id", Uuid, primary_key=True))
    Table("reports", metadata, Column("id", Uuid, primary_key=True), Column("owner_id", Uuid, ForeignKey("users.id")))
    Table("pages", metadata, Column("id", Uuid, primary_key=True), Column("report_id", Uuid, ForeignKey("reports.id"), nullable=False))
    assert complaints(metadata.tables.values(), ()) == []
    Table("lines", metadata, Column("id", Uuid, primary_key=True), Column("page_id", Uuid))
    assert [text.split(" has ")[0] for text in complaints(metadata.tables.values(), ())] == ["lines"]
    assert complaints(metadata.tables.values(), {"lines"}) == []
    assert complaints(metadata.tables.values(), {"lines", "pages"}) == ["pages is said to hold nobody's rows and leads to users."]


def test_a_part_belongs_to_the_owner_of_its_parent_whoever_else_it_names() -> None:
    table = MappedTable.metadata.tables["model_alias_events"]
    condition = owner_condition(table, OWNER)
    assert condition is not None
    statement = str(select(table.c.id).where(condition).compile(dialect=postgresql.dialect()))
    assert "models.owner_id = " in statement
    assert "set_by_id" not in statement
