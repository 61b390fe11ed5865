"""An archive of images becomes a version with an item for each."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from PIL import Image

from db.services import item_links
from db.settings import StateSettings
from tests.archives import image_of, npy_of, tar_of, zip_of
from tests.client import Client, GraphQLErrors
from tests.lazy_module import LazyModule
from tests.workers.ingest_runner import ingest_error, items_of, run_ingest

DATASETS: Any = LazyModule("sklearn.datasets")
ITEMS = """query($id: ID!, $order: ItemOrder) { node(id: $id) { ... on DatasetVersion { format rowCount itemCount classLabels { label count }
  columns { name } signal { traces } items(first: 100, orderBy: $order) { edges { node { key label contentType features
    downloadUrl preview { id role filename contentType sizeBytes sha256 downloadUrl }
    signal { samples } image { width height channels format perceptualHash } } } } } } }"""


def digits(count: int) -> dict[str, bytes]:
    data = DATASETS.load_digits()
    pixels = (data.images[:count] * 15).astype(np.uint8)
    return {
        f"digits/{label}/{number:03}.png": image_of(image) for number, (image, label) in enumerate(zip(pixels, data.target, strict=False))
    }


async def test_an_archive_of_images_is_a_list_of_items(
    ada: Client, bob: Client, anonymous: Client, worker: object, settings: StateSettings
) -> None:
    files = digits(30)
    version = await ada.ingest("digits", tar_of(files), "digits.tar", modality="IMAGE")
    found = await ada.one(ITEMS, id=version, order={"feature": "width", "direction": "ASC"})
    nodes = [edge["node"] for edge in found.pop("items")["edges"]]
    assert found == {
        "format": "TAR",
        "rowCount": 30,
        "itemCount": 30,
        "classLabels": [{"label": str(label), "count": 3} for label in range(10)],
        "columns": [{"name": name} for name in ("key", "label", "width", "height", "brightness", "contrast", "sharpness")],
        "signal": None,
    }
    assert len(nodes) == 30
    pixels = (DATASETS.load_digits().images[0] * 15).astype(np.uint8)
    (first,) = (node for node in nodes if node["key"] == "0/000.png")
    features = first.pop("features")
    assert (features["width"], features["height"]) == (8, 8)
    assert features["brightness"] == pytest.approx(pixels.mean() / 255)
    assert features["contrast"] == pytest.approx(pixels.std() / 255)
    image = first.pop("image")
    assert len(image.pop("perceptualHash")) == 16
    assert image == {"width": 8, "height": 8, "channels": 1, "format": "PNG"}

    url, preview = first.pop("downloadUrl"), first.pop("preview")
    assert first == {"key": "0/000.png", "label": "0", "contentType": "image/png", "signal": None}
    response = await anonymous.http.get(url)
    assert (response.status_code, response.content) == (200, files["digits/0/000.png"])
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-disposition"].startswith('attachment; filename="000.png"')
    small = await anonymous.http.get(preview.pop("downloadUrl"))
    assert (small.status_code, small.headers["content-type"]) == (200, "image/webp")
    with Image.open(io.BytesIO(small.content)) as opened:
        assert (opened.format, opened.size) == ("WEBP", (8, 8))
    preview_id = preview.pop("id")
    assert preview == {
        "role": "PREVIEW",
        "filename": "000.webp",
        "contentType": "image/webp",
        "sizeBytes": len(small.content),
        "sha256": hashlib.sha256(small.content).hexdigest(),
    }
    node = "query($id: ID!) { node(id: $id) { ... on Artifact { role sizeBytes } } }"
    assert await ada.one(node, id=preview_id) == {"role": "PREVIEW", "sizeBytes": preview["sizeBytes"]}
    assert await bob.one(node, id=preview_id) is None

    forged = url[:-2] + ("AA" if url[-2:] != "AA" else "BB")
    expired = item_links.url(settings, item_links.LinkedPart.CONTENT, UUID(preview_id.removeprefix("artifact_")), -1)
    for address, status, code in ((forged, 404, "NOT_FOUND"), ("/items/x", 404, "NOT_FOUND"), (expired, 410, "EXPIRED")):
        refused = await anonymous.http.get(address)
        assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (status, code)
    with pytest.raises(GraphQLErrors, match="between 60 and 3600 seconds"):
        await ada.one(
            "query($id: ID!) { node(id: $id) { ... on DatasetItem { downloadUrl(expiresIn: 86400) } } }",
            id=preview_id.replace("artifact", "item"),
        )
    dataset = await ada.one("query($id: ID!) { node(id: $id) { ... on DatasetVersion { dataset { id } } } }", id=version)
    await ada.one("mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=dataset["dataset"]["id"])
    assert (await anonymous.http.get(url)).status_code == 404
    assert await ada.one(node, id=preview_id) is None


def _described(folder: Path, content: bytes, name: str = "i.png") -> dict[str, Any]:
    result, _ = run_ingest(folder, content, name, modality="IMAGE")
    (item,) = items_of(result)
    return item


GRADIENT = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
COLOURS = np.stack([GRADIENT, GRADIENT.max() - GRADIENT, GRADIENT // 2], axis=2)


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_each_format_is_an_item_by_itself(format_name: str, tmp_path: Path) -> None:
    item = _described(tmp_path, image_of(COLOURS, format_name), f"one.{format_name.lower()}")
    info = item["info"]
    assert (info["format"], info["width"], info["height"], info["channels"]) == (format_name, 60, 40, 3)
    assert (item["key"], item["in_pack"], item["issues"]) == (f"one.{format_name.lower()}", False, [])


def test_an_image_is_turned_as_it_says_and_its_place_is_not_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif.get_ifd(0x8825)[1] = "N"
    content = image_of(COLOURS, "JPEG", exif=exif)
    item = _described(tmp_path, content, "i.jpg")
    assert (item["info"]["width"], item["info"]["height"]) == (40, 60)
    assert set(item["info"]) == {"kind", "width", "height", "channels", "format", "perceptual_hash"}
    assert item["metadata"] == {}


def test_images_that_look_alike_have_similar_hashes(tmp_path: Path) -> None:
    scene = np.random.default_rng(1).integers(0, 255, (8, 9)).repeat(20, axis=0).repeat(20, axis=1).astype(np.uint8)
    hashes = [
        int(_described(tmp_path, content)["info"]["perceptual_hash"], 16)
        for content in (image_of(scene), image_of(scene[::2, ::2], "JPEG", quality=60), image_of(scene[:, ::-1].copy()))
    ]
    assert (hashes[0] ^ hashes[1]).bit_count() <= 2
    assert (hashes[0] ^ hashes[2]).bit_count() > 16


def test_images_that_leak_between_splits_are_named(tmp_path: Path) -> None:
    scenes = [np.random.default_rng(seed).integers(0, 255, (8, 9)).repeat(20, 0).repeat(20, 1).astype(np.uint8) for seed in range(4)]
    files = {f"train/a/{number}.png": image_of(scene) for number, scene in enumerate(scenes)}
    files |= {
        "train/a/again.jpg": image_of(scenes[1], "JPEG"),
        "test/a/0.jpg": image_of(scenes[0][::2, ::2], "JPEG"),
        "test/b/2.png": files["train/a/2.png"],
    }
    files |= {f"test/a/blank-{shade}.png": image_of(np.full((9, 9), shade, np.uint8)) for shade in (0, 9)}
    result, _ = run_ingest(tmp_path, zip_of(files), "i.zip", modality="IMAGE")
    assert {issue["code"]: issue["message"].partition(" items")[0] for issue in result["issues"]} == {
        "LEAKED_ITEMS": "1",
        "SIMILAR_ITEMS": "1",
        "SIMILAR_ACROSS_SPLITS": "1",
        "CONTRADICTING_LABELS": "1",
    }
    assert {item["key"]: [issue["code"] for issue in item["issues"]] for item in items_of(result) if item["issues"]} == {
        "train/a/again.jpg": ["SIMILAR_ITEM"],
        "test/a/0.jpg": ["SIMILAR_ACROSS_SPLITS"],
        "test/b/2.png": ["LEAKED_ITEM", "CONTRADICTING_LABEL"],
    }


def _bomb() -> bytes:
    """An image of 900 million pixels, by its header."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + image_of(GRADIENT)[33:]


DAMAGED: list[tuple[bytes, str]] = [
    (_bomb(), "has more than 100,000,000 pixels"),
    (image_of(COLOURS)[: len(image_of(COLOURS)) // 2], "is damaged or cut off"),
    (image_of(COLOURS, "JPEG")[:400], "is damaged or cut off"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no image in one of the formats PNG, JPEG"),
    (npy_of(GRADIENT), "is no image in one of the formats PNG, JPEG"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no image in one of the formats PNG, JPEG"),
    (b"", "is empty"),
]


@pytest.mark.parametrize(("content", "words"), DAMAGED)
def test_a_damaged_image_is_refused_with_a_reason(content: bytes, words: str, tmp_path: Path) -> None:
    error = ingest_error(tmp_path, zip_of({"a/1.png": content}), "i.zip", modality="IMAGE")
    assert (error.code, words in error.message) == ("CORRUPT_ITEMS", True), error.message
