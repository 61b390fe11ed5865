"""What was deleted is purged after its time, or when its owner gives it up: all but what lineage needs of it, wherever the purge is killed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Text, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from db.core.work import Database
from db.services import maintenance
from db.services.maintenance import deletions as purging
from db.services.maintenance.tombstones import EMPTIED, PURGED
from db.tables import Dataset, Deletion, StoredObject, User
from db.tables.deletions import DeletedKind
from graph.deletions.types import SUBJECTS
from graph.schema import schema
from tests import selection
from tests.client import Client
from tests.deletions.deleting import PURGE, TYPES, delete, deleted, listed, restore
from tests.deletions.test_deleting import REMOVE_ALIAS, execute, first_of_each
from tests.deletions.test_deleting_parts import part_of_each
from tests.deletions.test_previews import PREFIXES, PREVIEW, all_nodes
from tests.endings import key_of
from tests.exhaustive import few
from tests.factories import platform
from tests.ownership import owner_condition
from tests.workers.worker_harness import run_maintenance

TABLES = {table.__tablename__: table for table in EMPTIED}
TABLE_OF: dict[str, str] = dict(
    zip(PREFIXES, ("datasets", "dataset_versions", "pipelines", "models", "model_versions", "experiments", "runs", "studies"), strict=True)
)


async def purge_deleted(context: maintenance.MaintenanceContext) -> int:
    result = await run_maintenance(context, "purge_deleted")
    assert result.error is None
    return result.changed


async def owned(database: Database, name: str) -> dict[str, int]:
    """How many rows of each table are of this user."""
    owner = (await database.rows(select(User.id).where(User.username == name)))[0].id
    conditions = {table.name: owner_condition(table, owner) for table in User.metadata.sorted_tables}
    counts = {
        name: (await database.rows(select(func.count()).select_from(User.metadata.tables[name]).where(condition)))[0][0]
        for name, condition in conditions.items()
        if condition is not None
    }
    return {name: count for name, count in counts.items() if name != "audit_events" and not name.startswith("api_")}


async def stored(context: maintenance.MaintenanceContext) -> dict[str, int]:
    """The keys and sizes of the stored objects that have a row."""
    return {row.object_key: row.size_bytes for row in await context.database.rows(select(StoredObject.object_key, StoredObject.size_bytes))}


async def fill(context: maintenance.MaintenanceContext) -> None:
    """Give Ada and Bob rows of every table, true counts, and an object for each row that has one."""
    for name in ("ada", "bob"):
        await platform.fill(context.database, name, 3)
    await run_maintenance(context, "reconcile_counters")
    await run_maintenance(context, "remove_unreferenced")
    for key in await stored(context):
        await context.objects.write(key, b"x", "text/plain")


async def die_after(context: maintenance.MaintenanceContext, monkeypatch: pytest.MonkeyPatch, steps: int) -> bool:
    """Run the purge and kill it right after so many steps were committed; return whether it got so far."""
    taken = 0

    def killed(real: Any) -> Any:
        async def step(*arguments: Any) -> int:
            nonlocal taken
            changed = await real(*arguments)
            taken += 1
            if taken == steps:
                raise RuntimeError("killed")
            return changed

        return step

    with monkeypatch.context() as patched:
        for name in ("delete_in_batches", "empty_in_batches", "remove_unreferenced"):
            patched.setattr(purging, name, killed(getattr(purging, name)))
        result = await maintenance.run_task(context, "purge_deleted", "test")
    assert result is not None
    assert result.error in {None, "RuntimeError: killed"}
    return result.error is not None


@pytest.mark.parametrize("prefix", few(1, PREFIXES))
async def test_a_purge_gives_back_what_the_preview_told_wherever_it_is_killed(
    ada: Client, bob: Client, context: maintenance.MaintenanceContext, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    database = context.database
    await fill(context)
    for model in (await listed(ada))["models"]:
        await ada.one(REMOVE_ALIAS, id=model)
    by_prefix = await platform.ids_by_prefix(database, "ada")
    ids = [id_ for of_prefix in by_prefix.values() for id_ in of_prefix]
    subject = by_prefix[prefix][0]
    before, of_bob, files = await all_nodes(ada, ids), await owned(database, "bob"), await stored(context)
    preview = await ada.one(PREVIEW, id=subject)
    until = (await delete(ada, subject))["restorableUntil"]
    assert await purge_deleted(context) == 0, "it can be restored"
    assert await stored(context) == files
    after = await all_nodes(ada, ids)
    assert dict(before - after) == preview["counts"]
    used = "{ viewer { storage { usedBytes } } }"
    bytes_before = (await ada.one(used))["storage"]["usedBytes"]

    assert await ada.one(PURGE, id=subject) == {"purgedId": subject, "bytes": preview["bytes"]}
    assert [each for each in await deleted(ada) if each["subject"]["id"] == subject] == []
    assert (await restore(ada, subject))["code"] == "NOT_FOUND"
    assert datetime.fromisoformat(until) > datetime.now().astimezone()
    steps = 1
    while await die_after(context, monkeypatch, steps):
        steps += 2
        assert steps < 100
    assert steps > 3
    assert await database.rows(select(Deletion).where(Deletion.id == key_of(subject))) == []
    assert await purge_deleted(context) == 0

    assert await all_nodes(ada, ids) == after, "a purge takes nothing that could be looked up until then"
    left = await stored(context)
    gone = {key: size for key, size in files.items() if key not in left}
    assert sum(gone.values()) == preview["bytes"]
    assert bytes_before - (await ada.one(used))["storage"]["usedBytes"] == preview["bytes"]
    listed_keys = {each.key async for each in context.objects.list("")}
    assert {key for key in files if key in listed_keys} == left.keys()
    assert (await run_maintenance(context, "reconcile_counters")).changed == 0
    assert await owned(database, "bob") == of_bob
    table = TABLES[TABLE_OF[prefix]]
    for row in await database.rows(select(*table.__table__.c).where(table.id == key_of(subject))):
        assert row.purged_at is not None
        emptied = {getattr(table, name).property.columns[0].name: value for name, value in EMPTIED[table].items()}
        assert {name: row._mapping[name] for name in emptied} == emptied
    assert [(await client.one(PURGE, id=subject))["code"] for client in (ada, bob)] == ["NOT_FOUND", "NOT_FOUND"]


async def test_what_is_over_is_purged_and_nothing_else(ada: Client, context: maintenance.MaintenanceContext) -> None:
    database = context.database
    ids = await first_of_each(ada, database)
    for kind in ("study", "experiment", "model", "pipeline", "dataset"):
        await delete(ada, ids[kind])
    over = {ids["model"], ids["experiment"], ids["study"]}
    keys = [key_of(id_) for id_ in over]
    await execute(database, "UPDATE deletions SET restorable_until = now() - interval '1 second' WHERE id = ANY (:keys)", keys=keys)
    assert {each["subject"]["id"] for each in await deleted(ada)} == set(ids.values()) - over
    assert await purge_deleted(context) > 0
    assert {row.id for row in await database.rows(select(Deletion.id))} == {key_of(id_) for id_ in set(ids.values()) - over}
    assert (await restore(ada, ids["dataset"]))["restored"] == {"id": ids["dataset"]}
    assert (await restore(ada, ids["model"]))["code"] == "NOT_FOUND"


async def test_only_who_may_write_purges_and_only_what_is_deleted_by_itself(
    ada: Client, bob: Client, admin: Client, context: maintenance.MaintenanceContext
) -> None:
    database = context.database
    ids = await part_of_each(ada, database)
    (experiment,) = (await ada.one("{ experiments { edges { node { id } } } }"))["edges"]
    parent = experiment["node"]["id"]
    live = await ada.one(PURGE, id=ids["run"])
    assert live == {"code": "WRONG_STATE", "message": "This run is not deleted. Delete it first, then purge it."}
    await delete(ada, parent)
    assert (await ada.one(PURGE, id=ids["run"]))["message"] == "This run was deleted with its experiment. Purge the experiment."
    for id_ in (parent, ids["run"], "experiment_" + "0" * 32, "user_" + "0" * 32, "nonsense"):
        assert (await bob.one(PURGE, id=id_))["code"] == "NOT_FOUND"
    assert await purge_deleted(context) == 0
    assert (await restore(ada, parent))["restored"] == {"id": parent}
    await delete(ada, parent)
    assert [(await client.one(PURGE, id=parent))["purgedId"] for client in (ada, ada, admin)] == [parent] * 3
    assert [row.action for row in await database.rows(text("SELECT action FROM audit_events WHERE action = 'purge'"))] == ["purge"]


@pytest.mark.exhaustive
async def test_parts_that_were_deleted_before_go_with_the_whole(ada: Client, context: maintenance.MaintenanceContext) -> None:
    database = context.database
    ids = await part_of_each(ada, database)
    for kind, whole in (("version", "datasets"), ("mversion", "models"), ("run", "experiments")):
        (parent,) = (await listed(ada))[whole]
        await delete(ada, ids[kind])
        await delete(ada, parent)
        await ada.one(PURGE, id=parent)
        await purge_deleted(context)
        assert await deleted(ada) == []
        assert (await restore(ada, ids[kind]))["code"] == "NOT_FOUND"


async def test_edges_lead_to_what_is_left_and_every_field_of_it_can_be_read(ada: Client, context: maintenance.MaintenanceContext) -> None:
    database = context.database
    ids = await first_of_each(ada, database)
    (job,) = (await ada.one("{ jobs(first: 1) { edges { node { id } } } }"))["edges"]
    for kind in ("study", "model", "pipeline", "dataset"):
        await delete(ada, ids[kind])
        await ada.one(PURGE, id=ids[kind])
    await purge_deleted(context)
    core = schema._schema
    for edge in ("dataset", "datasetVersion", "pipeline", "study"):
        type_ = {"dataset": "Dataset", "datasetVersion": "DatasetVersion", "pipeline": "Pipeline", "study": "Study"}[edge]
        owner = "datasetVersion { dataset" if edge == "dataset" else edge
        fields = selection.all_fields(core, type_, 1)
        answer = await ada.one(
            f"{{ runs(first: 1) {{ edges {{ node {{ {owner} {{ {fields} }} {'}' if edge == 'dataset' else ''} }} }} }} }}"
        )
        (node,) = [each["node"] for each in answer["edges"]]
        node = node["datasetVersion"]["dataset"] if edge == "dataset" else node[edge]
        assert node["purgedAt"] is not None
        assert node.get("name", PURGED) == PURGED
    lineage = "query($id: ID!) { lineage(id: $id) { nodes { label node { __typename id } } } }"
    runs = (await listed(ada))["runs"]
    labels = {each["label"] for each in (await ada.one(lineage, id=runs[0]))["nodes"]}
    assert any(label.startswith(PURGED) for label in labels)
    assert job["node"]["id"] in str(await ada.one("{ jobs(first: 100) { edges { node { id } } } }"))


PREDICT = """mutation($id: ID!) { predict(input: {modelVersionId: $id, rows: [{a: 40}]}) { ... on PredictPayload { job { id } } ... on Problem { message } } }"""


async def predicted(client: Client, version: str) -> Any:
    job = (await client.one(PREDICT, id=version))["job"]["id"]
    assert (await client.wait(job))["status"] == "COMPLETED"
    return (await client.one("query($id: ID!) { job(id: $id) { result } }", id=job))["result"]["predictions"]


@pytest.mark.exhaustive
async def test_a_model_predicts_as_before_when_its_data_are_purged(
    ada: Client, worker: object, context: maintenance.MaintenanceContext
) -> None:
    csv = "a,b\n" + "".join(f"{row},{row * 2}\n" for row in range(30))
    version = await ada.ingest("purged data", csv)
    pipeline = (await ada.create_pipeline("p", ("data", "dataset", {}), ("train", "train_ridge_regression", {"target": "b"})))["pipeline"][
        "id"
    ]
    job = (await ada.run_pipeline(pipeline, version, modelName="kept"))["job"]["id"]
    assert (await ada.wait(job))["status"] == "COMPLETED"
    (dataset,) = (await listed(ada))["datasets"]
    model = (await ada.one("{ models { edges { node { latestVersion { id datasetVersion { id } } } } } }"))["edges"][0]["node"][
        "latestVersion"
    ]
    before = await predicted(ada, model["id"])
    prefix = f"datasets/{(await context.database.rows(select(User.id).where(User.username == 'ada')))[0].id}/"
    assert [each async for each in context.objects.list(prefix)] != []
    await delete(ada, dataset)
    await ada.one(PURGE, id=dataset)
    await purge_deleted(context)
    assert [each.key async for each in context.objects.list(prefix)] == []
    assert await predicted(ada, model["id"]) == before
    again = await ada.ingest("purged data", csv)
    assert again != version
    assert (await ada.one("{ models { edges { node { latestVersion { datasetVersion { id purgedAt } } } } } }"))["edges"][0]["node"][
        "latestVersion"
    ]["datasetVersion"]["purgedAt"] is not None


@pytest.mark.parametrize("table", EMPTIED, ids=lambda table: table.__tablename__)
def test_a_tombstone_has_no_texts_or_documents(table: Any) -> None:
    """Of each column that people or bodies write to: texts, but not those of an enum, documents and lists."""
    enums = {column.name for column in table.__table__.c if getattr(column.type, "enums", None) or "Enum" in type(column.type).__name__}
    written = {
        column.name
        for column in table.__table__.c
        if isinstance(column.type, Text | JSONB | ARRAY) or type(column.type).__name__ in {"String", "VARCHAR"}
        if column.computed is None and column.name not in enums
    }
    emptied = {getattr(table, name).property.columns[0].name for name in EMPTIED[table]}
    assert written - emptied <= {"input_version_ids"}, "ids of versions, which lineage needs"


@pytest.mark.parametrize("kind", purging._PLANS)
def test_a_tombstone_has_no_parts(kind: Any) -> None:
    """What would go with a row by CASCADE is named where the row may stay."""
    plan = purging._PLANS[kind](uuid4())
    stay = {table.__tablename__ for table, _ in plan.rows if table in EMPTIED}
    private = {
        table.name
        for table in User.metadata.sorted_tables
        for key in table.foreign_keys
        if key.ondelete == "CASCADE" and key.column.table.name in stay
    }
    assert private - {table.__tablename__ for table, _ in plan.parts} == set()


def test_every_kind_that_is_restored_is_purged() -> None:
    assert {prefix for prefix, _ in SUBJECTS.values()} == set(PREFIXES) == set(TYPES)
    assert purging._PLANS.keys() == SUBJECTS.keys()


async def test_a_purge_that_fails_is_told_and_keeps_no_other_from_its_turn(
    ada: Client, context: maintenance.MaintenanceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [await ada.create_dataset(name) for name in ("a", "b")]
    for id_ in (first, second):
        await delete(ada, id_)
        await ada.one(PURGE, id=id_)
    plan_of = purging._PLANS[DeletedKind.DATASET]

    def failing(id_: UUID) -> purging.Plan:
        plan = plan_of(id_)
        return replace(plan, parts=[(Dataset, text("1 / 0 = 1"))]) if id_ == key_of(first) else plan

    monkeypatch.setattr(purging, "_PLANS", {**purging._PLANS, DeletedKind.DATASET: failing})
    result = await maintenance.run_task(context, "purge_deleted", "test")
    assert result is not None
    assert "1 purges failed" in str(result.error)
    assert "division by zero" in str(result.error)
    rows = select(Deletion.id).union_all(select(Dataset.id))
    assert {row.id for row in await context.database.rows(rows)} == {key_of(first)}
    monkeypatch.undo()
    await purge_deleted(context)
    assert await context.database.rows(rows) == []
