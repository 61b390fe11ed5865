"""A populated platform in a few statements, composed of the factories of all domains."""

from __future__ import annotations

from sqlalchemy import select, text

from db.core.work import Database
from db.tables import User
from graph.core.ids import encode
from tests.client import Client
from tests.factories import factories
from tests.ownership import owner_condition


async def fill(database: Database, owner: str, count: int) -> None:
    """Insert `count` complete rows of each kind for `owner`, a username without rows. Its jobs have ended; triggers are disabled meanwhile."""
    await _execute(database, [factory.rows for factory in factories().values()], {"owner": owner, "count": count})


async def add_states(database: Database, owner: str) -> None:
    """Add one row of each state to the rows of `fill`. Unfinished jobs are scheduled a day ahead, so that no worker claims them."""
    await _execute(database, [factory.states for factory in factories().values()], {"owner": owner})


async def tell_story(client: Client) -> dict[str, str]:
    """Create rows through the API with a real worker; return their ids by name."""
    ids: dict[str, str] = {}
    for factory in factories().values():
        if factory.story is not None:
            await factory.story(client, ids)
    return ids


async def ids_by_prefix(database: Database, owner: str) -> dict[str, list[str]]:
    """Return the client-side ids of all rows of `owner` by prefix, the oldest first."""
    owner_id = (await database.rows(select(User.id).where(User.username == owner)))[0].id
    ids: dict[str, list[str]] = {}
    for factory in factories().values():
        for prefix, model in factory.ids.items():
            table = model.metadata.tables[model.__tablename__]
            condition = owner_condition(table, owner_id)
            assert condition is not None, f"rows of {table.name} have an id and no owner"
            rows = await database.rows(select(table.c.id).where(condition).order_by(table.c.id))
            ids[prefix] = [encode(prefix, row.id) for row in rows]
    return ids


async def _execute(database: Database, scripts: list[str], values: dict[str, object]) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("SET LOCAL transaction_timeout = 0"))  # on a busy machine, so many statements take longer
        for script in scripts:
            for statement in script.split(";\n"):
                if statement.strip():
                    used = {name: value for name, value in values.items() if f":{name}" in statement}
                    await connection.execute(text(statement), used or None)
        # What triggers would tell of these rows comes at any time, and the factories have notifications of their own.
        await connection.execute(text("DELETE FROM outbox_events"))
