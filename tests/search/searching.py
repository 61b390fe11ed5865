"""Things to be found, made by SQL past nothing: their triggers make the entries. And searches through the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import text

from db.core.work import Database
from tests.client import Client

SEARCH = """query($words: String!, $types: [SearchType!], $ownerId: ID, $first: Int, $after: String) {
  search(query: $words, types: $types, ownerId: $ownerId, first: $first, after: $after) {
    edges { cursor title snippet rank node { __typename id } } isPartial pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
ENTRY = "title, body, words, vector"

_DATASET = text("""
  WITH made AS (INSERT INTO datasets (owner_id, name, description, modality, source)
    SELECT id, :name, :description, 'tabular', 'upload' FROM users WHERE username = :owner RETURNING id)
  INSERT INTO dataset_versions (dataset_id, number, status, source, columns) SELECT id, 1, 'ready', 'upload', CAST(:columns AS jsonb) FROM made
  RETURNING dataset_id
""")
_OTHERS = {
    "pipelines": "(owner_id, name, description, modality, status, definition) SELECT id, :name, :description, 'tabular', 'draft', '{\"nodes\": [], \"links\": []}'",
    "experiments": "(owner_id, name, description) SELECT id, :name, :description",
    "models": "(owner_id, name, description) SELECT id, :name, :description",
}
_STUDY = text("""
  WITH made AS (INSERT INTO experiments (owner_id, name) SELECT id, :name || ' runs' FROM users WHERE username = :owner RETURNING id, owner_id),
    version AS (SELECT v.id, v.dataset_id FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN made ON made.owner_id = d.owner_id LIMIT 1),
    pipeline AS (INSERT INTO pipelines (owner_id, name, modality, status, definition)
      SELECT owner_id, :name || ' pipeline', 'tabular', 'draft', '{"nodes": [], "links": []}' FROM made RETURNING id),
    snapshot AS (INSERT INTO pipeline_snapshots (owner_id, pipeline_id, sha256, definition)
      SELECT made.owner_id, pipeline.id, encode(sha256(convert_to(:name, 'UTF8')), 'hex'), '{}' FROM made, pipeline RETURNING id)
  INSERT INTO studies (owner_id, name, kind, method, experiment_id, pipeline_id, snapshot_id, dataset_version_id, input_version_ids, metric, goal, space, seed,
    max_trials, max_parallel, max_failed, trials_total)
  SELECT made.owner_id, :name, 'hpo', 'grid', made.id, pipeline.id, snapshot.id, version.id, ARRAY[version.id], :metric, 'minimize', CAST(:space AS jsonb), 0,
    1, 1, 1, 1
  FROM made, pipeline, snapshot, version
  RETURNING id
""")
_RUN = text("""
  INSERT INTO runs (owner_id, experiment_id, number, name, notes, seed)
  SELECT owner_id, id, coalesce((SELECT max(number) FROM runs WHERE experiment_id = e.id), 0) + 1, :name, :notes, 0 FROM experiments e WHERE id = :experiment
  RETURNING id
""")
# What has to be in the table, and is not, and the reverse.
_DRIFT = text(f"""
  SELECT coalesce(entry.title, source.title) AS title FROM search_entries entry FULL JOIN (
    SELECT type, id, owner_id, title, body, trellis_search_words(title) AS words, trellis_search_vector(title, body) AS vector FROM trellis_searchable()) source
  USING (type, id, owner_id, {ENTRY}) WHERE entry.id IS NULL OR source.id IS NULL
""")


async def add_dataset(database: Database, owner: str, name: str, description: str | None = None, columns: Sequence[str] = ()) -> Any:
    described = orjson.dumps([{"name": column, "type": "float", "nullable": False} for column in columns]).decode()
    async with database.engine.begin() as connection:
        values = {"owner": owner, "name": name, "description": description, "columns": described}
        return (await connection.execute(_DATASET, values)).scalar_one()


async def add(database: Database, table: str, owner: str, things: Mapping[str, str | None]) -> list[Any]:
    """Add things of one table by their names, with their descriptions; return their ids."""
    statement = text(f"INSERT INTO {table} {_OTHERS[table]} FROM users WHERE username = :owner RETURNING id")
    async with database.engine.begin() as connection:
        rows = [
            await connection.execute(statement, {"owner": owner, "name": name, "description": description})
            for name, description in things.items()
        ]
    return [row.scalar_one() for row in rows]


async def add_run(database: Database, experiment: Any, name: str | None, notes: str | None = None) -> Any:
    async with database.engine.begin() as connection:
        return (await connection.execute(_RUN, {"experiment": experiment, "name": name, "notes": notes})).scalar_one()


async def add_study(database: Database, owner: str, name: str, metric: str, *keys: str) -> Any:
    """Add a study, in an experiment and of a pipeline of its own, of a dataset of the owner's, that searches the parameters "node.name"."""
    space = orjson.dumps([dict(zip(("node", "name"), key.rsplit(".", 1), strict=True)) for key in keys]).decode()
    async with database.engine.begin() as connection:
        return (await connection.execute(_STUDY, {"owner": owner, "name": name, "metric": metric, "space": space})).scalar_one()


async def change(database: Database, statement: str, **values: Any) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text(statement), values)


async def drift(database: Database) -> list[str]:
    """The titles of entries that are not as they have to be."""
    return [row.title for row in await database.rows(_DRIFT)]


async def search(client: Client, query: str, **arguments: Any) -> dict[str, Any]:
    return await client.one(SEARCH, words=query, **arguments)


async def titles(client: Client, query: str, **arguments: Any) -> list[str]:
    """The titles of what a search finds, in order."""
    return [edge["title"] for edge in (await search(client, query, **arguments))["edges"]]
