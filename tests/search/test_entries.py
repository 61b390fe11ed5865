"""The entries of the search follow what they are made of, in its transaction."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from db.core.work import Database
from tests.client import Client
from tests.search.searching import add, add_dataset, add_run, add_study, change, drift, search, titles

UPDATE = "mutation($input: UpdateDatasetInput!) { updateDataset(input: $input) { __typename } }"


async def test_what_is_made_changed_and_deleted_through_the_api_is_found_as_it_is(ada: Client, database: Database) -> None:
    dataset = await ada.create_dataset("Gearbox", description="Three bearings.")
    assert await titles(ada, "gearbox") == ["Gearbox"]
    await ada.one(UPDATE, input={"id": dataset, "name": "Turbine", "description": None})
    assert [await titles(ada, query) for query in ("gearbox", "bearings", "turbine")] == [[], [], ["Turbine"]]
    await change(database, "UPDATE datasets SET metadata = '{}', modality = 'text'")  # is in no entry
    await ada.one("mutation($input: DeleteDatasetInput!) { deleteDataset(input: $input) { __typename } }", input={"id": dataset})
    assert await titles(ada, "turbine") == []
    await change(database, "UPDATE datasets SET deleted_at = NULL")
    assert await titles(ada, "turbine") == ["Turbine"]
    assert await drift(database) == []


async def test_of_a_dataset_the_columns_of_the_newest_ready_version_are_found(ada: Client, database: Database) -> None:
    dataset = await add_dataset(database, "ada", "Gearbox", None, ["torque"])
    version = "INSERT INTO dataset_versions (dataset_id, number, status, source, columns) VALUES (:id, :number, :status, 'upload', CAST(:columns AS jsonb))"
    await change(database, version, id=dataset, number=3, status="processing", columns='[{"name": "humidity"}]')
    await change(database, version, id=dataset, number=2, status="ready", columns='[{"name": "temperature"}]')
    words = ("torque", "temperature", "humidity")
    assert [await titles(ada, word) for word in words] == [[], ["Gearbox"], []]
    await change(database, "UPDATE dataset_versions SET status = 'ready' WHERE number = 3")
    assert [await titles(ada, word) for word in words] == [[], [], ["Gearbox"]]
    await change(database, "DELETE FROM dataset_versions WHERE number = 3")
    assert [await titles(ada, word) for word in words] == [[], ["Gearbox"], []]
    assert await drift(database) == []


async def test_runs_are_found_while_they_are_described_and_their_experiment_is_there(ada: Client, bob: Client, database: Database) -> None:
    first, second = await add(database, "experiments", "ada", {"first": None, "second": None})
    run = await add_run(database, first, None)
    assert await titles(ada, "baseline") == []
    await change(database, "UPDATE runs SET name = 'baseline' WHERE id = :id", id=run)
    await add_run(database, first, None, "as the baseline")
    assert await titles(ada, "baseline") == ["baseline", "Run 2"]
    await change(database, "UPDATE experiments SET deleted_at = now() WHERE id = :id", id=first)
    assert await titles(ada, "baseline") == []
    await change(database, "UPDATE runs SET experiment_id = :to WHERE id = :id", id=run, to=second)
    assert await titles(ada, "baseline") == ["baseline"]
    await change(database, "UPDATE experiments SET deleted_at = NULL WHERE id = :id", id=first)
    assert await titles(ada, "baseline") == ["baseline", "Run 2"]
    await change(database, "UPDATE runs SET owner_id = (SELECT id FROM users WHERE username = 'bob') WHERE id = :id", id=run)
    assert [await titles(client, "baseline") for client in (ada, bob)] == [["Run 2"], ["baseline"]]
    await change(database, "UPDATE runs SET name = NULL, notes = ''")
    assert [await titles(client, "baseline") for client in (ada, bob)] == [[], []]
    await change(database, "DELETE FROM runs")
    assert await drift(database) == []


async def test_studies_are_found_by_name_metric_and_what_they_search(ada: Client, bob: Client, database: Database) -> None:
    await add_dataset(database, "ada", "Gearbox")
    study = await add_study(database, "ada", "Sweep of October", "validation_loss", "train.learning_rate", "fill.strategy")
    found = (await search(ada, "learning rate", types=["STUDY"]))["edges"]
    assert [(edge["title"], edge["node"]) for edge in found] == [("Sweep of October", {"__typename": "Study", "id": f"study_{study.hex}"})]
    assert "«learning»_«rate»" in found[0]["snippet"]
    words = ("sweep", "validation loss", "strategy")
    assert [await titles(ada, word, types=["STUDY"]) for word in words] == [["Sweep of October"]] * 3
    assert [await titles(bob, word) for word in words] == [[], [], []]
    await change(database, "UPDATE studies SET name = 'Grid of November', last_sequence = 1")
    assert [await titles(ada, word, types=["STUDY"]) for word in ("sweep", "november")] == [[], ["Grid of November"]]
    await change(database, "UPDATE studies SET deleted_at = now()")
    assert await titles(ada, "november", types=["STUDY"]) == []
    await change(database, "UPDATE studies SET deleted_at = NULL")
    assert await titles(ada, "november", types=["STUDY"]) == ["Grid of November"]
    assert await drift(database) == []
    await change(database, "DELETE FROM studies")
    assert await drift(database) == []


async def test_a_model_is_found_by_what_is_said_of_its_versions(ada: Client, database: Database) -> None:
    (model,) = await add(database, "models", "ada", {"Gearbox": "Three bearings."})
    version = "INSERT INTO model_versions (model_id, number, label, description, algorithm, framework) VALUES (:model, :number, :label, :text, 'a', 'f')"
    await change(database, version, model=model, number=1, label="winter release", text=None)
    await change(database, version, model=model, number=2, label=None, text="Calibrated on turbines.")
    await change(database, version, model=model, number=3, label=None, text=None)
    words = ("bearings", "winter", "calibrated turbines")
    assert [await titles(ada, word) for word in words] == [["Gearbox"]] * 3
    await change(database, "UPDATE model_versions SET label = 'summer release', description = NULL WHERE number = 1")
    assert [await titles(ada, word) for word in ("winter", "summer")] == [[], ["Gearbox"]]
    await change(database, "DELETE FROM model_versions WHERE number = 2")
    assert [await titles(ada, word) for word in ("turbines", "summer")] == [[], ["Gearbox"]]
    await change(database, "UPDATE models SET deleted_at = now()")
    await change(database, "UPDATE model_versions SET label = 'autumn' WHERE number = 3")
    assert [await titles(ada, word) for word in ("autumn", "summer")] == [[], []]
    await change(database, "UPDATE models SET deleted_at = NULL")
    assert [await titles(ada, word) for word in ("autumn", "summer")] == [["Gearbox"], ["Gearbox"]]
    assert await drift(database) == []


async def test_a_rename_while_a_version_becomes_ready_loses_neither(ada: Client, database: Database) -> None:
    dataset = await add_dataset(database, "ada", "Gearbox", None, ["torque"])
    async with database.engine.connect() as renaming:
        await renaming.execute(text("UPDATE datasets SET name = 'Turbine' WHERE id = :id"), {"id": dataset})
        readying = asyncio.create_task(change(database, 'UPDATE dataset_versions SET columns = \'[{"name": "humidity"}]\''))
        done, _ = await asyncio.wait({readying}, timeout=0.1)
        assert not done, "it waits for the rename"
        await renaming.commit()
    await readying
    assert [await titles(ada, word) for word in ("turbine", "humidity", "gearbox", "torque")] == [["Turbine"], ["Turbine"], [], []]
    assert await drift(database) == []
