"""Lists are exported under their filters, as files that other programs read, and with no more than their makers may see."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import pandas as pd
import pyarrow.parquet as pq
import pytest
from sqlalchemy import delete, func, insert, select, text, update
from strawberry.types.base import get_object_definition
from strawberry.utils.str_converters import to_camel_case

from db.core.viewer import SYSTEM, AccountKind, ApiScope, UserRole
from db.core.work import Database
from db.queries.list_exports import LISTS, ListedColumn, ListPlan, ListReader, value_at
from db.queries.stored_criteria import from_json, to_json
from db.services.list_exports import MakerRights, RightsLost
from db.tables import ApiKey, Experiment, Export, Job, Membership, Run, RunMetric, User
from db.tables.datasets import ColumnType
from db.tables.exports import ExportTarget
from graph.accounts.types import Profile
from graph.core.edges import EdgeField, One, Paged
from graph.core.list_inputs import ListField
from graph.core.permissions import scopes
from graph.exports.lists import FIELDS, columns_of
from graph.schema import schema
from tests.client import EXPORT, Client
from tests.endings import key_of
from tests.exhaustive import few
from tests.factories import platform
from tests.list_operations import Operation, Parents, connection_fields, operations
from tests.selection import connected_type
from workers.ml.exports.listed import common_type, kind_of

MAKE = """mutation($input: ExportTableInput!) { exportTable(input: $input) { __typename
  ... on ExportTablePayload { export { id status target parentId filter orderBy columns format options version { id } modelVersion { id } } job { id kind } }
  ... on Problem { code message } ... on InvalidInput { issues { path message } } } }"""
RETRY = "mutation($id: ID!) { retryJob(input: {id: $id}) { ... on RetryJobPayload { job { id } } ... on Problem { message } } }"
RUNS = """query($f: RunFilter, $o: RunOrder) { runs(first: 100, filter: $f, orderBy: $o) { edges { node {
  id number name status createdAt metric(key: "loss") { last } } } } }"""
NAMES = ("=1+1", "+x", "-x", "@x", "\tx", "\rx", "plain, with a comma", 'a "quote"', None, "-5")
PARAMETERS: tuple[dict[str, Any], ...] = tuple(
    {"lr": -position / 8, "depth": position, "mode": "a" if position % 2 else 3, "model": {"units": [position, 7]}, "big": 2**60}
    for position in range(len(NAMES))
)


async def make(client: Client, target: str, format: str = "JSONL", **rest: Any) -> dict[str, Any]:
    return await client.one(MAKE, input={"target": target, "format": format, **rest})


async def content_of(client: Client, created: dict[str, Any]) -> bytes:
    """Wait for the job of an export, and download its only file."""
    ended = await client.wait(created["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    assert ended["outputs"] == [{"__typename": "Export", "id": created["export"]["id"]}]
    export = await client.one(EXPORT, id=created["export"]["id"])
    (file,) = export["files"]
    assert (export["status"], export["sizeBytes"], export["version"]) == ("COMPLETED", file["sizeBytes"], None)
    assert export["expiresAt"] is not None
    return await client.download(file)


async def rows_of(client: Client, target: str, **rest: Any) -> list[dict[str, Any]]:
    created = await make(client, target, **rest)
    assert created["__typename"] == "ExportTablePayload", created
    return [json.loads(line) for line in (await content_of(client, created)).splitlines()]


async def id_of(database: Database, username: str) -> UUID:
    return (await database.rows(select(User.id).where(User.username == username)))[0].id


async def add_runs(database: Database, owner_id: UUID, experiment: str = "e") -> UUID:
    """Insert an experiment with a run for each of `NAMES`; return its id."""
    async with database.work(SYSTEM) as work:
        experiment_id = await work.scalar(insert(Experiment).values(owner_id=owner_id, name=experiment).returning(Experiment.id))
        shared = {"owner_id": owner_id, "experiment_id": experiment_id, "seed": 1}
        for position, (name, parameters) in enumerate(zip(NAMES, PARAMETERS, strict=True)):
            values = {**shared, "number": position + 1, "name": name, "hyperparameters": parameters}
            run_id = await work.scalar(insert(Run).values(values).returning(Run.id))
            if position != 4:
                metric = {"run_id": run_id, "experiment_id": experiment_id, "key": "loss", "count": 1}
                await work.run(insert(RunMetric).values(metric | {"last": float("nan") if position == 5 else -position * 1.5}))
    return experiment_id


@pytest.fixture
async def runs(ada: Client, bob: Client, database: Database) -> None:
    """Runs of Ada's and as many of Bob's."""
    for username in ("ada", "bob"):
        await add_runs(database, await id_of(database, username))


async def test_runs_are_exported_as_their_list_has_them(ada: Client, runs: None, worker: object) -> None:
    columns = [
        "number",
        "id",
        "name",
        "metrics.loss",
        "parameters.lr",
        "parameters.depth",
        "parameters.mode",
        "hyperparameters.model.units.1",
        "createdAt",
    ]
    selection = {
        "filter": {"metrics": [{"key": "loss", "lte": -3}], "parameters": [{"key": "depth", "lte": 9}]},
        "orderBy": {"by": {"metric": "loss"}, "direction": "ASC"},
    }
    created = {each: await make(ada, "RUNS", each, columns=columns, **selection) for each in ("CSV", "JSONL", "JSON", "PARQUET")}
    told = created["CSV"]["export"]
    assert told == {
        "id": told["id"],
        "status": told["status"],
        "target": "RUNS",
        "parentId": None,
        "columns": columns,
        "format": "CSV",
        **selection,
        "version": None,
        "modelVersion": None,
        "options": told["options"],
    }
    # The scheduler may have queued it before the answer was read.
    assert told["status"] in {"PENDING", "QUEUED", "RUNNING"}
    assert (told["options"]["formulaGuard"], told["options"]["delimiter"]) == (True, ",")
    assert created["CSV"]["job"]["kind"] == "EXPORT_LIST"
    listed = [edge["node"] for edge in (await ada.one(RUNS, f=selection["filter"], o=selection["orderBy"]))["edges"]]
    assert [run["number"] for run in listed] == [10, 9, 8, 7, 4, 3]  # of the fifth there is no loss, of the sixth it is NaN
    rows = [
        {
            "number": run["number"],
            "id": run["id"],
            "name": run["name"],
            "metrics.loss": run["metric"]["last"],
            "parameters.lr": PARAMETERS[run["number"] - 1]["lr"],
            "parameters.depth": run["number"] - 1,
            "parameters.mode": PARAMETERS[run["number"] - 1]["mode"],
            "hyperparameters.model.units.1": 7,
            "createdAt": run["createdAt"],
        }
        for run in listed
    ]
    contents = {each: await content_of(ada, made) for each, made in created.items()}
    for written, decoded in (
        ("JSONL", [json.loads(line) for line in contents["JSONL"].splitlines()]),
        ("JSON", json.loads(contents["JSON"])),
    ):
        times = [datetime.fromisoformat(row.pop("createdAt")) for row in decoded]
        assert times == [datetime.fromisoformat(run["createdAt"]) for run in listed], written
        assert decoded == [{name: value for name, value in row.items() if name != "createdAt"} for row in rows], written

    table = pq.read_table(io.BytesIO(contents["PARQUET"]))
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        **dict.fromkeys(["number", "parameters.depth", "hyperparameters.model.units.1"], "int64"),
        **dict.fromkeys(["id", "name", "parameters.mode"], "string"),
        **dict.fromkeys(["metrics.loss", "parameters.lr"], "double"),
        "createdAt": "timestamp[us, tz=UTC]",
    }
    assert table.column_names == columns
    read = table.to_pylist()
    assert [row["createdAt"] for row in read] == [datetime.fromisoformat(run["createdAt"]) for run in listed]
    assert [row["parameters.mode"] for row in read] == [json.dumps(row["parameters.mode"]) for row in rows]  # of several kinds: JSON
    for name in ("name", "metrics.loss", "parameters.lr", "number", "id"):
        assert [row[name] for row in read] == [row[name] for row in rows], name
    frame = pd.read_csv(io.BytesIO(contents["CSV"]), keep_default_na=False, na_values={"name": [""]})
    assert list(frame["metrics.loss"]) == [row["metrics.loss"] for row in rows]
    assert list(frame["number"]) == [row["number"] for row in rows]


async def test_text_cells_are_no_formulas_and_numbers_stay(ada: Client, runs: None, worker: object) -> None:
    columns = ["name", "parameters.lr", "metrics.loss", "parameters.mode", "seed"]
    options = {"orderBy": {"by": {"field": "NUMBER"}, "direction": "ASC"}, "columns": columns}
    guarded, bare = [
        list(
            csv.reader(io.StringIO((await content_of(ada, await make(ada, "RUNS", "CSV", options=chosen, **options))).decode(), newline=""))
        )
        for chosen in (None, {"formulaGuard": False})
    ]
    assert guarded[0] == bare[0] == columns
    assert [row[0] for row in bare[1:]] == [name or "" for name in NAMES]
    assert [row[0] for row in guarded[1:]] == [
        *("'=1+1", "'+x", "'-x", "'@x", "'\tx", "'\rx", "plain, with a comma", 'a "quote"', "", "'-5")
    ]
    assert [row[1:] for row in guarded] == [row[1:] for row in bare]
    assert [float(row[1]) for row in guarded[1:]] == [parameters["lr"] for parameters in PARAMETERS]
    assert [json.loads(row[3]) for row in guarded[1:]] == [parameters["mode"] for parameters in PARAMETERS]
    assert [row[2] for row in guarded[1:]] == ["0.0", "-1.5", "-3.0", "-4.5", "", "", "-9.0", "-10.5", "-12.0", "-13.5"]


async def test_what_a_list_does_not_take_is_told_and_makes_nothing(ada: Client, runs: None, database: Database) -> None:
    study = f"study_{'0' * 32}"
    for rest, paths in (
        ({"filter": {"state": "FAILED"}}, [["filter"]]),
        ({"filter": {"status": ["LOST"]}, "orderBy": {"by": {"metric": "a", "field": "NUMBER"}}}, [["filter", "status", "0"], ["orderBy"]]),
        ({"filter": [1]}, [["filter"]]),
        ({"columns": ["naem", "metrics", "status", "metrics.", "notes.a", "owner.email"]}, [["columns", each] for each in "01345"]),
        ({"columns": []}, [["columns"]]),
        ({"columns": ["id", "id"]}, [["columns"]]),
        ({"format": "ONNX"}, [["format"]]),
        ({"options": {"columns": ["id"]}}, [["options", "columns"]]),
        ({"options": {"delimiter": "ab"}}, [["options", "delimiter"]]),
        ({"parentId": study}, [["parentId"]]),
        ({"target": "TRIALS"}, [["parentId"]]),
        ({"target": "TRIALS", "parentId": study, "columns": ["study.name"]}, [["columns", "0"]]),
        ({"target": "DATASET_VERSIONS", "parentId": study, "filter": {"a": 1}}, [["filter"]]),
    ):
        answer = await ada.one(MAKE, input={"target": "RUNS", "format": "CSV", **rest})
        assert [issue["path"] for issue in answer["issues"]] == paths, answer
    answer = await make(ada, "RUNS", columns=["naem"])
    assert answer["issues"][0]["message"].startswith("The list has no column 'naem'. Did you mean 'name'?")
    for target, parent in (("TRIALS", study), ("TRIALS", f"model_{'0' * 32}"), ("DATASET_VERSIONS", f"dataset_{'0' * 32}")):
        assert (await make(ada, target, parentId=parent))["code"] == "NOT_FOUND"
    async with database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(Export))).scalar() == 0
        assert (await connection.execute(select(func.count()).select_from(Job))).scalar() == 0


async def test_nobody_exports_what_they_may_not_see(
    ada: Client, bob: Client, reader: Client, admin: Client, runs: None, database: Database, worker: object
) -> None:
    of_bob = await id_of(database, "bob")
    assert len(await rows_of(ada, "RUNS")) == len(NAMES)
    assert {row["ownerId"] for row in await rows_of(bob, "RUNS", columns=["ownerId"])} == {f"user_{of_bob.hex}"}
    assert await rows_of(ada, "RUNS", filter={"ownerId": f"user_{of_bob.hex}"}) == []
    assert len(await rows_of(admin, "RUNS", columns=["id"])) == 2 * len(NAMES)
    assert (await reader.post(MAKE, input={"target": "RUNS", "format": "CSV"}))["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    dataset = await bob.create_dataset("d")
    assert (await make(ada, "DATASET_VERSIONS", parentId=dataset))["code"] == "NOT_FOUND"
    assert await rows_of(bob, "DATASET_VERSIONS", parentId=dataset) == []
    key = await make(ada, "RUNS", idempotencyKey="k")
    assert (await make(ada, "RUNS", idempotencyKey="k"))["export"]["id"] == key["export"]["id"]
    assert (await make(ada, "RUNS", "CSV", idempotencyKey="k"))["code"] == "CONFLICT"
    assert (await make(bob, "RUNS", idempotencyKey="k"))["export"]["id"] != key["export"]["id"]
    await ada.wait(key["job"]["id"])
    assert await bob.one(EXPORT, id=key["export"]["id"]) is None


async def _join(database: Database, team_id: UUID, user_id: UUID) -> None:
    async with database.work(SYSTEM) as work:
        await work.run(insert(Membership).values(team_id=team_id, user_id=user_id, role=UserRole.MEMBER))


async def _make_team(database: Database, maker_id: UUID) -> UUID:
    values = {
        "created_by_id": maker_id,
        "kind": AccountKind.TEAM,
        "email": "t@teams.invalid",
        "username": "bearings",
        "role": UserRole.MEMBER,
    }
    async with database.work(SYSTEM) as work:
        return await work.scalar(insert(User).values(values).returning(User.id))


@pytest.mark.exhaustive
async def test_a_right_that_is_lost_ends_an_export_at_its_next_page(ada: Client, admin: Client, database: Database, worker: object) -> None:
    """The worker waits for a lock while it reads the first of two pages; meanwhile Ada leaves the team. An admin who retries the job adds no rights."""
    ada_id = await id_of(database, "ada")
    team_id = await _make_team(database, ada_id)
    await _join(database, team_id, ada_id)
    await add_runs(database, ada_id)
    experiment_id = await add_runs(database, team_id)
    many = """INSERT INTO runs (owner_id, experiment_id, number, seed)
      SELECT owner_id, id, 100 + i, 1 FROM experiments CROSS JOIN generate_series(1, 5000) i WHERE id = :experiment"""
    async with database.engine.begin() as connection:
        await connection.execute(text(many), {"experiment": experiment_id})
    async with database.engine.connect() as locking:
        await locking.execute(text("LOCK TABLE run_metrics IN ACCESS EXCLUSIVE MODE"))
        created = await make(ada, "RUNS", columns=["id", "ownerId", "metrics.loss"])
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'run_metrics'::regclass")
        async with asyncio.timeout(60):
            while not (await locking.execute(waits)).scalar():
                await asyncio.sleep(0.02)
        async with database.work(SYSTEM) as work:
            await work.run(delete(Membership).where(Membership.user_id == ada_id))
        await locking.rollback()
    failed = await ada.wait(created["job"]["id"])
    assert (failed["status"], failed["error"]["code"], failed["error"]["retryable"], failed["tries"]) == ("FAILED", "FORBIDDEN", False, 1)
    assert "nothing of it was kept" in failed["error"]["message"]
    export = await ada.one(EXPORT, id=created["export"]["id"])
    assert (export["status"], export["files"], export["sizeBytes"]) == ("FAILED", [], None)
    again = await admin.one(RETRY, id=created["job"]["id"])
    rows = [json.loads(line) for line in (await content_of(ada, {"export": created["export"], "job": again["job"]})).splitlines()]
    assert [row["ownerId"] for row in rows] == [f"user_{ada_id.hex}"] * len(NAMES)


async def test_whose_role_account_or_key_does_not_allow_it_any_more_exports_nothing(ada: Client, admin: Client, database: Database) -> None:
    ada_id, admin_id = await id_of(database, "ada"), await id_of(database, "admin")
    (key,) = await database.rows(select(ApiKey.id).where(ApiKey.user_id == ada_id))

    async def change(statement: Any) -> None:
        async with database.work(SYSTEM) as work:
            await work.run(statement)

    by_session, by_key, by_admin = [
        await MakerRights.of(database, *maker) for maker in ((ada_id, None), (ada_id, key.id), (admin_id, None))
    ]
    assert (await by_session.check()).accounts == (ada_id,)
    await change(update(ApiKey).where(ApiKey.id == key.id).values(scopes=[ApiScope.READ]))
    assert (await by_session.check()).sees_all is False
    with pytest.raises(RightsLost, match="The account or the API key"):
        await by_key.check()
    await change(update(ApiKey).where(ApiKey.id == key.id).values(scopes=list(ApiScope), revoked_at=func.now()))
    with pytest.raises(RightsLost):
        await MakerRights.of(database, ada_id, key.id)
    with pytest.raises(RightsLost):
        await MakerRights.of(database, admin_id, key.id)  # another's key
    await change(update(User).where(User.id == ada_id).values(role=UserRole.VIEWER))
    with pytest.raises(RightsLost, match="The account that asked"):
        await by_session.check()
    await change(update(User).where(User.id == ada_id).values(role=UserRole.MEMBER, disabled_at=func.now()))
    with pytest.raises(RightsLost):
        await by_session.check()
    await change(update(User).where(User.id == ada_id).values(disabled_at=None))
    team_id = await _make_team(database, ada_id)
    await _join(database, team_id, ada_id)
    assert (await by_session.check()).accounts == (ada_id,)  # what is won meanwhile is not exported
    assert by_admin.viewer.sees_all
    await change(update(User).where(User.id == admin_id).values(role=UserRole.MEMBER))
    with pytest.raises(RightsLost, match="may not see all any more"):
        await by_admin.check()
    with pytest.raises(RightsLost):
        await MakerRights.of(database, None, None)


def edges_of(node_type: Any, columns: Mapping[str, ListedColumn]) -> dict[str, str]:
    """By the name of a column that is an id of what a type refers to: a selection of that id."""
    fields: Any = get_object_definition(node_type, strict=True).fields
    ones: list[Any] = [field for field in fields if isinstance(field, EdgeField) and isinstance(field.declaration, One)]
    edges: dict[str, str] = {}
    for name, column in columns.items():
        if column.prefix is not None and name != "id":
            key = column.column or ""
            same = [field for field in ones if field.declaration.key == key]
            # What belongs to a thing that is referred to has the same key; the thing itself is named after it.
            field = min(same, key=lambda field, key=key: field.python_name != key.removesuffix("_id"))
            edges[name] = f"{name}: {to_camel_case(field.python_name)} {{ {'accountId' if field.node_type is Profile else 'id'} }}"
    return edges


@pytest.mark.parametrize("target", few(3, ExportTarget))
async def test_each_column_has_the_values_of_its_field(ada: Client, bob: Client, database: Database, target: ExportTarget) -> None:
    """All fields that are plain values, and the ids of what is referred to, of all rows that the list shows."""
    for username in ("bob", "ada"):
        await platform.fill(database, username, 3)
    ids, parent, field = await platform.ids_by_prefix(database, "ada"), LISTS[target].parent, FIELDS[target]
    columns = columns_of(schema, target)
    edges = edges_of(field.declared(schema).node_type, columns)
    plain = [name for name in columns if name not in edges and "." not in name]
    selected = " ".join([*plain, *edges.values()])
    selected += " error { code message }" if target is ExportTarget.JOBS else ""
    body = f"{field.name}(first: 100) {{ edges {{ node {{ {selected} }} }} }}"
    viewer = (await MakerRights.of(database, await id_of(database, "ada"), None, LISTS[target].scope)).viewer
    compared = 0
    for parent_id in [None] if parent is None else ids[parent.prefix]:
        query = f"{{ {body} }}" if parent_id is None else f'{{ node(id: "{parent_id}") {{ ... on {field.type} {{ {body} }} }} }}'
        answer = await ada.execute(query)
        if parent_id is not None and answer["node"] is None:  # a deleted one
            continue
        listed = [edge["node"] for edge in (answer if parent_id is None else answer["node"])[field.name]["edges"]]
        reader = ListReader(target, None if parent_id is None else key_of(parent_id), ListPlan(list(columns.values())))
        pages = [await reader.page(database, viewer, None, 2)]
        while pages[-1].cursor is not None:
            pages.append(await reader.page(database, viewer, pages[-1].cursor, 2))
        assert await reader.count(database, viewer) == len(listed) == sum(len(page.records) for page in pages)
        lines = [dict(zip(columns, json.loads(line), strict=True)) for page in pages for line in reader.lines(page).splitlines()]
        for row, node in zip(lines, listed, strict=True):
            expected = {name: node[name] for name in plain}
            expected |= {name: node[name] and next(iter(node[name].values())) for name in edges}
            if target is ExportTarget.JOBS:
                expected |= {f"error.{name}": node["error"] and node["error"][name] for name in ("code", "message")}
            for name, column in columns.items():
                if column.type is ColumnType.DATETIME and row[name] is not None:
                    row[name], expected[name] = datetime.fromisoformat(row[name]), datetime.fromisoformat(expected[name])
            assert row == expected
            compared += 1
    assert compared >= (1 if target is ExportTarget.USERS else 3)


SHORT = {"ApiKey", "Deleted", "EmailMessage", "Invitation", "Membership", "PipelineSnapshot", "SavedSearch", "WebhookEndpoint"}
"""Types of lists that are settings, or of which nearly all is computed when it is shown."""


def test_every_list_can_be_exported_with_the_scope_that_reading_it_takes() -> None:
    exported = {field.declared(schema).node_type.__name__ for field in FIELDS.values()}
    listed = {node.name for _, found in connection_fields() if (node := connected_type(found)) is not None}
    assert (exported | SHORT, exported & SHORT) == (listed, set())
    required = scopes(schema)
    for target, field in FIELDS.items():
        names = (f"{field.type}.{field.name}", f"{field.declared(schema).node_type.__name__}.createdAt")
        taken = {scope.api_scope for name in names if (scope := required.get(name)) is not None}
        assert taken | {ApiScope.READ} == {ApiScope.READ, LISTS[target].scope}, target


async def test_a_ledger_takes_the_scope_of_the_ledger_from_the_request_to_the_last_page(ada: Client, database: Database) -> None:
    ada_id = await id_of(database, "ada")
    (key,) = await database.rows(select(ApiKey.id).where(ApiKey.user_id == ada_id))

    async def give(*given: ApiScope) -> None:
        async with database.work(SYSTEM) as work:
            await work.run(update(ApiKey).where(ApiKey.id == key.id).values(scopes=list(given)))

    rights = await MakerRights.of(database, ada_id, key.id, ApiScope.BILLING)
    assert (await rights.check()).accounts == (ada_id,)
    await give(ApiScope.READ, ApiScope.RUN, ApiScope.ACCOUNT)
    with pytest.raises(RightsLost, match="may not read this list"):
        await rights.check()
    for target, scope in (("CREDIT_TRANSACTIONS", "BILLING"), ("AUDIT_EVENTS", None), ("RUNS", None)):
        answer = await ada.post(MAKE, input={"target": target, "format": "CSV"})
        refused = [(error["extensions"]["code"], error["extensions"]["scope"]) for error in answer.get("errors", ())]
        assert refused == ([] if scope is None else [("FORBIDDEN", scope)]), target


def _filters_and_orders() -> Iterator[tuple[ListField, Operation]]:
    ids = Parents(defaultdict(lambda: f"tag_{'1' * 32}"))
    fields = {f"{field.type}.{field.name}": field for field in FIELDS.values()}
    for operation in operations(ids, pages=["first"], pairs=False, counts=False):
        if operation.place in fields:
            yield fields[operation.place], operation


def test_filters_and_orders_are_kept_as_they_were() -> None:
    """Of each filter and order of each list, what a job reads back is what the list would have been given."""
    kept: set[str] = set()
    for field, operation in _filters_and_orders():
        issues: list[Any] = []
        for value in (field.criteria(schema, operation.filter or None, issues), field.order(schema, operation.order, issues)):
            document = to_json(value)
            assert from_json(json.loads(json.dumps(document))) == value
            kept.update(json.dumps(document).split('"'))
        assert issues == []
    assert {
        "MetricBound",
        "ParameterMatch",
        "AnnotationMatch",
        "RunOrder",
        "ByParameter",
        "TextMatch",
        "Period",
        "Range",
        "UUID",
        "JobStatus",
        "Modality",
    } <= kept


def test_each_list_is_read_as_the_api_reads_it() -> None:
    assert FIELDS.keys() == LISTS.keys() == set(ExportTarget)
    for target, field in FIELDS.items():
        declaration = field.declared(schema).declaration
        assert isinstance(declaration, Paged)
        assert declaration.listing is LISTS[target].listing


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([None], "STRING"),
        ([1, 2**53, None], "INTEGER"),
        ([2**62, 1], "INTEGER"),
        ([1, 0.5], "FLOAT"),
        ([2**62, 0.5], "JSON"),
        ([True, False], "BOOLEAN"),
        ([True, 1], "JSON"),
        (["a", "b"], "STRING"),
        (["a", 1], "JSON"),
        ([[1], None], "JSON"),
        ([{"a": 1}], "JSON"),
    ],
)
def test_values_of_a_path_tell_its_type(values: list[Any], type_: str) -> None:
    assert common_type({kind_of(value) for value in values} - {"null"}) == type_


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a", {"b": [1, {"c": 2}], "b.d": 3}),
        ("a.b.1.c", 2),
        ("a.b.0", 1),
        ("a.b.2", None),
        ("x.y", 5),
        ("x", None),
        ("a.b.x", None),
        ("a.b.d", None),
    ],
)
def test_a_path_leads_into_objects_and_arrays(path: str, value: Any) -> None:
    document = {"a": {"b": [1, {"c": 2}], "b.d": 3}, "x.y": 5}
    assert value_at(document, path) == value
    assert value_at(None, path) is None


async def test_an_export_of_a_list_is_listed_recorded_and_deleted(ada: Client, runs: None, database: Database, worker: object) -> None:
    created = await make(ada, "RUNS", "CSV", columns=["id"], filter={"status": ["PENDING"]})
    assert len((await content_of(ada, created)).splitlines()) == 1 + len(NAMES)
    id_, owner = created["export"]["id"], f"user_{(await id_of(database, 'ada')).hex}"
    listed = "query($f: ExportFilter) { exports(filter: $f) { edges { node { id target owner { id } createdBy { accountId } job { parameters } } } } }"
    (edge,) = (await ada.one(listed, f={"target": ["RUNS"]}))["edges"]
    parameters = edge["node"].pop("job")["parameters"]
    assert edge["node"] == {"id": id_, "target": "RUNS", "owner": {"id": owner}, "createdBy": {"accountId": owner}}
    assert (parameters["target"], parameters["exportId"]) == ("RUNS", id_)
    assert "plan" not in json.dumps(parameters)
    assert (await ada.one(listed, f={"target": ["TRIALS"]}))["edges"] == []
    events = await ada.one('{ auditEvents(filter: {action: ["export_table"]}) { edges { node { subjectId before after } } } }')
    (event,) = [edge["node"] for edge in events["edges"]]
    assert (event["subjectId"], event["before"]) == (id_, None)
    assert {name: event["after"][name] for name in ("target", "filter", "columns", "format")} == {
        "target": "RUNS",
        "filter": {"status": ["PENDING"]},
        "columns": ["id"],
        "format": "CSV",
    }
    lineage = await ada.one("query($id: ID!) { lineage(id: $id, direction: UPSTREAM) { nodes { nodeId } } }", id=id_)
    assert {node["nodeId"] for node in lineage["nodes"]} == {id_, created["job"]["id"]}
    assert (await ada.one(RETRY, id=created["job"]["id"]))["message"] == "The export is complete. Make another one with `exportTable`."
    assert "deletedId" in await ada.one(
        "mutation($id: ID!) { deleteExport(input: {id: $id}) { ... on DeleteExportPayload { deletedId } } }", id=id_
    )
    assert await ada.one(EXPORT, id=id_) is None
