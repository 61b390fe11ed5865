"""`predict`: rows of a request are predicted as the model's file predicts them, and what was assumed of them is told."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.client import Client
from tests.exhaustive import exhaustive
from tests.predictions.predicting import answer, load_model, predict, result, told, train

JOBS = "{ jobs { totalCount } }"


def shirts(rows: int = 150) -> pl.DataFrame:
    """Texts, numbers with missing ones, whole numbers and dates, and a target that depends on them."""
    rng = np.random.default_rng(5)
    table = pl.DataFrame(
        {
            "size": rng.normal(size=rows).round(3),
            "count": rng.integers(0, 5, rows),
            "color": rng.choice(["red", "blue", "green"], rows),
            "day": [date(2026, 1, 1) + timedelta(days=row % 60) for row in range(rows)],
        }
    )
    sold = table["size"] + (table["color"] == "red").cast(int) * 2 + table["count"] * 0.1 > 1
    return table.with_columns(
        sold=pl.Series(np.where(sold, "yes", "no")), size=pl.when(pl.col("size") > 1.5).then(None).otherwise(pl.col("size"))
    )


STEPS: list[tuple[str, str, dict[str, Any]]] = [
    ("dates", "decompose_dates", {}),
    ("impute", "impute", {"strategy": "median"}),
    ("encode", "one_hot_encode", {}),
    ("train", "train_logistic_regression", {"target": "sold"}),
]


async def test_rows_are_predicted_as_the_file_of_the_model_predicts_them(ada: Client, bob: Client, worker: object) -> None:
    model = await train(ada, await ada.ingest("shirts", shirts().write_csv()), *STEPS)
    about = await ada.one("query($id: ID!) { node(id: $id) { ... on ModelVersion { format isTrusted } } }", id=model)
    assert about == {"format": "SKOPS", "isTrusted": True}
    rows: list[dict[str, Any]] = [
        {"size": 0.5, "count": 2, "color": "red", "day": "2026-01-05"},
        {"size": None, "count": True, "color": "mauve", "day": "2026-02-01T10:00:00", "sold": "yes", "shop": 7},
        {"count": 4, "color": None, "day": None},
    ]
    submitted = await predict(ada, model, rows, idempotencyKey="shirts")
    job = submitted["job"]
    assert (job["kind"], job["queue"], job["parameters"], job["result"]) == ("PREDICT", "default", {"rows": 3}, None)
    answered = await result(ada, job["id"])

    # By hand: pandas' frame of the raw columns, in which the parts of the dates are computed and missing values are NaN.
    file = await load_model(ada, model)
    frame = pl.DataFrame(
        {
            "size": [0.5, None, None],
            "count": [2, 1, 4],
            "color": ["red", "mauve", None],
            "day_year": [2026, 2026, None],
            "day_month": [1, 2, None],
            "day_day": [5, 1, None],
            "day_weekday": [1, 7, None],
        }
    ).to_pandas()
    assert answered["classes"] == ["no", "yes"]
    assert [row["prediction"] for row in answered["predictions"]] == file.predict(frame).tolist()
    assert np.array([row["probabilities"] for row in answered["predictions"]]) == pytest.approx(file.predict_proba(frame), rel=1e-12)
    assert told(answered) == [
        ("UNKNOWN_COLUMN", "shop", None, None),
        ("MISSING_VALUES", "size", 2, 2),
        ("MISSING_VALUES", "color", 1, 3),
        ("UNSEEN_CATEGORY", "color", 1, 2),
        ("MISSING_VALUES", "day", 1, 3),
    ]
    assert answered["issues"][3]["values"] == ["mauve"]

    # The same request is answered by the same job; a retry is another one, with the same rows.
    assert (await predict(ada, model, rows, idempotencyKey="shirts"))["job"]["id"] == job["id"]
    retried = await ada.one(
        "mutation($id: ID!) { retryJob(input: {id: $id}) { ... on RetryJobPayload { job { id } } ... on Problem { message } } }",
        id=job["id"],
    )
    assert await result(ada, retried["job"]["id"]) == answered
    edges = await ada.one(
        "query($id: ID!) { node(id: $id) { ... on ModelVersion { predictions { edges { node { id modelVersion { id } } } } } } }", id=model
    )
    assert [edge["node"] for edge in edges["predictions"]["edges"]] == [
        {"id": each, "modelVersion": {"id": model}} for each in (retried["job"]["id"], job["id"])
    ]

    # What is wrong is told before there is a job.
    before = await ada.one(JOBS)
    good = rows[0]
    invalid: list[tuple[list[Any], list[tuple[list[str], str]]]] = [
        ([], [(["rows"], "There are 0 rows; send 1 to 1,000.")]),
        ([good, 7], [(["rows", "1"], "A row is a JSON object")]),
        ([{"shop": 1}], [(["rows"], "No row has the columns 'size', 'count', 'color', 'day', which the model needs.")]),
        (
            [{**good, "size": "small"}, {**good, "color": 3, "day": "tomorrow", "count": 1e300}],
            [
                (["rows", "0", "size"], "A number is expected; this is the text 'small'."),
                (["rows", "1", "count"], "A model takes numbers up to 1e+37"),
                (["rows", "1", "color"], "A text is expected; this is the number 3."),
                (["rows", "1", "day"], "A date is expected, in ISO 8601"),
            ],
        ),
    ]
    for wrong, expected in invalid:
        problem = await predict(ada, model, wrong)
        assert problem["__typename"] == "InvalidInput", problem
        assert [issue["path"] for issue in problem["issues"]] == [path for path, _ in expected]
        assert all(issue["message"].startswith(start) for issue, (_, start) in zip(problem["issues"], expected, strict=True)), problem
    assert (await predict(bob, model, rows))["code"] == "NOT_FOUND"
    assert await ada.one(JOBS) == before
    assert (await bob.one("query($id: ID!) { job(id: $id) { result } }", id=job["id"])) is None


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        ("k_means", {"n_clusters": 3, "exclude": ["sold"]}),
        exhaustive("linear_regression", {"target": "size"}),
        exhaustive("random_forest", {"target": "size"}),
        exhaustive("gradient_boosting", {"target": "size"}),
        exhaustive("lightgbm", {"target": "sold"}),
        exhaustive("random_forest", {"target": "sold"}),
        exhaustive("lightgbm", {"target": "count", "problem_type": "classification"}),
    ],
)
async def test_every_estimator_answers_what_its_file_predicts(
    ada: Client, worker: object, estimator: str, parameters: dict[str, Any]
) -> None:
    table = shirts().drop("day").drop_nulls()
    steps = [
        (
            "encode",
            "ordinal_encode",
            {"columns": ["color"] if parameters.get("target") == "sold" or estimator == "k_means" else ["color", "sold"]},
        )
    ]
    model = await train(ada, await ada.ingest("shirts", table.write_csv()), *steps, ("train", f"train_{estimator}", parameters))
    rows = table.head(20).to_dicts()
    answered = await answer(ada, model, rows)
    file = await load_model(ada, model)
    frame = table.head(20).to_pandas()
    predicted = [row["prediction"] for row in answered["predictions"]]
    if hasattr(file, "predict_proba"):
        assert predicted == file.predict(frame).tolist()
        assert answered["classes"] == file.classes_.tolist()
        assert np.array([row["probabilities"] for row in answered["predictions"]]) == pytest.approx(file.predict_proba(frame), rel=1e-12)
    else:
        assert predicted == pytest.approx(file.predict(frame).tolist(), rel=1e-12)
    if estimator == "k_means":
        distances = [row["distance"] for row in answered["predictions"]]
        assert distances == pytest.approx(file.transform(frame).min(axis=1).tolist())
        # A model without a step that fills in takes no row without a value, which is known before there is a job.
        problem = await predict(ada, model, [{**rows[0], "size": None}, {"color": "red", "size": 1}])
        assert [issue["path"] for issue in problem["issues"]] == [["rows", "0", "size"], ["rows", "1", "count"]]
        assert {issue["message"] for issue in problem["issues"]} == {"The model needs a value here; it was trained without missing ones."}
    assert told(answered) == ([("UNKNOWN_COLUMN", "sold", None, None)] if estimator == "k_means" else [])
