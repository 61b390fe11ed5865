"""Archives as COCO, YOLO and WebDataset have them become versions whose items have their labels, splits and annotations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from tests.archives import image_of, tar_of, zip_of
from tests.client import Client

VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { format rowCount classLabels { label count } splits { label count }
  columns { name } issues { code message }
  items(first: 100) { edges { node { key label split metadata features issues { code message } } } } } } }"""


def picture(seed: int, width: int = 40, height: int = 30) -> bytes:
    return image_of(np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8))


def coco() -> dict[str, bytes]:
    """Three images of two splits; of 12 annotations one is broken, and one box is outside."""
    boxes = [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 18,
            "bbox": [1, 2, 10.5, 5],
            "area": 40,
            "iscrowd": 0,
            "segmentation": [[1, 2, 3, 4, 5, 6]],
        },
        {"id": 2, "image_id": 7, "category_id": 17, "bbox": [5, 5, 20, 20], "area": 400.0, "iscrowd": 1},
        {"id": 3, "image_id": 7, "category_id": 18, "bbox": [0, 0, 4, 4]},
        *({"id": 10 + number, "image_id": 8, "category_id": 17, "bbox": [number, 0, 33, 5], "area": 9} for number in range(8)),
        {"id": 99, "image_id": 8, "category_id": 17, "bbox": [3, 3, -4, 4]},
    ]
    images: Any = [{"id": number, "file_name": f"{number:06}.png", "width": 40, "height": 30} for number in (7, 8)]
    categories = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]
    train = {
        "info": {"images": [1]},
        "annotations": boxes,
        "images": [*images, {"id": 9, "file_name": "lost.png"}],
        "categories": categories,
    }
    captions = {"images": images, "annotations": [{"id": 1, "image_id": 7, "caption": "Two dogs, and a cat"}]}
    val = {"images": [{"id": 3, "file_name": "val2017/000003.png", "width": 80, "height": 60}], "annotations": [], "categories": categories}
    return {
        "coco/annotations/captions_train2017.json": json.dumps(captions).encode(),
        "coco/annotations/instances_train2017.json": json.dumps(train, indent=1).encode(),
        "coco/annotations/instances_val2017.json": json.dumps(val).encode(),
        **{f"coco/train2017/00000{number}.png": picture(number) for number in (7, 8)},
        "coco/val2017/000003.png": picture(3),
    }


async def test_the_annotations_of_coco_are_metadata_of_its_images(ada: Client, worker: object) -> None:
    found = await ada.one(VERSION, id=await ada.ingest("coco", zip_of(coco()), "coco.zip", modality="IMAGE"))
    nodes = [edge["node"] for edge in found.pop("items")["edges"]]
    assert [column["name"] for column in found.pop("columns")] == [
        "key", "label", "split", "caption", "width", "height", "brightness", "contrast", "sharpness", "annotations",
    ]  # fmt: skip
    assert found == {
        "format": "ZIP",
        "rowCount": 3,
        "classLabels": [{"label": "dog", "count": 1}, {"label": "cat", "count": 1}],
        "splits": [{"label": "train", "count": 2}, {"label": "validation", "count": 1}],
        "issues": [
            {
                "code": "MISSING_FILES",
                "message": "'annotations/instances_train2017.json' names 1 files that the archive does not have, first 'lost.png'.",
            },
            {
                "code": "BROKEN_ANNOTATION",
                "message": "'annotations/instances_train2017.json', `annotations` 12: it has the `bbox` [3, 3, -4, 4], whose width and height"
                " are not positive. It is left out.",
            },
        ],
    }
    assert [(node["key"], node["label"], node["split"], node["features"]["annotations"]) for node in nodes] == [
        ("train2017/000007.png", "dog", "train", 3),
        ("train2017/000008.png", "cat", "train", 8),
        ("val2017/000003.png", None, "validation", 0),
    ]
    assert nodes[0]["metadata"] == {
        "annotations": [
            {"category": "dog", "bbox": [1, 2, 10.5, 5], "area": 40},
            {"category": "cat", "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": True},
            {"category": "dog", "bbox": [0, 0, 4, 4], "area": 16},
        ],
        "annotationCount": 3,
        "categories": {"dog": 2, "cat": 1},
        "captions": ["Two dogs, and a cat"],
    }
    assert [node["issues"] for node in nodes] == [
        [],
        [],
        [{"code": "OTHER_SIZE", "message": "It has 40×30 pixels, and its annotations are for 80×60: their boxes do not fit."}],
    ]


