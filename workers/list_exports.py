"""EXPORT_LIST: write the rows of a list as a file.

The worker reads the rows, since bodies know no database, and a body makes the table of them. Both take the same memory for any number of rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from sqlalchemy import Row

from db.core.work import Work
from db.queries import list_exports as lists
from db.queries.list_exports import ListPage, ListPlan, ListReader
from db.services import exports
from db.services.jobs import Failure
from db.services.list_exports import MakerRights, RightsLost
from db.tables.jobs import JobKind
from workers.registry import task
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.failures import BodyFailed

BODY = "workers.ml.exports.listed:export_list"
READ, WRITE, STORE = "read", "write", "store"
STAGES = {READ: "Read", WRITE: "Write", STORE: "Store"}  # with their titles
READ_SHARE = 60  # percent of the progress that reading takes


@task(JobKind.EXPORT_LIST)
async def export_list(attempt: Attempt) -> Effects:
    """Read the rows into a file, make the table of it in a body, and store that under a key of this attempt; the settle adds it to the export."""
    job = attempt.job
    export_id = UUID(job.parameters["exportId"])
    row = await lists.load(attempt.database, export_id)
    if row is None:
        raise BodyFailed(Failure("NOT_FOUND", "The export was deleted.", retryable=False))
    try:
        plan = ListPlan.of(row.plan)
    except (KeyError, TypeError, ValueError):
        message = "This release of the worker does not know the filter, which another one has stored. Make the export again."
        raise BodyFailed(Failure("NOT_SUPPORTED", message, retryable=False)) from None
    await attempt.begin_nodes([(key, key) for key in STAGES], STAGES)
    lines = attempt.folder / "rows.jsonl"
    with attempt.stage(READ) as output:
        try:
            rights = await MakerRights.of(attempt.database, row.created_by_id, plan.key_id, lists.LISTS[row.target].scope)
            output["rows"] = count = await _read(attempt, ListReader(row.target, row.list_parent_id, plan), rights, lines)
        except RightsLost as error:
            raise BodyFailed(Failure("FORBIDDEN", str(error), retryable=False)) from error
    folder = attempt.folder / "out"
    folder.mkdir()
    spec = {
        "lines": str(lines),
        "count": count,
        "columns": [{"name": column.name, "type": None if column.type is None else column.type.name} for column in plan.columns],
        "folder": str(folder),
        "stem": row.target.value.replace("_", "-"),
        "format": row.format.name,
        "options": row.options,
    }
    with attempt.stage(WRITE) as output:
        result = await attempt.run_body(BODY, spec, span=(READ_SHARE, 95))
        output["rows"] = result["rows"]
    attempt.progress(95, "Store")
    prefix = f"exports/{job.owner_id}/{export_id}/{attempt.key}"
    with attempt.stage(STORE) as output:
        files = await attempt.upload_all(
            [(Path(each["path"]), each["role"], each["filename"], each["content_type"]) for each in result["files"]], prefix
        )
        output["bytes"] = sum(file.size for file in files)

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        return (await exports.complete(work, settled, files)).duplicate_keys

    return effects


async def _read(attempt: Attempt, reader: ListReader, rights: MakerRights, path: Path) -> int:
    """Write the rows to a file, and return how many they are. The rights are read before each page. Raises `RightsLost`."""
    database = attempt.database
    total = await reader.count(database, rights.viewer)
    done, cursor = 0, None
    with path.open("wb") as file:
        while True:
            viewer = await rights.check()
            if not await reader.has_parent(database, viewer):
                message = "What the list is under was deleted while its rows were read, so nothing of them was kept."
                raise BodyFailed(Failure("NOT_FOUND", message, retryable=False))
            page = await reader.page(database, viewer, cursor)
            await asyncio.to_thread(_append, file, reader, page)
            done, cursor = done + len(page.records), page.cursor
            known = "" if total is None else f" of {max(total, done):,}"
            attempt.progress(READ_SHARE * done / max(total or 0, done, 1) if total is not None else 0, f"Read rows: {done:,}{known}")
            if cursor is None:
                return done


def _append(file: IO[bytes], reader: ListReader, page: ListPage) -> None:
    file.write(reader.lines(page))
