"""An archive of texts becomes a version with an item for each, whose column of texts models are trained on."""

from __future__ import annotations

import random

import pytest

from tests.archives import zip_of
from tests.client import Client

pytestmark = pytest.mark.exhaustive

VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { format rowCount itemCount classLabels { label count } issues { code }
  columns { name type } items(first: 100) { totalCount edges { node { key label contentType downloadUrl preview { id } audio { codec }
    text { characters words language } } } } } } }"""
TOPICS = {
    "garden": "roses tulips soil seeds water spade compost hedge lawn bloom pruning greenhouse",
    "harbour": "ships anchor tide cargo sailors crane quay lighthouse fishing nets captain storm",
}


def texts() -> dict[str, bytes]:
    generator = random.Random(3)
    files: dict[str, bytes] = {}
    for topic, words in TOPICS.items():
        for number in range(20):
            sentences = [
                f"There was something about the {first} and the {second} that everybody remembered."
                for first, second in (generator.sample(words.split(), 2) for _ in range(4))
            ]
            files[f"{topic}/{number:02}.txt"] = " ".join(sentences).encode()
    return files


async def test_an_archive_of_texts_is_a_list_of_items_and_a_table_to_train_on(ada: Client, worker: object) -> None:
    files = texts()
    version = await ada.ingest("topics", zip_of(files), "topics.zip", modality="TEXT")
    found = await ada.one(VERSION, id=version)
    items = found.pop("items")
    features = (
        "characters words sentences lines mean_word_length words_per_sentence distinct_words distinct_share upper_case_share digit_share"
    )
    columns = found.pop("columns")
    assert [column["name"] for column in columns] == ["key", "label", "language", "text", *features.split()]
    assert columns[3]["type"] == "STRING"
    assert found == {
        "format": "ZIP",
        "rowCount": 40,
        "itemCount": 40,
        "classLabels": [{"label": "garden", "count": 20}, {"label": "harbour", "count": 20}],
        "issues": [],
    }
    assert (items["totalCount"], len(items["edges"])) == (40, 40)
    first = items["edges"][0]["node"]
    content = files["garden/00.txt"]
    assert (await ada.http.get(first.pop("downloadUrl"))).content == content
    assert first == {
        "key": "garden/00.txt",
        "label": "garden",
        "contentType": "text/plain",
        "preview": None,
        "audio": None,
        "text": {"characters": len(content), "words": 48, "language": "en"},
    }

    steps = [
        ("data", "dataset", {}),
        ("split", "split", {"strategy": "stratified", "test_fraction": 0.3}),
        ("words", "tfidf_text", {"columns": ["text"]}),
        ("train", "train_logistic_regression", {"target": "label", "exclude": ["key", "language"]}),
        ("evaluate", "evaluate", {}),
    ]
    pipeline = (await ada.create_pipeline("topics", *steps))["pipeline"]["id"]
    started = await ada.run_pipeline(pipeline, version, seed=7)
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    run = await ada.one("query($id: ID!) { run(id: $id) { metrics { key last } } }", id=started["run"]["id"])
    assert {metric["key"]: metric["last"] for metric in run["metrics"]}["accuracy"] >= 0.9


async def test_each_line_of_a_file_is_a_text_with_a_language(ada: Client, worker: object) -> None:
    content = b"The roses in the garden are red.\n\nLe chat est assis sur la chaise.\n"
    upload = await ada.request_upload(await ada.create_dataset("lines", modality="TEXT"), "lines.txt", content, reading={"textLines": True})
    assert (await ada.put(upload["upload"], content)).status_code == 200
    completed = await ada.complete_upload(upload["upload"]["id"])
    assert (await ada.wait(completed["job"]["id"]))["status"] == "COMPLETED"
    found = await ada.one(VERSION, id=completed["version"]["id"])
    items = [edge["node"] for edge in found["items"]["edges"]]
    assert (found["format"], found["rowCount"], found["itemCount"], found["issues"]) == ("TEXT", 2, 2, [])
    assert [(item["key"], item["text"]["language"]) for item in items] == [("line/0000001", "en"), ("line/0000003", "fr")]
    assert [(await ada.http.get(item["downloadUrl"])).content for item in items] == content.splitlines()[::2]
