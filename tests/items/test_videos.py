"""An archive of videos becomes a version with an item for each, on whose features models are trained."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from db.services import uploads
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


async def test_an_archive_of_videos_is_a_list_of_items_and_a_table_to_train_on(ada: Client, worker: object) -> None:
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


async def test_without_the_extra_a_video_is_refused_before_it_is_sent(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = await ada.create_dataset("clips", modality="VIDEO")
    request = "mutation($input: RequestUploadInput!) { requestUpload(input: $input) { __typename ... on InvalidInput { issues { path message } } } }"
    announced = {"datasetId": dataset, "filename": "clips.zip", "sizeBytes": 100}
    monkeypatch.setattr(uploads, "find_spec", lambda _: None)
    refused = await ada.one(request, input=announced)
    assert refused["issues"] == [
        {
            "path": ["datasetId"],
            "message": "Videos cannot be read: the extra `video` is not installed. Run `pip install 'trellis[video]'` where the API and the workers run.",
        }
    ]
    monkeypatch.undo()
    assert (await ada.one(request, input=announced))["__typename"] == "RequestUploadPayload"
