"""A model of cleaned texts predicts texts as they come: the text is cleaned on the way, also under its name before it was renamed."""

from __future__ import annotations

import pytest

from tests.client import Client
from tests.predictions.predicting import answer, predict_dataset, read_version, result, train

pytestmark = pytest.mark.exhaustive

ROWS = [("Red  ROSE", "warm"), ("red 12", "warm"), ("BLUE sky", "cold"), ("Blue 7!", "cold")] * 8


async def test_texts_are_cleaned_in_predictions(ada: Client, worker: object) -> None:
    version = await ada.ingest("words", "words,mood\n" + "".join(f"{words},{mood}\n" for words, mood in ROWS))
    model = await train(
        ada,
        version,
        ("rename", "rename_columns", {"columns": [{"column": "words", "name": "text"}]}),
        ("clean", "clean_text", {"columns": ["text"], "numbers": "remove", "punctuation": "remove"}),
        ("terms", "tfidf_text", {"columns": ["text"]}),
        ("train", "train_naive_bayes", {"target": "mood"}),
    )
    for column in ("words", "text"):
        answered = await answer(ada, model, [{column: "1 RED, 2"}, {column: "bLUE"}])
        assert [row["prediction"] for row in answered["predictions"]] == ["warm", "cold"]
        assert answered["issues"] == []
    submitted = await predict_dataset(ada, model, version)
    answered = await result(ada, submitted["job"]["id"])
    assert (answered["predicted"], answered["issues"]) == (len(ROWS), [])
    job = await ada.one("query($id: ID!) { job(id: $id) { outputs { ... on DatasetVersion { id } } } }", id=submitted["job"]["id"])
    written = await read_version(ada, job["outputs"][0]["id"])
    assert written["words"].to_list() == [words for words, _ in ROWS]
    assert written["prediction"].cast(str).to_list() == [mood for _, mood in ROWS]
