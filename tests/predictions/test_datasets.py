"""`predictDataset`: a version gets the predictions beside its columns, batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.client import Client
from tests.lazy_module import LazyModule
from tests.predictions.predicting import answer, load_model, predict_dataset, read_version, result, told, train

METRICS: Any = LazyModule("sklearn.metrics")
OUTPUT = """query($id: ID!) { job(id: $id) { outputs { ... on DatasetVersion { id number source rowCount columnCount columns { name type nullable }
  dataset { id } producedBy { id } } ... on DatasetProfile { profiled: rowCount } } } }"""


def houses(rows: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    table = pl.DataFrame({"area": rng.uniform(20, 200, rows).round(2), "rooms": rng.integers(1, 9, rows)})
    return table.with_columns(price=(table["area"] * 3 + table["rooms"] * 10 + pl.Series(rng.normal(0, 5, rows))).round(3))


async def test_a_version_gets_predictions_beside_its_columns_and_its_lineage(ada: Client, bob: Client, worker: object) -> None:
    model = await train(
        ada, await ada.ingest("sold", houses(120, 1).write_csv()), ("train", "train_linear_regression", {"target": "price"})
    )
    # Of the rows, one has no area and one has no price; there is a column `prediction` already, and one that the model does not know.
    offered = houses(60, 2).with_columns(prediction=pl.lit("cheap"), id=pl.int_range(60))
    offered = offered.with_columns(
        area=pl.when(pl.col("id") == 7).then(None).otherwise(pl.col("area")),
        price=pl.when(pl.col("id") == 9).then(None).otherwise(pl.col("price")),
    )
    version = await ada.ingest("offered", offered.write_csv())
    submitted = await predict_dataset(ada, model, version)
    assert submitted["job"] | {"id": ""} == {"id": "", "kind": "PREDICT", "queue": "tabular"}
    assert submitted["targetDataset"]["name"] == "offered – model v1"
    answered = await result(ada, submitted["job"]["id"])

    file = await load_model(ada, model)
    can_predict = offered["id"] != 7
    expected = file.predict(offered.filter(can_predict).to_pandas())
    output, profile = (await ada.one(OUTPUT, id=submitted["job"]["id"]))["outputs"]
    written = await read_version(ada, output["id"])
    assert written.drop("prediction_2").equals(offered.with_columns(pl.col("prediction").cast(written["prediction"].dtype)))
    assert written["prediction_2"].is_null().to_list() == (offered["id"] == 7).to_list()
    assert written["prediction_2"].drop_nulls().to_list() == pytest.approx(expected.tolist(), rel=1e-12)
    assert profile == {"profiled": 60}
    assert output == {
        "id": output["id"],
        "number": 1,
        "source": "DERIVED",
        "rowCount": 60,
        "columnCount": 6,
        "columns": [
            {"name": "area", "type": "FLOAT", "nullable": True},
            {"name": "rooms", "type": "INTEGER", "nullable": False},
            {"name": "price", "type": "FLOAT", "nullable": True},
            {"name": "prediction", "type": "CATEGORY", "nullable": False},
            {"name": "id", "type": "INTEGER", "nullable": False},
            {"name": "prediction_2", "type": "FLOAT", "nullable": True},
        ],
        "dataset": {"id": submitted["targetDataset"]["id"]},
        "producedBy": {"id": submitted["job"]["id"]},
    }

    truth = offered.filter(~pl.col("id").is_in([7, 9]))["price"].to_numpy()
    measured = written.filter(~pl.col("id").is_in([7, 9]))["prediction_2"].to_numpy()
    assert (answered["rows"], answered["predicted"], answered["measuredRows"]) == (60, 59, 58)
    assert answered["columns"] == {"prediction": "prediction_2"}
    assert told(answered) == [("MISSING_VALUES", "area", 1, 8)]
    assert answered["metrics"]["rmse"] == pytest.approx(METRICS.root_mean_squared_error(truth, measured), rel=1e-9)
    assert answered["metrics"]["mae"] == pytest.approx(METRICS.mean_absolute_error(truth, measured), rel=1e-9)

    lineage = await ada.one(
        "query($id: ID!) { lineage(id: $id, direction: UPSTREAM, depth: 2) { nodes { nodeId kind label } edges { source target relation } } }",
        id=output["id"],
    )
    edges = {(edge["source"], edge["relation"], edge["target"]) for edge in lineage["edges"]}
    job = submitted["job"]["id"]
    assert edges == {
        (version, "INPUT_OF", job),
        (model, "INPUT_OF", job),
        (job, "PRODUCED", output["id"]),
        (version, "DERIVED_FROM", output["id"]),
        (model, "SCORED_BY", output["id"]),
    }
    downstream = await ada.one("query($id: ID!) { lineage(id: $id, direction: DOWNSTREAM) { nodes { nodeId } } }", id=model)
    assert [node["nodeId"] for node in downstream["nodes"]] == [model, job, output["id"]]

    # A version without the columns, and what is not Ada's, is told before there is a job.
    other = await ada.ingest("other", b"area,rooms\n2026-01-01,1\n2026-01-02,2\n")
    problem = await predict_dataset(ada, model, other)
    assert [issue["message"] for issue in problem["issues"]] == [
        "The column 'area' is of type DATE, and the model takes numbers. Choose another version."
    ]
    problem = await predict_dataset(ada, model, await ada.ingest("lacking", b"area,size\n1,1\n2,2\n"))
    assert [issue["message"] for issue in problem["issues"]] == ["The version does not have the column 'rooms', which the model needs."]
    for client, arguments in ((bob, (model, version)), (ada, (model, await bob.ingest("bobs", b"area,rooms\n1,1\n2,2\n")))):
        assert (await predict_dataset(client, *arguments))["code"] == "NOT_FOUND"
    counts: Any = await ada.execute("{ jobs(filter: {kind: PREDICT}) { totalCount } datasets { totalCount } }")
    assert (counts["jobs"]["totalCount"], counts["datasets"]["totalCount"]) == (1, 5)


@pytest.mark.exhaustive
async def test_what_is_computed_under_a_name_of_the_version_is_not_read_from_it(ada: Client, worker: object) -> None:
    """The area is cut to an integer, and renamed: the version's area is another value, so only `predict` takes it, as it was computed."""
    version = await ada.ingest("sold", houses(60, 1).write_csv())
    model = await train(
        ada,
        version,
        ("cut", "cast_columns", {"columns": ["area"], "type": "integer"}),
        ("name", "rename_columns", {"columns": [{"column": "area", "name": "whole"}]}),
        ("train", "train_linear_regression", {"target": "price"}),
    )
    refused = await predict_dataset(ada, model, version)
    assert refused["issues"] == [
        {
            "path": ["datasetVersionId"],
            "message": "The model takes the column 'whole', which its pipeline computes from others. Predict with `predict`, which takes its values.",
        }
    ]
    answered = await answer(ada, model, [{"whole": 100, "rooms": 3}])
    file = await load_model(ada, model)
    assert [row["prediction"] for row in answered["predictions"]] == file.predict(
        pl.DataFrame({"whole": [100], "rooms": [3]}).to_pandas()
    ).tolist()
