"""Archives with annotations that are broken, unusual or hostile: each is read with issues, or refused with a reason."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.archives import image_of, tar_of, zip_of
from tests.workers.ingest_runner import ingest_error, items_of, run_ingest
from workers.ml.items.json_arrays import NotAnObject, array_elements

IMAGE = image_of(np.arange(1_200, dtype=np.uint8).reshape(30, 40))
PICTURES = {f"images/{number}.png": image_of(np.full((30, 40), 20 * number, np.uint8)) for number in range(4)}
CATEGORIES = [{"id": 1, "name": "cat"}]


def coco(annotations: Any, images: Any = None, **others: Any) -> dict[str, bytes]:
    named = [{"id": number, "file_name": f"{number}.png"} for number in range(4)] if images is None else images
    return {
        "annotations/instances.json": json.dumps({"images": named, "annotations": annotations, "categories": CATEGORIES} | others).encode()
    }


def box(image: Any = 0, category: Any = 1, bbox: Any = (0, 0, 5, 5)) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox}


def yolo(lines: bytes, config: bytes = b"names: [cat, dog]") -> dict[str, bytes]:
    return {"data.yaml": config, "labels/0.txt": lines}


WHOLE = coco([box(number % 4) for number in range(40)])["annotations/instances.json"]
REFUSED: dict[str, tuple[Mapping[str, bytes], str]] = {
    "a COCO file that is cut off": ({"annotations/i.json": WHOLE[:700]}, "'annotations/i.json' in 'i.zip' cannot be read: it is cut off in `annotations`"),
    "boxes of three numbers": (coco([box(bbox=[1, 2, 3])] * 3), "3 of 3 annotations in 'i.zip' cannot be read"),
    "boxes of texts": (coco([box(bbox=["1", 2, 3, 4])]), "`annotations` 1: it has the `bbox` ['1', 2, 3, 4], which is no list of four numbers"),
    "boxes of infinite size": (coco([box(bbox=[1, 2, 3, 1e400])]).copy(), "1 of 1 annotations"),
    "boxes without an area": (coco([box(bbox=[1, 2, 0, 4])]), "whose width and height are not positive"),
    "annotations of an unknown image": (coco([box(77)] * 5), "`annotations` 1: it is of the image 77, which is not in the file"),
    "annotations of an unknown category": (coco([box(category=5)] * 5), "`annotations` 1: it has the category 5, which is not in the file"),
    "annotations without a category": (coco([{"image_id": 1}]), "has no `category_id`"),
    "annotations without an image": (coco([{"category_id": 1}]), "has no `image_id`"),
    "annotations that are numbers": (coco([1, 2, 3]), "`annotations` 1: it is no object"),
    "annotations that are no JSON": (
        {"annotations/i.json": WHOLE.replace(b'"category_id": 1', b'"category_id": one')},
        "40 of 40 annotations in 'i.zip' cannot be read; at most a tenth may be. First 'annotations/i.json', `annotations` 1: it is no valid JSON",
    ),
    "images without a name": (coco([], [{"id": 0, "file_name": "0.png"}, {"id": 1}]), "`images` 2: it has no `id` and `file_name`"),
    "images with one id": (coco([], [{"id": 0, "file_name": "0.png"}] * 2), "`images` 2: it has the id 0, as an image before it"),
    "categories without a name": (coco([], categories=[{"id": 1}]), "`categories` 1: it has no `id` and `name`"),
    "a class that is a word": (yolo(b"cat 0.5 0.5 0.1 0.1\n"), "'labels/0.txt', line 1: it has 'cat' where the number of a class is expected"),
    "a negative class": (yolo(b"-1 0.5 0.5 0.1 0.1\n"), "has '-1' where the number of a class is expected"),
    "a class without a name": (yolo(b"0 .5 .5 .1 .1\n2 .5 .5 .1 .1\n"), "line 2: it has the class 2, which has no name"),
    "pixels in place of shares": (yolo(b"0 20 10 5 5\n"), "has a value outside 0 to 1"),
    "a coordinate that is no number": (yolo(b"0 0.5 0.5 x 0.1\n"), "has a value that is no number"),
    "a coordinate that is not finite": (yolo(b"0 0.5 nan 0.1 0.1\n"), "has a value that is no finite number"),
    "too few numbers": (yolo(b"0 0.5 0.5\n"), "has 2 numbers after the class"),
    "a polygon with half a point": (yolo(b"0 .1 .1 .2 .2 .3 .3 .4\n"), "has 7 numbers after the class"),
    "a box without width": (yolo(b"0 0.5 0.5 0 0.1\n"), "has a box without width or height"),
    "a box outside": (yolo(b"0 0.9 0.5 0.4 0.1\n"), "has a box that is not within the image"),
    "labels that are no text": (yolo(b"\xff\xfe\x00"), "'labels/0.txt': it is no text"),
    "labels that are too long": (yolo(b"0 .5 .5 .1 .1\n" * 80_000), "has 1,120,000 bytes; the maximum is 1,048,576"),
    "sidecars that are no JSON": ({f"images/{number}.json": b"{" for number in range(4)}, "'0.json', line 1: it is no valid JSON"),
    "sidecars that are lists": ({f"images/{number}.json": b"[1]" for number in range(4)}, "'0.json': it is no JSON object"),
    "sidecars that are no text": ({f"images/{number}.txt": b"\xff\xfe\x80" for number in range(4)}, "'0.txt': it is no text in UTF-8"),
    "sidecars that are empty": ({f"images/{number}.cls": b"" for number in range(4)}, "'0.cls': it is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_annotations_of_which_more_than_a_tenth_are_broken_are_refused(case: str, tmp_path: Path) -> None:
    files, words = REFUSED[case]
    error = ingest_error(tmp_path, zip_of(PICTURES | dict(files)), "i.zip", modality="IMAGE")
    assert (error.code, words in error.message) == ("CORRUPT_ANNOTATIONS", True), error.message


READ: dict[str, tuple[Mapping[str, bytes], list[str | None], list[str]]] = {
    # files, label of each image, issues
    "a tenth of broken boxes": (coco([box(0)] * 9 + [box(0, bbox=[0, 0, 0, 0])]), ["cat", None, None, None], ["BROKEN_ANNOTATION"]),
    "ids that are texts": (
        coco([box("a", "c")], [{"id": "a", "file_name": "images/1.png"}], categories=[{"id": "c", "name": "cat"}]),
        [None, "cat", None, None],
        ["UNNAMED_FILES"],
    ),
    "annotations without boxes": (coco([{"image_id": 2, "category_id": 1, "bbox": []}]), [None, None, "cat", None], []),
    "a JSON file that is nothing of the kind": ({"package.json": b'{"name": 1, "images": ["0.png"]}', "list.json": b"[1]"}, [None] * 4, ["SKIPPED_FILES"]),
    "a COCO file of other images": (coco([], [{"id": 1, "file_name": "x.png"}]), [None] * 4, ["SKIPPED_FILES"]),
    "a COCO file with a byte order mark": (
        {"coco.json": b"\xef\xbb\xbf" + coco([box(3)])["annotations/instances.json"]}, [None, None, None, "cat"], [],
    ),
    "polygons": (yolo(b"1 .1 .1 .2 .2 .1 .3\n0 .1 .1 .9 .1 .9 .9 .1 .9\n"), ["cat", None, None, None], []),
    "a pose": (yolo(b"1 .5 .5 .2 .2 0.1 0.1 2 0 0 0\n", b"names: {0: cat, 1: dog}\nkpt_shape: [2, 3]"), ["dog", None, None, None], []),
    "predictions with a confidence": (yolo(b"1 .5 .5 .2 .2 0.93\n"), ["dog", None, None, None], []),
    "names that YAML takes for a boolean": (yolo(b"1 .5 .5 .2 .2\n", b"names: [yes, off]"), ["off", None, None, None], []),
    "no names": (yolo(b"1 .5 .5 .2 .2\n0 .5 .5 .3 .3", b"nc: 2"), ["0", None, None, None], []),
    "no data.yaml": (
        {f"labels/{number}.txt": b"7 .5 .5 .2 .2" for number in range(2)}, ["7", "7", None, None], ["NO_CLASS_NAMES"],
    ),
    "classes.txt": (
        {f"labels/{number}.txt": b"1 .5 .5 .2 .2" for number in range(2)} | {"classes.txt": b"a\nb\n"}, ["b", "b", None, None], [],
    ),
    "a count of classes that is wrong": (yolo(b"1 .5 .5 .2 .2\n", b"nc: 80\nnames: [cat, dog]"), ["dog", None, None, None], ["CLASS_COUNT"]),
    "names that are lists": (yolo(b"1 .5 .5 .2 .2\n", b"names: [[a], dog]"), ["dog", None, None, None], ["BROKEN_CONFIG"]),
    "a data.yaml that is damaged": (yolo(b"1 .5 .5 .2 .2\n", b"names: [cat\nnc: ]["), ["1", None, None, None], ["BROKEN_CONFIG"]),
    "a data.yaml that is a list": (yolo(b"1 .5 .5 .2 .2\n", b"- a\n- b"), ["1", None, None, None], ["BROKEN_CONFIG"]),
    "a data.yaml with a tag for code": (
        yolo(b"1 .5 .5 .2 .2\n", b"names: [cat, dog]\nx: !!python/object/apply:os.system ['false']"), ["dog", None, None, None], [],
    ),
    "a data.yaml with an alias to itself": (yolo(b"1 .5 .5 .2 .2\n", b"names: &n [cat, dog]\nx: &x [*x, *n]"), ["dog", None, None, None], []),
    "a data.yaml that unfolds": (
        yolo(b"1 .5 .5 .2 .2\n", b"a: &a [" + b"x," * 999 + b"]\nnames: [" + b"*a," * 999 + b"]"), ["1", None, None, None], ["BROKEN_CONFIG"],
    ),
    "a data.yaml of many levels": (yolo(b"1 .5 .5 .2 .2\n", b"names: " + b"[" * 999), ["1", None, None, None], ["BROKEN_CONFIG"]),
    "a data.yaml that is too long": (yolo(b"1 .5 .5 .2 .2\n", b"#" * 300_000), ["1", None, None, None], ["BROKEN_CONFIG"]),
    "a data.yaml of bytes": (yolo(b"1 .5 .5 .2 .2\n", b"\xff\xfe\x00"), ["1", None, None, None], ["BROKEN_CONFIG"]),
    "a YAML file of something else": ({"environment.yaml": b"dependencies: [x]"}, [None] * 4, ["SKIPPED_FILES"]),
    "captions": ({f"images/{number}.txt": b"A cat.\n" for number in range(4)}, [None] * 4, []),
    "labels of a few": ({"images/1.cls": b"cat", "images/2.cls": b"dog"}, [None, "cat", "dog", None], []),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_annotations_that_are_unusual_are_read(case: str, tmp_path: Path) -> None:
    files, labels, codes = READ[case]
    result, _ = run_ingest(tmp_path, zip_of(PICTURES | dict(files)), "i.zip", modality="IMAGE")
    assert [item["label"] for item in items_of(result)] == labels
    assert [issue["code"] for issue in result["issues"]] == codes, result["issues"]


@pytest.mark.parametrize(
    ("config", "splits"),
    [
        ("train: ../train/images\nval: ../valid/images\nnames: [a]", {"train/images/0": "train", "valid/images/1": "validation"}),
        ("path: /content/x\ntrain: [images/part1, images/part2]\nnames: [a]", {"images/part1/0": "train", "images/part2/1": "train"}),
        ("train: images\nval: images\nnames: [a]", {"images/0": "train", "images/1": "train"}),
        ("train: train.txt\ntest: test.txt\nnames: [a]", {"images/0": "train", "images/1": "test", "images/2": None}),
    ],
)
def test_data_yaml_says_the_splits(config: str, splits: dict[str, str | None], tmp_path: Path) -> None:
    files = {"data.yaml": config.encode(), "train.txt": b"./images/0.png\n", "test.txt": b"/home/x/images/1.png\n"}
    for number, path in enumerate(splits):
        files[f"{path}.png"] = image_of(np.full((9, 9), number, np.uint8))
        files[f"{path.replace('images', 'labels')}.txt"] = b"0 .5 .5 .1 .1"
    result, _ = run_ingest(tmp_path, zip_of(files), "i.zip", modality="IMAGE")
    assert {item["key"]: item["split"] for item in items_of(result)} == {f"{path}.png": split for path, split in splits.items()}


def test_boxes_outside_of_an_image_are_issues_of_it(tmp_path: Path) -> None:
    files = coco([box(0, bbox=[30, 0, 10.5, 5]), box(1, bbox=[30, 0, 12, 5]), box(1, bbox=[-3, 0, 9, 5])])
    result, _ = run_ingest(tmp_path, zip_of(PICTURES | files), "i.zip", modality="IMAGE")
    assert [item["issues"] for item in items_of(result)][:2] == [
        [],
        [{"code": "BOX_OUTSIDE", "message": "2 of its boxes are not within its 40×30 pixels.", "column": None, "row": None}],
    ]


def test_only_some_annotations_of_an_image_are_its_metadata_and_all_are_counted(tmp_path: Path) -> None:
    result, frame = run_ingest(tmp_path, zip_of(PICTURES | coco([box(0)] * 500)), "i.zip", modality="IMAGE")
    metadata = items_of(result)[0]["metadata"]
    assert (len(metadata["annotations"]), metadata["annotationCount"], metadata["categories"]) == (100, 500, {"cat": 500})
    assert frame["annotations"].to_list() == [500, 0, 0, 0]


def test_files_beside_texts_are_no_texts_of_their_own(tmp_path: Path) -> None:
    files = {"a/1.txt": b"One.", "a/1.json": b'{"label": "x", "split": "dev"}', "a/2.txt": b"Two.", "a/2.json": b'{"author": "B"}'}
    result, _ = run_ingest(tmp_path, tar_of(files), "t.tar", modality="TEXT")
    assert [(item["key"], item["label"], item["split"], item["metadata"]) for item in items_of(result)] == [
        ("1.txt", "x", "validation", {}),
        ("2.txt", None, None, {"author": "B"}),
    ]


TEXT = b'{"a": [1, {"x": [2, "]"]}, "q\\"]\\\\"] , "skipped": [[1, 2], {"a": [3]}], "b": [] , "s": "a", "c": [[5], null]}'
ELEMENTS = [("a", 1, b"1"), ("a", 2, b'{"x": [2, "]"]}'), ("a", 3, b'"q\\"]\\\\"'), ("c", 1, b"[5]"), ("c", 2, b"null")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_elements_are_the_same_however_the_text_is_cut_into_blocks(size: int) -> None:
    blocks = [TEXT[start : start + size] for start in range(0, len(TEXT), size)]
    assert list(array_elements(blocks, frozenset("abc"))) == ELEMENTS
    with pytest.raises(NotAnObject, match="is cut off in `c`"):
        list(array_elements([*blocks[:-1], blocks[-1][:-1]] if size > 1 else blocks[:-1], frozenset("abc")))
    with pytest.raises(NotAnObject, match="is no JSON object"):
        list(array_elements([b"  [", *blocks], frozenset("abc")))


def test_memory_does_not_grow_with_the_file() -> None:
    element = b'{"id": 1, "segmentation": [[' + b"1.5, " * 100 + b"2]]},"

    def blocks(count: int) -> Any:
        yield b'{"annotations": ['
        for _ in range(count):
            yield element * 20
        yield b"{}]}"

    peaks: list[int] = []
    for count in (20, 100):
        tracemalloc.start()
        assert sum(1 for _ in array_elements(blocks(count), frozenset({"annotations"}))) == 20 * count + 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
