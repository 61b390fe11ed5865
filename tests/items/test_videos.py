"""An archive of videos becomes a version with an item for each, on whose features models are trained."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import extras as services
from db.services import workers
from db.tables import DatasetVersion, Worker
from db.tables.datasets import DatasetVersionStatus
from tests.archives import zip_of
from tests.client import Client
from tests.videos import moving_bar, shade, video_of

VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { format rowCount itemCount classLabels { label count } issues { code message }
  columns { name type } items(first: 100, orderBy: {feature: "duration", direction: ASC}) { edges { node { key label contentType features downloadUrl
    preview { contentType filename downloadUrl } issues { code } image { width }
    video { duration width height frameRate frames codec } } } } } } }"""
FEATURES = [
    "duration", "width", "height", "frame_rate", "frames", "brightness", "brightness_variance", "contrast", "colourfulness", "motion",
    "motion_variance", "cuts", "has_audio",
]  # fmt: skip


async def test_an_archive_of_videos_is_a_list_of_items_and_a_table_to_train_on(ada: Client, worker: object, database: Database) -> None:
    bar = video_of(moving_bar(24), audio=True)
    files = {f"moving/{number}.mp4": video_of(moving_bar(8 + number)) for number in range(6)}
    files |= {f"still/{number}.mp4": video_of([shade(40 + 20 * number)] * (8 + number)) for number in range(6)}
    files |= {"moving/long.mp4": bar, "still/cut.mp4": bar[: len(bar) // 2]}
    version = await ada.ingest("clips", zip_of(files), "clips.zip", modality="VIDEO")
    found = await ada.one(VERSION, id=version)
    nodes = [edge["node"] for edge in found.pop("items")["edges"]]
    assert [column["name"] for column in found.pop("columns")] == ["key", "label", *FEATURES]
    assert found == {
        "format": "ZIP",
        "rowCount": 13,
        "itemCount": 14,
        "classLabels": [{"label": "moving", "count": 7}, {"label": "still", "count": 6}],
        "issues": [{"code": "CORRUPT_ITEM", "message": "'still/cut.mp4': The file is damaged or cut off."}],
    }
    assert (nodes[0]["key"], nodes[0]["video"], nodes[0]["preview"]) == ("still/cut.mp4", None, None)
    longest = nodes[-1]
    features, preview = longest.pop("features"), longest.pop("preview")
    assert (await ada.http.get(longest.pop("downloadUrl"))).content == bar
    assert longest == {
        "key": "moving/long.mp4",
        "label": "moving",
        "contentType": "video/mp4",
        "issues": [],
        "image": None,
        "video": {"duration": 3, "width": 64, "height": 48, "frameRate": 8, "frames": 24, "codec": "H264"},
    }
    assert set(features) == {*FEATURES}
    assert (features["has_audio"], features["cuts"]) == (1, 0)
    small = await ada.http.get(preview.pop("downloadUrl"))
    with Image.open(io.BytesIO(small.content)) as opened:
        assert (opened.format, opened.size) == ("WEBP", (64, 48)), "four frames of half the size"
    assert preview == {"contentType": "image/webp", "filename": "long.webp"}
    motion = {node["key"]: node["features"]["motion"] for node in nodes[1:-1]}
    assert min(value for key, value in motion.items() if key.startswith("moving")) > 0.1
    assert max(value for key, value in motion.items() if key.startswith("still")) < 0.01
    async with database.work(SYSTEM) as work:
        live = await work.all(select(Worker.extras).where(Worker.stopped_at.is_(None)))
    assert ["embeddings", "onnx", "video", "xgboost"] in [row.extras for row in live], "what a worker says of itself"


async def test_what_no_worker_can_read_is_refused_before_it_is_sent(
    ada: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the running workers say, whatever is installed where the API runs; without any, by that."""
    refusal = "Videos cannot be read: the extra `video` is not installed. Run `pip install 'trellis[video]'` where the workers run."
    dataset = await ada.create_dataset("clips", modality="VIDEO")
    request = "mutation($input: RequestUploadInput!) { requestUpload(input: $input) { __typename ... on InvalidInput { issues { path message } } } }"

    async def asked(extras: list[str] | None, *, is_installed: bool) -> dict[str, Any]:
        monkeypatch.setattr(services, "find_spec", lambda _: is_installed or None)
        async with database.work(SYSTEM) as work:
            await work.run(update(Worker).values(extras=extras))
        return await ada.one(request, input={"datasetId": dataset, "filename": "clips.zip", "sizeBytes": 100})

    accepted, refused = (
        {"__typename": "RequestUploadPayload"},
        {"__typename": "InvalidInput", "issues": [{"path": ["datasetId"], "message": refusal}]},
    )
    async with database.work(SYSTEM) as work:
        before = await work.all(select(Worker.id, Worker.queues, Worker.extras))
        await work.run(update(Worker).values(queues=["another"]))
    try:
        assert await asked(["video"], is_installed=False) == refused, "no worker of the queue runs"
        assert await asked([], is_installed=True) == accepted
        async with database.work(SYSTEM) as work:
            mine = await workers.register(work, f"reader-{time.monotonic_ns()}", ["upload", "video"], 1)
        assert await asked(["onnx", "video"], is_installed=False) == accepted
        assert await asked(None, is_installed=False) == accepted, "a worker of an earlier release may have it"
        assert await asked(["onnx"], is_installed=True) == refused
        pipeline = (await ada.create_pipeline("p", ("data", "dataset", {}), ("motion", "video_motion", {}), modality="VIDEO"))["pipeline"][
            "id"
        ]
        async with database.work(SYSTEM) as work:
            version = await work.scalar(select(DatasetVersion.id).limit(1))
            await work.run(update(DatasetVersion).values(status=DatasetVersionStatus.READY))
        answer = await ada.run_pipeline(pipeline, f"version_{version.hex}")
        assert answer["issues"] == [{"path": ["pipelineId"], "message": f"Node 'motion' of the pipeline reads frames. {refusal}"}]
        async with database.work(SYSTEM) as work:
            await workers.stop(work, mine)
    finally:
        async with database.work(SYSTEM) as work:
            for row in before:
                await work.run(update(Worker).where(Worker.id == row.id).values(queues=row.queues, extras=row.extras))
