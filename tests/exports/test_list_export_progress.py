"""The progress of an export of a list is the share of the rows that were read and written."""

from __future__ import annotations

import re
from itertools import pairwise

from sqlalchemy import text

from db.core.work import Database
from tests.client import Client
from tests.exports.test_list_exports import NAMES, add_runs, content_of, id_of, make

MORE = 25_000


async def test_the_percents_of_an_export_grow_with_the_rows_and_end_with_all(ada: Client, database: Database, worker: object) -> None:
    experiment_id = await add_runs(database, await id_of(database, "ada"))
    many = """INSERT INTO runs (owner_id, experiment_id, number, seed)
      SELECT owner_id, id, 100 + i, 1 FROM experiments CROSS JOIN generate_series(1, :count) i WHERE id = :experiment"""
    async with database.engine.begin() as connection:
        await connection.execute(text(many), {"experiment": experiment_id, "count": MORE})
    created = await make(ada, "RUNS", columns=["number"])
    rows = (await content_of(ada, created)).splitlines()
    total = MORE + len(NAMES)
    assert len(rows) == total

    events = [event async for event in ada.events(created["job"]["id"])]
    percents = [event["progress"] for event in events]
    assert all(before <= after for before, after in pairwise(percents))
    assert (percents[0], percents[-1]) == (0, 100)
    read = [
        (match, event["progress"]) for event in events if (match := re.fullmatch(r"Read rows: ([\d,]+) of ([\d,]+)", event["step"] or ""))
    ]
    assert read
    for match, percent in read:
        done, known = (int(number.replace(",", "")) for number in match.groups())
        assert (known, percent) == (total, 60 * done // total)
