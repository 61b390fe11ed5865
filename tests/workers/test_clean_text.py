"""Texts are cleaned before the split, and those of predictions likewise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.workers.pipeline_runner import PipelineRecorder, artifact_path, chain, run
from workers.ml.prediction.body import predict_rows

MESSY = "See  HTTPS://Example.org/a?b=1 — Cafe\u0301 №7,\n\tﬁve 1,000.5 \u200b!"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "see url — café №7, ﬁve 1,000.5 !"),
        ({"unicode": "NFKC", "urls": "remove", "numbers": "mark", "punctuation": "remove"}, "see café no number five number"),
        ({"case": "keep", "urls": "keep", "unicode": "keep", "whitespace": "keep"}, MESSY),
        ({"numbers": "remove", "punctuation": "remove"}, "see url café ﬁve"),
    ],
)
def test_each_option_cleans_what_it_says(tmp_path: Path, options: dict[str, str], expected: str) -> None:
    frame = pl.DataFrame({"text": [MESSY, None, ""], "other": [MESSY] * 3})
    result, report = run(tmp_path, frame, chain(("clean_text", {"columns": ["text"], **options})))
    assert pl.read_parquet(result["parquet"]).to_dict(as_series=False) == {"text": [expected, None, ""], "other": [MESSY] * 3}
    assert result["columns"][0] == {"name": "text", "type": "STRING", "nullable": True}
    assert report.outputs["clean_text"] == {"columns": 2, "cleaned_columns": 1}


def _predicted(folder: Path, result: Any, rows: list[dict[str, Any]]) -> list[Any]:
    (folder / "rows.json").write_text(json.dumps(rows))
    model, signature = (str(artifact_path(result, role)) for role in ("MODEL", "SIGNATURE"))
    answer = predict_rows({"model": model, "signature": signature, "rows": str(folder / "rows.json")}, PipelineRecorder())
    assert answer["issues"] == []
    return [each["prediction"] for each in answer["predictions"]]


@pytest.mark.parametrize("renamed", [None, "before", "after"])
def test_predictions_clean_their_texts_as_the_training_did(tmp_path: Path, renamed: str | None) -> None:
    frame = pl.DataFrame({"text": ["red rose", "RED 12", "Blue sky", "blue 7"] * 10, "label": ["warm", "warm", "cold", "cold"] * 10})
    rename = ("rename_columns", {"columns": [{"column": "text", "name": "words"}]})
    clean = ("clean_text", {"columns": ["words" if renamed == "before" else "text"], "numbers": "remove"})
    steps = {None: [clean], "before": [rename, clean], "after": [clean, rename]}[renamed]
    name = "text" if renamed is None else "words"
    terms = ("tfidf_text", {"columns": [name], "analyzer": "word"})
    result, _ = run(tmp_path, frame, chain(*steps, terms, ("train_naive_bayes", {"target": "label"})))
    signature = json.loads(artifact_path(result, "SIGNATURE").read_text())
    assert signature["inputs"][0]["name"] == name
    assert _predicted(tmp_path, result, [{"text": "1 RED 2"}, {"text": "BLUE!"}]) == ["warm", "cold"]
    # The code of the card computes what the model takes.
    card = artifact_path(result, "MODEL_CARD").read_text()
    rows = frame
    for line in card.splitlines():
        if line.startswith("rows = rows.with_columns((pl.col("):
            rows = eval(line.removeprefix("rows = "), {"pl": pl, "rows": rows})
    assert rows[name].to_list() == ["red rose", "red", "blue sky", "blue"] * 10
