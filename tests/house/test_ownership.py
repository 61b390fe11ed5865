"""A policy shows each user exactly the rows that lead to them by columns and foreign keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from sqlalchemy import Column, ForeignKey, MetaData, Table, Uuid, false, func, or_, select
from sqlalchemy.dialects import postgresql

from db.core.policy import POLICIES, Internal, Owned, Policy, Shared, Through
from db.core.viewer import UserRole, Viewer
from db.core.work import Database
from db.tables import Table as MappedTable
from db.tables import User
from tests.client import Client
from tests.factories import platform
from tests.ownership import owner_condition

OWNER = UUID(int=7)
TABLES = MappedTable.metadata.sorted_tables


def complaints(tables: Iterable[Table], policies: Mapping[str, Policy]) -> list[str]:
    """Report shared tables whose rows lead to users, and tables that lead to none and are neither shared nor internal."""
    reported: list[str] = []
    for table in tables:
        leads_to_users, policy = owner_condition(table, OWNER) is not None, policies.get(table.name)
        if leads_to_users and isinstance(policy, Shared):
            reported.append(f"The rows of {table.name} lead to users, and its policy shows them to everybody.")
        if not leads_to_users and not isinstance(policy, Shared | Internal):
            reported.append(
                f"{table.name} has neither an owner_id nor a foreign key that leads to one: give it one, or declare it Shared or Internal."
            )
    return reported


def test_every_table_leads_to_its_owners_or_says_that_it_has_none() -> None:
    assert complaints(TABLES, POLICIES) == []


async def test_a_policy_shows_each_user_exactly_the_rows_that_lead_to_them(ada: Client, bob: Client, database: Database) -> None:
    for name in ("ada", "bob"):
        await platform.fill(database, name, 2)
        await platform.add_states(database, name)
    users = {row.username: row.id for row in await database.rows(select(User.id, User.username))}
    viewers = {name: Viewer(users[name], UserRole.MEMBER, teams=((users[f"{name}-team"], UserRole.ADMIN),)) for name in ("ada", "bob")}
    wrong: list[str] = []
    for table in TABLES:
        for name in ("ada", "bob"):
            conditions = [owner_condition(table, account) for account in viewers[name].accounts]
            if conditions[0] is None:
                continue
            owned = func.coalesce(or_(*(condition for condition in conditions if condition is not None)), false())
            visible = func.coalesce(POLICIES[table.name].condition(table, viewers[name]), false())  # WHERE keeps no null
            expected = owned & (not isinstance(POLICIES[table.name], Internal))
            statement = select(
                func.count().filter(owned).label("rows"), func.count().filter(visible.is_distinct_from(expected)).label("differing")
            ).select_from(table)
            (counts,) = await database.rows(statement)
            if counts.rows == 0:
                wrong.append(f"No factory in tests/factories makes a row of {table.name}, so nothing is proven of it.")
            if counts.differing:
                wrong.append(f"Of {table.name}, {name} sees {counts.differing} rows too many or too few.")
    assert wrong == []


def test_a_table_without_an_owner_is_reported() -> None:
    metadata = MetaData()
    Table("users", metadata, Column("id", Uuid, primary_key=True))
    Table("reports", metadata, Column("id", Uuid, primary_key=True), Column("owner_id", Uuid, ForeignKey("users.id")))
    Table("pages", metadata, Column("id", Uuid, primary_key=True), Column("report_id", Uuid, ForeignKey("reports.id"), nullable=False))
    policies: dict[str, Policy] = {"users": Owned("id"), "reports": Owned(), "pages": Through("report_id")}
    assert complaints(metadata.tables.values(), policies) == []
    Table("lines", metadata, Column("id", Uuid, primary_key=True), Column("page_id", Uuid))
    tables = metadata.tables.values()
    assert [text.split(" has ")[0] for text in complaints(tables, policies)] == ["lines"]
    assert complaints(tables, {**policies, "lines": Internal("For nobody to read.")}) == []
    shared = {**policies, "lines": Shared("For everybody."), "pages": Shared("For everybody.")}
    assert complaints(tables, shared) == ["The rows of pages lead to users, and its policy shows them to everybody."]


def test_a_part_belongs_to_the_owner_of_its_parent_whoever_else_it_names() -> None:
    table = MappedTable.metadata.tables["model_alias_events"]
    condition = owner_condition(table, OWNER)
    assert condition is not None
    statement = str(select(table.c.id).where(condition).compile(dialect=postgresql.dialect()))
    assert "models.owner_id = " in statement
    assert "set_by_id" not in statement