async def test_the_labels_of_yolo_are_metadata_in_pixels(ada: Client, worker: object) -> None:
    files = {
        "data.yaml": b"path: ../datasets/pets\ntrain: images/train\nval: images/val\nnc: 3\nnames:\n  0: cat\n  1: no\n  2: a dog\n",
        "images/train/a.png": picture(1),
        "labels/train/a.txt": b"0 0.5 0.5 0.5 0.2\n2 0.1 0.1 0.2 0.2\n1 0.25 0.5 0.5 1\n\n0 .5 .5 .1 .1\n",
        "images/train/b.png": picture(2),
        "labels/train/b.txt": b"1 0 0 0.5 0 0.5 1 0.25 0.5\n" * 6,
        "images/val/c.png": picture(3),
        "labels/val/c.txt": b"3 0.5 0.5 0.5 0.2\n",
        "labels/val/lost.txt": b"0 0.5 0.5 0.5 0.2\n",
        "images/val/background.png": picture(4),
    }
    found = await ada.one(VERSION, id=await ada.ingest("yolo", zip_of(files), "yolo.zip", modality="IMAGE"))
    nodes = {edge["node"]["key"]: edge["node"] for edge in found["items"]["edges"]}
    assert found["issues"] == [
        {
            "code": "BROKEN_ANNOTATION",
            "message": "'labels/val/c.txt', line 1: it has the class 3, which has no name. It is left out.",
        },
        {"code": "MISSING_FILES", "message": "1 files of labels have no image in the archive, first 'labels/val/lost.txt'."},
    ]
    assert {key: (node["label"], node["split"], node["features"]["annotations"]) for key, node in nodes.items()} == {
        "images/train/a.png": ("cat", "train", 4),
        "images/train/b.png": ("no", "train", 6),
        "images/val/background.png": (None, "validation", 0),
        "images/val/c.png": (None, "validation", 0),
    }
    assert nodes["images/train/a.png"]["metadata"] == {
        "annotations": [
            {"category": "cat", "bbox": [10, 12, 20, 6], "area": 120},
            {"category": "a dog", "bbox": [0, 0, 8, 6], "area": 48},
            {"category": "no", "bbox": [0, 0, 20, 30], "area": 600},
            {"category": "cat", "bbox": [18, 13.5, 4, 3], "area": 12},
        ],
        "annotationCount": 4,
        "categories": {"cat": 2, "a dog": 1, "no": 1},
    }
    assert nodes["images/train/b.png"]["metadata"]["annotations"][0] == {"category": "no", "bbox": [0, 0, 20, 30], "area": 600}


async def test_the_members_of_a_sample_of_webdataset_are_one_item(ada: Client, worker: object) -> None:
    files: dict[str, bytes] = {}
    for number in range(12):
        files[f"{number:04}.jpg"] = picture(number)
        files[f"{number:04}.cls"] = b"%d\n" % (number % 3)
        files[f"{number:04}.txt"] = b"The picture %d." % number
        files[f"{number:04}.json"] = json.dumps({"camera": "north", "width": [4]}).encode()
    files["0003.json"] = b'{"camera": '
    files["0011.depth.png"] = picture(99)
    found = await ada.one(VERSION, id=await ada.ingest("shards", tar_of(files), "train-000003.tar", modality="IMAGE"))
    nodes = {edge["node"]["key"]: edge["node"] for edge in found["items"]["edges"]}
    assert (found["format"], found["rowCount"], found["splits"]) == ("TAR", 13, [{"label": "train", "count": 13}])
    assert [entry["code"] for entry in found["issues"]] == ["BROKEN_ANNOTATION"]
    assert found["issues"][0]["message"].startswith("'0003.json', line 1: it is no valid JSON")
    assert [column["name"] for column in found["columns"]][:5] == ["key", "label", "split", "group", "caption"]
    assert (nodes["0007.jpg"]["label"], nodes["0007.jpg"]["metadata"]) == ("1", {"camera": "north", "width": [4]})
    assert (nodes["0003.jpg"]["label"], nodes["0003.jpg"]["metadata"]) == ("0", {})
    assert nodes["0011.depth.png"]["metadata"] == {"camera": "north", "width": [4], "group": "0011"}
    assert nodes["0011.depth.png"]["label"] == nodes["0011.jpg"]["label"] == "2"
