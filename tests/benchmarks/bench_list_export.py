"""Exports of lists of runs: rows a second, and the peak of memory of the process that reads them and of the body that writes them.

Each list is exported as CSV and as Parquet, with a metric and a hyperparameter among its columns. The peak at the larger number is to be at most 1.2 times that at the
smaller one. `TRELLIS_BENCH_LIST_ROWS` has both numbers (200000,2000000).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from db.core.work import Database
from tests.benchmarks import deployment

SIZES = [int(size) for size in os.environ.get("TRELLIS_BENCH_LIST_ROWS", "200000,2000000").split(",")]
COLUMNS = [
    *("id", "number", "name", "status", "algorithm", "createdAt", "duration", "experimentId", "datasetId", "hyperparameters"),
    *("metrics.loss", "parameters.lr"),
]
_ROOT = Path(__file__).parents[2]

_PEAK = """
import resource, time
def report(what, rows, started_at):
    seconds = time.perf_counter() - started_at
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{what:>8} {rows:>10,} rows {rows / seconds:>9,.0f} rows/s  peak {peak:,} MiB", flush=True)
    print(peak, file=open(PEAKS, "a"))
"""
_READ = """
import asyncio, sys, time
from pathlib import Path
from sqlalchemy import select
from db.core.work import Database
from db.queries.list_exports import ListPlan, ListReader, ListedColumn
from db.services.list_exports import MakerRights
from db.settings import StateSettings
from db.tables import User
from db.tables.exports import ExportTarget
import orjson

async def read():
    async with Database.open(StateSettings()) as database:
        owner = (await database.rows(select(User.id).where(User.username == "admin")))[0].id
        reader = ListReader(ExportTarget.RUNS, None, ListPlan.of(orjson.loads(Path("plan.json").read_bytes())))
        rights = await MakerRights.of(database, owner, None)
        started_at, rows, cursor = time.perf_counter(), 0, None
        total = await reader.count(database, rights.viewer)
        with open("rows.jsonl", "wb") as file:
            while True:
                page = await reader.page(database, await rights.check(), cursor)
                file.write(await asyncio.to_thread(reader.lines, page))
                rows, cursor = rows + len(page.records), page.cursor
                if cursor is None:
                    break
        assert rows == total == int(sys.argv[1]), (rows, total)
        report("read", rows, started_at)
asyncio.run(read())
"""
_WRITE = """
import sys, time, shutil
from pathlib import Path
import orjson
from workers.ml.exports.listed import export_list

class Silent:
    def progress(self, percent, step): pass

shutil.copyfile("rows.jsonl", "copy.jsonl")
plan = orjson.loads(Path("plan.json").read_bytes())
Path(sys.argv[2]).mkdir()
options = {"compression": "zstd"} if sys.argv[2] == "PARQUET" else {"compression": "none", "header": True, "delimiter": ",", "nullText": "", "formulaGuard": True}
columns = [{"name": column["name"], "type": column["type"] and column["type"].upper()} for column in plan["columns"]]
spec = {"lines": "copy.jsonl", "count": int(sys.argv[1]), "columns": columns, "folder": sys.argv[2], "stem": "runs", "format": sys.argv[2], "options": options}
started_at = time.perf_counter()
result = export_list(spec, Silent())
report(sys.argv[2], result["rows"], started_at)
"""
_FILL = (
    "SET session_replication_role = replica",
    "INSERT INTO experiments (owner_id, name) SELECT id, 'e' FROM users",
    """INSERT INTO runs (owner_id, experiment_id, number, name, status, algorithm, seed, hyperparameters, started_at, completed_at, created_at)
      SELECT e.owner_id, e.id, i, 'run ' || i, 'completed', 'Ridge', i, jsonb_build_object('lr', 1.0 / i, 'depth', i % 10), now(), now() + interval '3 seconds',
        now() - i * interval '1 second' FROM experiments e, generate_series(1, {rows}) i""",
    "INSERT INTO run_metrics (run_id, experiment_id, key, last, count) SELECT id, experiment_id, 'loss', 1.0 / number, 1 FROM runs",
)
_UNUSED = """SELECT string_agg('DROP INDEX ' || i.indexrelid::regclass, '; ') FROM pg_index i
  WHERE i.indrelid IN ('runs'::regclass, 'run_metrics'::regclass) AND i.indexrelid::regclass::text NOT IN ('ix_runs_created_at', 'ix_runs_owner_id_created_at')
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)"""


async def _fill(rows: int) -> None:
    async with deployment.database() as database:
        await _insert(database, rows)


async def _insert(database: Database, rows: int) -> None:
    async with database.engine.begin() as connection:
        run = connection.exec_driver_sql
        for statement in ((await run(_UNUSED)).scalar_one() or "SELECT 1").split("; "):
            await run(statement)
        for statement in _FILL:
            await run(statement.format(rows=rows))
    async with database.read() as connection:
        for table in ("runs", "run_metrics", "experiments"):
            await connection.exec_driver_sql(f"VACUUM ANALYZE {table}")


def _plan() -> bytes:
    import orjson

    from db.core.checks import Checks
    from db.services.list_exports import NewListExport
    from db.tables.exports import ExportFormat, ExportTarget
    from graph.exports.lists import make_plan
    from graph.schema import schema

    plan = make_plan(schema, NewListExport(ExportTarget.RUNS, ExportFormat.CSV, columns=COLUMNS), Checks())
    assert plan is not None
    return orjson.dumps(plan.to_json())


def measure(rows: int) -> list[int]:
    """Export a list of so many rows; return the peaks in MiB of reading, of CSV and of Parquet."""
    with deployment.servers(), tempfile.TemporaryDirectory() as folder:
        asyncio.run(_fill(rows))
        peaks = Path(folder, "peaks")
        Path(folder, "plan.json").write_bytes(_plan())
        for script, *arguments in ((_READ,), (_WRITE, "CSV"), (_WRITE, "PARQUET")):
            command = [sys.executable, "-c", f"PEAKS = {str(peaks)!r}\n{_PEAK}{script}", str(rows), *arguments]
            subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(_ROOT)}, check=True)
        return [int(peak) for peak in peaks.read_text().split()]


if __name__ == "__main__":
    small, large = (measure(size) for size in SIZES)
    for what, before, after in zip(("reading", "CSV", "Parquet"), small, large, strict=True):
        print(f"{what}: {after / before:.2f}x the memory for {SIZES[1] / SIZES[0]:.0f}x the rows")
