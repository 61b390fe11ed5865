"""What steps make of the frames of videos, each against an independent computation; frames are decoded one after the other."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from tests.archives import zip_of
from tests.videos import exact_video_of, moving_bar, shade, video_of
from tests.workers.item_files import ingested, predict_items
from tests.workers.pipeline_runner import chain, pipeline_error, run
from workers.ml.contents import films, frames, images
from workers.ml.contents.content import Content, ContentError
from workers.ml.contents.films import Film
from workers.ml.items import limits

RANDOM = np.random.default_rng(5)
PICTURES: list[npt.NDArray[np.uint8]] = [RANDOM.integers(0, 256, (16, 24, 3)).astype(np.uint8) for _ in range(10)]
VALUES: Any = np.stack(PICTURES) / 255
KEEP = ("select_columns", {"columns": ["label"]})
GREY = np.array([0.299, 0.587, 0.114])


def film(content: bytes, count: int = 10) -> Film:
    return Film("video", np.zeros((0, 0, 3)), 8.0, file=io.BytesIO(content), count=count)


def read(source: Film) -> list[int]:
    """Which of the pictures the frames are."""
    found = [frame.values for frame in source.frames()]
    return [next(number for number, values in enumerate(VALUES) if np.allclose(frame, values, atol=1e-6)) for frame in found]


@pytest.mark.exhaustive
def test_statistics_over_sampled_frames_are_columns(tmp_path: Path) -> None:
    backwards = exact_video_of(PICTURES[::-1])
    frame, items = ingested(tmp_path / "ingest", zip_of({"a/1.mkv": exact_video_of(PICTURES), "b/2.mkv": backwards}), "v.zip", "VIDEO")
    every = {"statistics": ["mean", "std", "min", "max"]}
    steps = (
        KEEP,
        ("sample_frames", {"count": 4}),
        ("crop_image", {"width": 16, "height": 16}),
        ("video_pixels", every),
        ("video_colours", {"bins": 4}),
        ("video_hog", {"cell": 8, "block": 1, "statistics": ["max"]}),
        ("video_motion", {"grid": 2, "parts": 2}),
    )
    result, report = run(tmp_path, frame, chain(*steps), items=items)
    rows = pl.read_parquet(result["parquet"])
    assert rows["label"].to_list() == ["a", "b"]
    chosen = VALUES[[1, 3, 6, 8], :, 4:20]
    flat = chosen.reshape(4, -1)
    for name in ("mean", "std", "min", "max"):
        columns = rows.select(f"pixel_{name}_{number}" for number in range(1, flat.shape[1] + 1)).to_numpy()
        np.testing.assert_allclose(columns[0], getattr(flat, name)(axis=0), atol=1e-6)
    shares = np.stack([np.concatenate([np.histogram(picture[..., band], 4, (0, 1))[0] / 256 for band in range(3)]) for picture in chosen])
    np.testing.assert_allclose(rows.select(f"colour_std_{number}" for number in range(1, 13)).to_numpy()[0], shares.std(axis=0), atol=1e-6)
    edges = np.stack([images.hog(Content("image", picture), orientations=9, cell=8, block=1) for picture in chosen])
    np.testing.assert_allclose(rows.select(pl.selectors.starts_with("hog_max_")).to_numpy()[0], edges.max(axis=0), atol=1e-5)
    changes = np.abs(np.diff(chosen @ GREY, axis=0))
    motion = {name.removeprefix("motion_"): rows[name][0] for name in rows.columns if name.startswith("motion_")}
    means = changes.mean(axis=(1, 2))
    expected = {"mean": means.mean(), "std": means.std(), "max": means.max()}
    for part, pairs in enumerate((changes[:2], changes[2:]), 1):
        cells = pairs.reshape(len(pairs), 2, 8, 2, 8).mean(axis=(0, 2, 4))
        expected |= {f"{part}_{row + 1}_{column + 1}": cells[row, column] for row in range(2) for column in range(2)}
    for name, axis in (("drift_right", 1), ("drift_down", 2)):
        sides = changes.sum(axis=axis)
        centres = sides @ np.linspace(0, 1, 16) / sides.sum(axis=1)
        expected[name] = np.polyfit([0, 0.5, 1], centres, 1, w=np.sqrt(means))[0]
    assert motion == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(rows["motion_drift_right"][1], -rows["motion_drift_right"][0], atol=0.05)
    assert report.outputs["video_motion"]["added_columns"] == 13


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "even", "count": 3}, [1, 5, 8]),
        ({"method": "even", "count": 50}, list(range(10))),
        ({"method": "every", "every": 4}, [0, 4, 8]),
        ({"method": "seconds", "seconds": 0.3}, [0, 3, 5, 8]),
        ({"method": "seconds", "seconds": 0.01}, list(range(10))),
    ],
)
def test_frames_are_sampled_evenly_by_number_or_by_time(options: dict[str, Any], expected: list[int]) -> None:
    values: dict[str, Any] = {"count": 1, "every": 1, "seconds": 1.0, **options}
    sampled = frames.sample(film(exact_video_of(PICTURES)), **values)
    assert read(sampled) == expected == read(sampled), "each time that it is read"


def test_only_the_first_minute_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ANALYSED_VIDEO_SECONDS", 0.5)
    content = exact_video_of(PICTURES)
    assert read(film(content)) == [0, 1, 2, 3]
    frame, items = ingested(tmp_path, content, "v.mkv", "VIDEO")
    opened = films.open_film(films.Items(items), films.Items(items).place(0))
    assert opened.count == 4
    assert read(frames.sample(opened, method="even", count=2, every=1, seconds=1)) == [1, 3]
    monkeypatch.setattr(limits, "MAX_ANALYSED_PIXELS", 2 * 16 * 24)
    assert read(film(content)) == [0, 1]
    assert frame.height == 1


def _uneven_video(times: list[float]) -> bytes:
    """The pictures at these seconds, as of a recorded screen that changes seldom, and then often."""
    import av

    target = io.BytesIO()
    with av.open(target, "w", format="matroska") as out:
        stream: Any = out.add_stream("ffv1", rate=1_000)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "bgr0"
        for picture, seconds in zip(PICTURES, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = int(seconds * 1_000), Fraction(1, 1_000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return target.getvalue()


def test_frames_are_sampled_evenly_where_their_rate_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ANALYSED_VIDEO_SECONDS", 1.0)
    _, items = ingested(tmp_path, _uneven_video([0, 0.5, *(1.5 + 0.01 * number for number in range(8))]), "v.mkv", "VIDEO")
    opened = films.open_film(films.Items(items), films.Items(items).place(0))
    assert opened.count > 2, "by the mean rate"
    for count, expected in ((1, [1]), (2, [0, 1]), (9, [0, 1])):
        assert read(frames.sample(opened, method="even", count=count, every=1, seconds=1)) == expected


def _one(source: Film) -> Film:
    return frames.sample(source, method="even", count=1, every=1, seconds=1)


def _two_sizes() -> Film:
    numbers = iter(range(10))
    return replace(film(exact_video_of(PICTURES)), changes=(lambda frame: Content("image", frame.values[: 16 - next(numbers)]),))


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "sampled twice": (
        lambda: _one(_one(film(b""))),
        "is sampled twice. Keep one of the steps.",
    ),
    "no frame": (lambda: list(_one(film(exact_video_of(PICTURES), 99)).frames()), "has no frame that"),
    "damaged": (lambda: list(film(exact_video_of(PICTURES)[:50]).frames()), "is damaged or cut off"),
    "sizes": (lambda: frames.motion(_two_sizes(), grid=1, parts=1), "has frames of 24×16 and of 24×15 pixels"),
    "pixels of sizes": (lambda: frames.pixels(_two_sizes(), statistics=("mean",)), "has frames of 24×16 and of 24×15 pixels"),
    "grid": (lambda: frames.motion(film(exact_video_of(PICTURES)), grid=20, parts=1), "a grid of 20×20 needs as many"),
    "columns": (lambda: frames.pixels(film(exact_video_of([shade(1)])), statistics=("mean", "std")), "gives 18,432 columns; the maximum is 10,000"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_video_that_a_step_cannot_use_is_refused_with_a_reason(case: str) -> None:
    act, words = REFUSED[case]
    with pytest.raises(ContentError) as refusal:
        act()
    assert words in str(refusal.value)


def test_what_does_not_move_has_no_direction() -> None:
    still = frames.motion(film(exact_video_of([shade(9)] * 3)), grid=1, parts=1)
    assert still == {"mean": 0, "std": 0, "max": 0, "drift_right": None, "drift_down": None, "1_1_1": 0}
    single = frames.motion(film(exact_video_of([shade(9)])), grid=1, parts=2)
    assert set(single.values()) == {None}
    right = frames.motion(film(video_of(moving_bar(14))), grid=1, parts=1)
    assert right["drift_right"] == pytest.approx(12 * 4 / 63, abs=0.01)
    assert right["drift_down"] == pytest.approx(0, abs=0.02)


def clips(count: int, first: int = 0) -> dict[str, bytes]:
    """Bars that go to the right or down, on grey of some shade."""
    files: dict[str, bytes] = {}
    for number in range(first, first + count):
        right = [frame // 2 + np.uint8(10 * (number % 5)) for frame in moving_bar(10, 4, width=48)]
        files[f"right/{number}.mp4"] = video_of(right)
        files[f"down/{number}.mp4"] = video_of([np.ascontiguousarray(frame.transpose(1, 0, 2)) for frame in right])
    return files


def test_a_model_of_motion_reads_other_videos_and_learns_from_mirrored_ones(tmp_path: Path) -> None:
    frame, items = ingested(tmp_path / "ingest", zip_of(clips(4)), "v.zip", "VIDEO")
    train = ("train_k_nearest_neighbors", {"target": "label", "n_neighbors": 1})
    steps = (KEEP, ("sample_frames", {"method": "every", "every": 2}), ("resize_image", {"width": 16, "height": 16}))
    flip = ("flip_image", {"directions": ["horizontal"]})
    result, report = run(tmp_path, frame, chain(*steps, flip, ("video_motion", {"grid": 1}), train), items=items)
    assert report.outputs["flip_image"] == {"training_rows": 12, "training_rows_before": 6}
    others, other_items = ingested(tmp_path / "others", zip_of(clips(3, 4)), "o.zip", "VIDEO")
    predicted = predict_items(tmp_path, result, others, other_items)
    written = pl.read_parquet(predicted["parquet"])
    assert written["prediction"].to_list() == written["label"].to_list()
    assert (predicted["answer"]["predicted"], predicted["answer"]["issues"]) == (6, [])


def test_the_step_at_fault_is_named_and_a_worker_without_the_extra_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, items = ingested(tmp_path / "ingest", zip_of({"a/1.mp4": video_of([shade(9)] * 2)}), "v.zip", "VIDEO")
    definition = chain("sample_frames", ("crop_image", {"width": 99, "height": 9}), "video_colours")
    error = pipeline_error(tmp_path, frame, definition, items=items)
    assert (error.code, error.path and error.path[2]) == ("BAD_CONTENT", "2")
    assert error.message == (
        "Step 'crop_image' cannot use the item '1.mp4': it has 64×48 pixels, and at least 99×9 are needed. Resize the images before."
    )
    monkeypatch.setattr(films, "can_read_videos", lambda: False)
    error = pipeline_error(tmp_path, frame, definition, items=items)
    assert error.code == "UNSUPPORTED_FORMAT"
    assert "the extra `video` is not installed" in error.message


_PEAK = """
import sys
from pathlib import Path
import polars as pl
from tests.workers.pipeline_runner import chain, run
folder = Path(sys.argv[1])
files = {"raw": str(folder / "raw"), "pack": None, "places": str(folder / "places.jsonl")}
run(folder, pl.read_parquet(folder / "table.parquet"), chain("video_motion", ("video_colours", {"bins": 4})), items=files)
# Not `ru_maxrss`, which counts the memory of the test process at the start of this one.
print(next(int(line.split()[1]) // 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.exhaustive
def test_memory_does_not_grow_with_the_frames(tmp_path: Path) -> None:
    """Two hundred frames of 640×480 pixels are 700 MB as numbers."""
    peaks: list[int] = []
    for count in (4, 200):
        folder = tmp_path / str(count)
        folder.mkdir()
        content = video_of(moving_bar(count, width=640, height=480))
        (folder / "raw").write_bytes(content)
        info = {"kind": "video", "duration": count / 8, "width": 640, "height": 480, "frame_rate": 8.0, "frames": count, "codec": "H264"}
        (folder / "places.jsonl").write_text(json.dumps(["v.mp4", info, 0, len(content), "stored", len(content), False]) + "\n")
        pl.DataFrame({"key": ["v.mp4"]}).write_parquet(folder / "table.parquet")
        done = subprocess.run([sys.executable, "-c", _PEAK, str(folder)], check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 60, peaks
