"""Tasks have templates that ship: everybody sees them, nobody changes or runs them, and copies of them train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete

from db.core.viewer import SHIPPED_ACCOUNT, SYSTEM, UserRole
from db.core.work import Database
from db.services.ml_tasks import TASKS
from db.services.pipelines import definitions, templates
from db.tables import Pipeline
from tests.accounts.test_teams import join
from tests.archives import csv_of, image_of, recording_of, tone, vibration, zip_of
from tests.client import Client
from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.videos import video_of
from tests.workers.test_segy import segy

DATASETS: Any = LazyModule("sklearn.datasets")
TASK_LIST = """query($modality: Modality) { mlTasks(modality: $modality) { key modality type primaryMetric goal
  templates { id name status isTemplate version modality task { key } owner { username kind } } } }"""
COPY = """mutation($input: CopyPipelineInput!) { copyPipeline(input: $input) { __typename ... on Problem { code message }
  ... on InvalidInput { issues { path message } } ... on CopyPipelinePayload { pipeline { id name status version isTemplate description
    task { key } owner { id } definition { nodes { key stepKey parameters } links { source target } } } } } }"""
OWNER = """query($id: ID!) { pipeline(id: $id) { createdBy { username } snapshots { totalCount } jobs { totalCount } owner { id kind username fullName
  email role tier isActive stats { datasets pipelines jobs } storage { usedBytes pendingBytes } creditBalance teams { since } members { totalCount }
  pipelines { totalCount } datasets { totalCount } runs { totalCount } lastLoginAt deletedAt } } }"""

# What a change of a chain has to raise: the first digits of the hash of each definition, by name and version.
RELEASED = {
    ("Classify rows: gradient boosting", 1): "1e35a6be",
    ("Classify rows: logistic regression", 1): "e2fcc16a",
    ("Predict numbers: gradient boosting", 1): "57a45d56",
    ("Predict numbers: ridge regression", 1): "0d467c1c",
    ("Find groups of rows: k-means", 1): "b3c5897e",
    ("Find groups of rows: normal distributions", 1): "97b88cfe",
    ("Find unusual rows: isolation forest", 2): "80ead56a",
    ("Classify signals: random forest", 1): "d7006a24",
    ("Classify signals: gradient boosting by recordings", 1): "bc698858",
    ("Reconstruct traces: projection onto convex sets", 1): "2de09d02",
    ("Reconstruct traces: interpolation", 1): "2e6e4368",
    ("Classify images: edges", 1): "eb8aa79f",
    ("Classify images: pixels", 1): "412b251e",
    ("Classify recordings: random forest", 1): "d7006a24",
    ("Classify recordings: support vectors", 2): "f9180063",
    ("Classify videos: motion", 1): "b687f689",
    ("Classify videos: pictures", 1): "0db984b2",
    ("Classify rows with images: gradient boosting", 1): "8ef33296",
    ("Classify rows with files: gradient boosting", 1): "1e35a6be",
    ("Classify texts: words", 1): "c17fb044",
    ("Classify texts: parts of words", 1): "b2eb1cc5",
}


async def template_ids(client: Client) -> dict[str, str]:
    """The templates that ship, by name."""
    return {template["name"]: template["id"] for task in await client.one(TASK_LIST) for template in task["templates"]}


async def copy(client: Client, pipeline: str, **fields: Any) -> dict[str, Any]:
    return await client.one(COPY, input={"id": pipeline, **fields})


def test_a_changed_template_has_a_higher_version() -> None:
    shipped = {
        (template.name, template.version): definitions.sha256(definitions.normalise(template.definition))[:8]
        for template in templates.TEMPLATES
    }
    assert shipped == RELEASED


def test_each_task_has_two_templates_but_one_way_to_find_unusual_rows() -> None:
    tasks = [template.task for template in templates.TEMPLATES]
    assert {key: tasks.count(key) for key in TASKS} == dict.fromkeys(TASKS, 2) | {"tabular_anomaly_detection": 1}
    assert len(tasks) == 2 * len(TASKS) - 1


async def test_templates_are_valid_for_the_steps_of_this_release(database: Database) -> None:
    async with database.work(SYSTEM) as work:
        steps = await definitions.load_steps(work)
    for template in templates.TEMPLATES:
        definition = definitions.normalise(template.definition)
        modality = TASKS[template.task].modality
        assert definitions.soundness_issues(definition, steps, modality) == [], template.name
        assert definitions.completeness_issues(definition, steps) == [], template.name


async def test_everybody_sees_the_templates_of_each_task(ada: Client, bob: Client, admin: Client, anonymous: Client) -> None:
    tasks = await ada.one(TASK_LIST)
    assert [task["key"] for task in tasks] == list(TASKS)
    assert await bob.one(TASK_LIST) == await admin.one(TASK_LIST) == tasks
    (task,) = await ada.one(TASK_LIST, modality="AUDIO")
    found = task.pop("templates")
    assert task == {
        "key": "audio_classification",
        "modality": "AUDIO",
        "type": "CLASSIFICATION",
        "primaryMetric": "f1_macro",
        "goal": "MAXIMIZE",
    }
    assert [template["name"] for template in found] == ["Classify recordings: random forest", "Classify recordings: support vectors"]
    assert {key: value for key, value in found[0].items() if key not in {"id", "name"}} == {
        "status": "VALIDATED",
        "isTemplate": True,
        "version": 1,
        "modality": "AUDIO",
        "task": {"key": "audio_classification"},
        "owner": {"username": "_trellis", "kind": "SYSTEM"},
    }
    assert [task["key"] for task in await ada.one(TASK_LIST, modality="VIDEO")] == ["video_classification"]
    assert (await anonymous.post(TASK_LIST))["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_what_ships_is_in_no_list_and_its_account_shows_nothing_of_others(ada: Client, admin: Client) -> None:
    template = next(iter((await template_ids(ada)).values()))
    for client in (ada, admin):
        lists = "{ pipelines(filter: {isTemplate: true}) { totalCount edges { node { id } } } }"
        assert await client.one(lists) == {"totalCount": 0, "edges": []}
    assert (await admin.one("{ users(filter: {kind: [SYSTEM]}) { totalCount } }")) == {"totalCount": 0}
    assert (await ada.one("query($id: ID!) { node(id: $id) { id } }", id=template)) == {"id": template}
    pipeline = await ada.one(OWNER, id=template)
    owner = pipeline.pop("owner")
    assert pipeline == {"createdBy": None, "snapshots": {"totalCount": 0}, "jobs": {"totalCount": 0}}
    assert owner["id"] == f"user_{SHIPPED_ACCOUNT.hex}"
    assert owner["stats"] == {"datasets": 0, "pipelines": len(templates.TEMPLATES), "jobs": 0}
    assert (owner["pipelines"], owner["datasets"], owner["runs"], owner["members"]) == ({"totalCount": 0},) * 4
    administer = "mutation($id: ID!) { administerUser(input: {id: $id, isActive: false}) { __typename } }"
    assert await admin.one(administer, id=owner["id"]) == {"__typename": "NotFound"}


async def test_nobody_runs_or_changes_a_template_that_ships(ada: Client, admin: Client) -> None:
    ids = await template_ids(ada)
    name, template = next(iter(ids.items()))
    update = """mutation($id: ID!) { updatePipeline(input: {id: $id, name: "mine"}) { __typename ... on InvalidInput { issues { path message } } } }"""
    for client in (ada, admin):
        for action, path, answer in (
            ("change", ["id"], await client.one(update, id=template)),
            ("run", ["pipelineId"], await client.run_pipeline(template, f"version_{'0' * 32}")),
        ):
            message = f"{name!r} is a template that ships with Trellis. Copy it with `copyPipeline`, and {action} the copy."
            assert (answer["__typename"], answer["issues"]) == ("InvalidInput", [{"path": path, "message": message}])
    assert await template_ids(ada) == ids


async def test_a_copy_is_a_pipeline_like_any_other(ada: Client, bob: Client, database: Database) -> None:
    name, template = next(iter((await template_ids(ada)).items()))
    original = await ada.one(
        "query($id: ID!) { pipeline(id: $id) { description definition { nodes { key stepKey parameters } links { source target } } } }",
        id=template,
    )
    copied = (await copy(ada, template, idempotencyKey="k"))["pipeline"]
    assert {key: value for key, value in copied.items() if key not in {"id", "owner"}} == {
        **original,
        "name": name,
        "status": "VALIDATED",
        "version": 1,
        "isTemplate": False,
        "task": {"key": "tabular_classification"},
    }
    assert (await copy(ada, template, idempotencyKey="k"))["pipeline"]["id"] == copied["id"]
    assert (await copy(ada, template, name="other", idempotencyKey="k"))["code"] == "CONFLICT"
    assert (await copy(ada, template))["code"] == "NAME_TAKEN"
    assert (await copy(bob, copied["id"]))["code"] == "NOT_FOUND"
    ada_id, bob_id = [(await client.one("{ viewer { id } }"))["id"] for client in (ada, bob)]
    assert (await copy(bob, template, name="theirs", ownerId=ada_id))["issues"][0]["path"] == ["ownerId"]
    await join(database, ada_id, "bob", UserRole.MEMBER)  # as if her account were a team
    assert (await copy(bob, copied["id"]))["pipeline"]["owner"] == {"id": bob_id}
    assert (await copy(bob, template, name="theirs", ownerId=ada_id))["pipeline"]["owner"] == {"id": ada_id}
    again = (await copy(ada, copied["id"], name="again"))["pipeline"]
    assert (again["name"], again["task"], again["definition"]) == ("again", copied["task"], copied["definition"])
    mark = """mutation($id: ID!, $is: Boolean) { updatePipeline(input: {id: $id, isTemplate: $is}) {
      ... on UpdatePipelinePayload { pipeline { isTemplate version } } ... on InvalidInput { issues { path } } } }"""
    assert (await ada.one(mark, id=again["id"], **{"is": True}))["pipeline"] == {"isTemplate": True, "version": 2}
    assert (await ada.one(mark, id=again["id"], **{"is": None}))["issues"] == [{"path": ["isTemplate"]}]
    marked = await ada.one("{ pipelines(filter: {isTemplate: true}) { edges { node { id } } } }")
    assert marked == {"edges": [{"node": {"id": again["id"]}}]}


async def test_a_newer_release_changes_the_templates_and_no_copy(ada: Client, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def publish(*shipped: templates.Template) -> None:
        monkeypatch.setattr(templates, "TEMPLATES", shipped)
        async with database.work(SYSTEM) as work:
            await templates.publish_templates(work)

    query = "query($ids: [ID!]!) { nodes(ids: $ids) { ... on Pipeline { version definition { nodes { key } } } } }"
    present = templates.TEMPLATES
    old = present[0]
    template = (await template_ids(ada))[old.name]
    copied = (await copy(ada, template))["pipeline"]["id"]
    before = await ada.one(query, ids=[template, copied])
    new = dataclasses.replace(old, version=2, chain=(("data", "dataset", {}), ("scale", "scale", {})))
    try:
        await publish(new)
        changed = {"version": 2, "definition": {"nodes": [{"key": "data"}, {"key": "scale"}]}}
        assert await ada.one(query, ids=[template, copied]) == [changed, before[1]]
        await publish(old)
        assert await ada.one(query, ids=[template, copied]) == [changed, before[1]], "the older release beside it changes nothing back"
    finally:
        async with database.work(SYSTEM) as work:
            await work.run(delete(Pipeline).where(Pipeline.owner_id == SHIPPED_ACCOUNT, Pipeline.name == old.name))
        await publish(*present)


def breast_cancer() -> bytes:
    """Of 569 tumours, with some values missing and a column of text."""
    data: Any = DATASETS.load_breast_cancer(as_frame=True)
    table = data.frame.iloc[::2].rename(columns={"target": "diagnosis"})
    table["diagnosis"] = table["diagnosis"].map({0: "malignant", 1: "benign"})
    table["clinic"] = [f"clinic {number % 4}" for number in range(len(table))]
    table.loc[table.index[::20], "mean radius"] = None
    return table.to_csv(index=False).encode()


def diabetes() -> bytes:
    """Of 442 patients."""
    data: Any = DATASETS.load_diabetes(as_frame=True)
    return data.frame.to_csv(index=False).encode()


def signals() -> bytes:
    """Vibrations of sound and of damaged bearings: recordings of three signals each."""
    files: dict[str, bytes] = {"metadata.csv": b"file_name,label,group\n"}
    for number in range(36):
        is_damaged = number % 2 == 1
        name = f"{number:02}.csv"
        files[name] = csv_of(vibration(20 + number % 7, number, impacts=is_damaged))
        files["metadata.csv"] += f"{name},{'damaged' if is_damaged else 'sound'},recording {number // 2 // 3 * 2 + number % 2}\n".encode()
    return zip_of(files)


def images() -> bytes:
    """Handwritten digits."""
    data: Any = DATASETS.load_digits()
    pixels = (data.images[:400] * 15).astype(np.uint8)
    return zip_of(
        {f"{label}/{number:03}.png": image_of(image) for number, (image, label) in enumerate(zip(pixels, data.target, strict=False))}
    )


def recordings() -> bytes:
    """Low and high tones."""
    generator = np.random.default_rng(5)
    pitches = {"low": (200, 900), "high": (1_200, 3_500)}
    files = {
        f"{label}/{number:02}.wav": recording_of(tone(generator.uniform(low, high), number), "WAV")
        for label, (low, high) in pitches.items()
        for number in range(15)
    }
    return zip_of(files)


def texts() -> bytes:
    """Notes on two topics, with words in common."""
    generator = np.random.default_rng(3)
    topics = {"garden": "roses tulips soil seeds water spade compost hedge", "harbour": "ships anchor tide cargo sailors crane quay nets"}
    files: dict[str, bytes] = {}
    for topic, words in topics.items():
        for number in range(20):
            chosen = generator.choice(words.split(), 4, replace=False)
            files[f"{topic}/{number:02}.txt"] = f"There was something about the {' and the '.join(chosen)} that everybody knew.".encode()
    return zip_of(files)


def films() -> bytes:
    """A disc that falls, a block that rises and a beam that comes from the left, in front of noise and at any height, speed and light."""
    generator = np.random.default_rng(6)
    down, across = np.mgrid[:48, :64]
    files: dict[str, bytes] = {}
    for number in range(12):
        for label in ("falls", "rises", "comes"):
            place, speed, light = generator.uniform(16, 40), generator.uniform(1.5, 2.5), generator.uniform(120, 200)
            frames: list[Any] = []
            for time in range(0, 20, 2):
                if label == "comes":
                    is_lit = (abs(across - 2 * speed * time) < 4) & (abs(down - place) < 14)
                elif label == "rises":
                    is_lit = (abs(across - place) < 6) & (abs(down - 48 + speed * time) < 6)
                else:
                    is_lit = np.hypot(across - place, down - speed * time) < 8
                picture = 60 + light * is_lit[..., None] + generator.normal(0, 15, (48, 64, 3))
                frames.append(picture.clip(0, 255).astype(np.uint8))
            files[f"{label}/{number:02}.mp4"] = video_of(frames)
    return zip_of(files)


def digits_and_doses() -> bytes:
    """Rows of a handwritten 0 or 1 and of a dose with noise: each tells one half of the class. One picture is missing."""
    data = DATASETS.load_digits()
    generator = np.random.default_rng(8)
    lines = ["number,ward,dose,picture,finding"]
    files: dict[str, bytes] = {}
    for index in np.flatnonzero(data.target < 2)[:200].tolist():
        is_high = generator.integers(2)
        files[f"pictures/{index}.png"] = image_of((data.images[index] * 15).astype(np.uint8))
        finding = f"{data.target[index]} {'high' if is_high else 'low'}"
        lines.append(
            f"{index},ward {generator.integers(3)},{1 + 2 * is_high + generator.normal(0, 0.5):.3f},pictures/{index}.png,{finding}"
        )
    del files["pictures/11.png"]
    return zip_of({"data.csv": "\n".join(lines).encode(), **files})


def gathers() -> bytes:
    """Shots of 48 traces with two reflections on hyperbolas, in noise."""
    generator = np.random.default_rng(2)
    times, offsets = np.arange(250) / 500, 10.0 * np.arange(48)
    traces: list[Any] = []
    for _ in range(2):
        for offset in offsets:
            values = generator.normal(0, 0.03, len(times))
            for start in (0.1, 0.25):
                phase = (np.pi * 25 * (times - np.hypot(start, offset / 2_000))) ** 2
                values += (1 - 2 * phase) * np.exp(-phase)
            traces.append(values)
    return segy(np.array(traces), ensemble=[1] * 48 + [2] * 48)


Bounds = Mapping[str, tuple[str, Callable[[float], bool]]]
TABLE = {"targetColumn": "diagnosis", "problemType": "CLASSIFICATION"}
DATA: Mapping[str, tuple[Callable[[], bytes], str, dict[str, Any], Bounds]] = {
    "breast cancer": (
        breast_cancer,
        "tumours.csv",
        TABLE,
        {
            "Classify rows: gradient boosting": ("f1_macro", lambda value: value > 0.9),
            "Classify rows: logistic regression": ("f1_macro", lambda value: value > 0.9),
        },
    ),
    "diabetes": (
        diabetes,
        "patients.csv",
        {"targetColumn": "target", "problemType": "REGRESSION"},
        {
            "Predict numbers: ridge regression": ("rmse", lambda value: value < 62),
            "Predict numbers: gradient boosting": ("rmse", lambda value: value < 66),
            "Find groups of rows: k-means": ("silhouette", lambda value: value > 0.05),
            "Find groups of rows: normal distributions": ("silhouette", lambda value: value > 0.0),
            "Find unusual rows: isolation forest": ("outlier_share", lambda value: 0 < value < 0.2),
        },
    ),
    "signals": (
        signals,
        "signals.zip",
        {"modality": "SIGNAL"},
        {
            "Classify signals: random forest": ("f1_macro", lambda value: value > 0.8),
            "Classify signals: gradient boosting by recordings": ("f1_macro", lambda value: value > 0.8),
        },
    ),
    "gathers": (
        gathers,
        "line.sgy",
        {"modality": "SIGNAL"},
        {
            "Reconstruct traces: projection onto convex sets": ("snr", lambda value: value > 6),
            "Reconstruct traces: interpolation": ("snr", lambda value: value > 3),
        },
    ),
    "images": (
        images,
        "digits.zip",
        {"modality": "IMAGE"},
        {
            "Classify images: edges": ("f1_macro", lambda value: value > 0.85),
            "Classify images: pixels": ("f1_macro", lambda value: value > 0.85),
        },
    ),
    "recordings": (
        recordings,
        "tones.zip",
        {"modality": "AUDIO"},
        {
            "Classify recordings: support vectors": ("f1_macro", lambda value: value > 0.8),
            "Classify recordings: random forest": ("f1_macro", lambda value: value > 0.8),
        },
    ),
    "films": (
        films,
        "films.zip",
        {"modality": "VIDEO"},
        {
            "Classify videos: motion": ("f1_macro", lambda value: value > 0.9),
            "Classify videos: pictures": ("f1_macro", lambda value: value > 0.9),
        },
    ),
    "digits and doses": (
        digits_and_doses,
        "doses.zip",
        {"modality": "MULTIMODAL", "targetColumn": "finding", "problemType": "CLASSIFICATION"},
        {
            "Classify rows with images: gradient boosting": ("f1_macro", lambda value: value > 0.85),
            "Classify rows with files: gradient boosting": ("f1_macro", lambda value: value > 0.6),
        },
    ),
    "texts": (
        texts,
        "notes.zip",
        {"modality": "TEXT"},
        {
            "Classify texts: words": ("f1_macro", lambda value: value > 0.8),
            "Classify texts: parts of words": ("f1_macro", lambda value: value > 0.8),
        },
    ),
}


def test_each_template_is_trained() -> None:
    assert {name for *_, bounds in DATA.values() for name in bounds} == {template.name for template in templates.TEMPLATES}


@pytest.mark.parametrize(("data", "count"), [("diabetes", 1), *(exhaustive(name, len(bounds)) for name, (*_, bounds) in DATA.items())])
async def test_a_copy_of_a_template_trains(ada: Client, worker: object, data: str, count: int) -> None:
    make, filename, fields, bounds = DATA[data]
    version = await ada.ingest(data, make(), filename, **fields)
    ids = await template_ids(ada)
    measured: dict[str, float] = {}
    for name, (metric, _) in [*bounds.items()][:count]:
        copied = (await copy(ada, ids[name]))["pipeline"]
        started = await ada.run_pipeline(copied["id"], version, seed=1)
        assert started["__typename"] == "RunPipelinePayload", started
        ended = await ada.wait(started["job"]["id"])
        assert ended["status"] == "COMPLETED", (name, ended["error"])
        if started["run"] is None:
            measured[name] = next(node["output"][metric] for node in ended["nodes"] if node["key"] == "write")
            continue
        run = await ada.one("query($id: ID!) { run(id: $id) { metrics { key last } } }", id=started["run"]["id"])
        measured[name] = {summary["key"]: summary["last"] for summary in run["metrics"]}[metric]
    assert {name: value for name, value in measured.items() if not bounds[name][1](value)} == {}, measured
