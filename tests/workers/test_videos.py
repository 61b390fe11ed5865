"""Videos of every container are read, and those that are damaged, no videos or too large are refused with a reason."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.archives import image_of, recording_of, tone, zip_of
from tests.exhaustive import exhaustive
from tests.videos import moving_bar, shade, video_of
from tests.workers.ingest_runner import ingest_error, items_of, run_ingest
from workers.ml.items import limits, video_kind
from workers.ml.items.video import NoVideo, Video, read_video

BAR = moving_bar()


def _read(content: bytes) -> Video:
    return read_video(io.BytesIO(content))


@pytest.mark.parametrize(
    ("container", "suffix", "format_name", "codec"),
    [
        ("mp4", "mp4", "MP4", "H264"),
        ("webm", "webm", "WEBM", "VP8"),
        exhaustive("mov", "mov", "MOV", "MPEG4"),
        exhaustive("matroska", "mkv", "MKV", "H264"),
        exhaustive("avi", "avi", "AVI", "MPEG4"),
    ],
)
def test_each_container_is_an_item_by_itself(container: str, suffix: str, format_name: str, codec: str, tmp_path: Path) -> None:
    result, frame = run_ingest(tmp_path, video_of(BAR, container), f"bar.{suffix}", modality="VIDEO")
    (item,) = items_of(result)
    assert (result["format"], item["key"], item["issues"]) == (format_name, f"bar.{suffix}", [])
    duration = item["info"].pop("duration")
    assert duration == pytest.approx(2, abs=0.1)
    assert item["info"] == {"kind": "video", "width": 64, "height": 48, "frame_rate": 8.0, "frames": 16, "codec": codec}
    assert frame["motion"][0] > 0.1


def test_features_are_those_of_the_frames() -> None:
    dark, light = np.full((48, 64, 3), 51, np.uint8), np.full((48, 64, 3), 204, np.uint8)
    red = shade(0) + np.array([255, 0, 0], np.uint8)
    video = _read(video_of([dark] * 8 + [light] * 8, codec="mpeg4"))
    features = video.features()
    assert features["brightness"] == pytest.approx(0.5, abs=0.02)
    assert features["brightness_variance"] == pytest.approx(0.09, abs=0.01)
    assert features["cuts"] == 1
    assert features["motion"] == pytest.approx(0.6 / 7, abs=0.01)
    assert (features["colourfulness"], features["contrast"]) == (pytest.approx(0, abs=0.02), pytest.approx(0, abs=0.01))
    assert _read(video_of([red] * 4)).features()["colourfulness"] == pytest.approx(0.3 * np.hypot(1, 0.5), abs=0.05)
    single = _read(video_of([dark], "avi"))
    assert (single.features()["motion"], single.contact_sheet().shape) == (None, (48, 64, 3))


def test_only_the_beginning_of_a_long_video_is_decoded_and_all_of_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    content = video_of(moving_bar(40))
    monkeypatch.setattr(limits, "MAX_ANALYSED_VIDEO_SECONDS", 2)
    video = _read(content)
    assert (video.frames, video.duration, len(video.samples)) == (40, 5, 9)
    monkeypatch.setattr(limits, "MAX_ANALYSED_PIXELS", 4 * 64 * 48)
    assert len(_read(content).samples) <= 3


def test_the_preview_shows_four_moments(tmp_path: Path) -> None:
    frames = [shade(value) for value in (0, 80, 160, 240) for _ in range(4)]
    result, _ = run_ingest(tmp_path, video_of(frames, codec="mpeg4"), "v.mp4", modality="VIDEO")
    assert "items" in result
    assert result["items"]["previews"] is not None
    with Image.open(io.BytesIO(Path(result["items"]["previews"]).read_bytes())) as opened:
        pixels = np.asarray(opened.convert("L")).astype(int)
    assert [pixels[y, x] for y in (6, 42) for x in (8, 56)] == pytest.approx([0, 80, 160, 240], abs=12)


def _mp4() -> bytes:
    return video_of(BAR, codec="mpeg4")


def _resized(width: int, height: int) -> bytes:
    """A WebM that says another size than it has."""
    content = bytearray(video_of([shade(9, 320, 256)], "webm"))
    start = content.index(b"\xb0\x82\x01\x40")
    assert content[start + 4 : start + 8] == b"\xba\x82\x01\x00"
    struct.pack_into(">H", content, start + 2, width)
    struct.pack_into(">H", content, start + 6, height)
    return bytes(content)


def _resized_frames() -> bytes:
    """Images that say another size than their container."""
    content = bytearray(video_of([shade(9)] * 2, "avi", codec="mjpeg", pixel_format="yuvj420p"))
    position = 0
    while (position := content.find(b"\xff\xc0", position)) >= 0:
        struct.pack_into(">HH", content, position + 5, 16_000, 16_000)
        position += 2
    return bytes(content)


def _without_index() -> bytes:
    content = _mp4()
    return content[: content.index(b"moov") - 4]


def _index_first() -> bytes:
    """An MP4 as it is for streaming, of which the second half of the frames is missing."""
    content = _mp4()
    data, index = content.index(b"mdat") - 4, content.index(b"moov") - 4
    moov = bytearray(content[index:])
    table = moov.index(b"stco") + 12  # one offset of one chunk, or several
    for position in range(table, table + 4 * struct.unpack_from(">I", moov, table - 4)[0], 4):
        struct.pack_into(">I", moov, position, struct.unpack_from(">I", moov, position)[0] + len(moov))
    return content[:data] + bytes(moov) + content[data : data + (index - data) // 2]


def _noisy() -> bytes:
    content = bytearray(video_of(BAR))
    start = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    content[start:end] = np.random.default_rng(2).bytes(end - start)
    return bytes(content)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "an MP4 without its index": (_without_index, "is damaged or cut off"),
    "an MP4 that is cut off": (lambda: _mp4()[:900], "is damaged or cut off"),
    "an MP4 whose index is first, cut off": (_index_first, "is cut off"),
    "a WebM that is cut off": (lambda: (content := video_of(BAR, "webm"))[: -len(content) // 6], "is cut off"),
    "an AVI that is cut off": (lambda: (content := video_of(BAR, "avi"))[: len(content) // 2], "is"),
    "an AVI without frames": (lambda: (content := video_of(BAR, "avi"))[: content.index(b"movi") + 4], "has no frame"),
    "a head alone": (lambda: b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", "is damaged or cut off"),
    "images of an absurd size": (_resized_frames, "2 of 2 frames cannot be decoded"),
    "sound alone": (lambda: recording_of(tone(440, 1), "WAV"), "is no video in one of the formats MP4, MOV"),
    "an image": (lambda: image_of(shade(3)), "is no video in one of the formats"),
    "an image in a container of videos": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "is no video in one of the formats"),
    "a playlist": (lambda: b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "is no video in one of the formats"),
    "a list of files for FFmpeg": (lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", "is no video in one of the formats"),
    "text": (lambda: b"no video at all" * 9, "is no video in one of the formats"),
    "zeros": (lambda: bytes(4_000), "is no video in one of the formats"),
    "noise behind a head": (lambda: b"\x1a\x45\xdf\xa3" + np.random.default_rng(1).bytes(5_000), "is damaged or cut off"),
    "noise in place of frames": (_noisy, "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_whole_video_is_refused_with_a_reason(case: str) -> None:
    make, words = REFUSED[case]
    with pytest.raises(NoVideo) as refusal:
        _read(make())
    assert words in str(refusal.value)


def test_the_size_is_that_of_the_frames_and_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    for width, height in ((60_000, 60_000), (0, 0)):
        video = _read(_resized(width, height))
        assert (video.width, video.height, video.samples[0].shape) == (320, 256, (102, 128, 3))
    content = video_of(BAR)
    monkeypatch.setattr(limits, "MAX_FRAME_PIXELS", 3_000)
    with pytest.raises(NoVideo, match="has frames of 64×48 pixels; the maximum is 3,000"):
        _read(content)
    monkeypatch.setattr(limits, "MAX_FRAME_PIXELS", 4_000)
    monkeypatch.setattr(limits, "MAX_FRAMES", 15)
    with pytest.raises(NoVideo, match="has more than 15 frames"):
        _read(content)


def test_a_damaged_video_of_many_is_an_item_without_a_row(tmp_path: Path) -> None:
    good = video_of([shade(9)] * 2)
    files = {f"a/{number}.mp4": good + bytes(number) for number in range(10)}
    result, frame = run_ingest(tmp_path, zip_of(files | {"a/x.mov": b"nothing", "a/y.mov": good}), "v.zip", modality="VIDEO")
    issues = {item["key"]: [issue["code"] for issue in item["issues"] if issue["code"] != "DUPLICATE_ITEM"] for item in items_of(result)}
    assert {key: codes for key, codes in issues.items() if codes} == {"x.mov": ["CORRUPT_ITEM"], "y.mov": ["OTHER_FORMAT"]}
    assert frame.height == 11


def test_a_video_beyond_the_memory_for_an_item_is_read_through_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = {f"v/{number}.mp4": video_of([shade(number)] * 2) for number in range(12)}
    files = {"t.csv": ("clip\n" + "\n".join([*clips, "v/x.png"])).encode(), **clips, "v/x.png": image_of(shade(3)) + bytes(900)}
    expected, _ = run_ingest(tmp_path, zip_of(clips), "v.zip", modality="VIDEO")
    items = items_of(expected)
    monkeypatch.setattr(limits, "MAX_ITEM_BYTES", 900)
    result, _ = run_ingest(tmp_path, zip_of(clips), "v.zip", modality="VIDEO")
    assert items_of(result) == items
    result, _ = run_ingest(tmp_path, zip_of(files), "m.zip", modality="MULTIMODAL")
    assert [(item["key"], item["issues"][0]["message"]) for item in items_of(result) if item["info"] is None] == [
        ("v/x.png", "The file has more than 900 bytes, which is the maximum of all but videos.")
    ]
    damaged = bytearray(zip_of(clips, compressed=False))
    damaged[damaged.index(b"mdat") + 9] ^= 1
    result, _ = run_ingest(tmp_path, bytes(damaged), "v.zip", modality="VIDEO")
    assert [item["issues"][0]["message"] for item in items_of(result) if item["info"] is None] == [
        "The file is damaged: its checksum is wrong."
    ]
    monkeypatch.setattr(limits, "MAX_VIDEO_BYTES", 1_000)
    error = ingest_error(tmp_path, zip_of(clips), "v.zip", modality="VIDEO")
    assert error.code == "CORRUPT_ITEMS"


def test_a_worker_without_the_extra_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_kind, "find_spec", lambda _: None)
    error = ingest_error(tmp_path, zip_of({"a/1.mp4": b"x"}), "v.zip", modality="VIDEO")
    assert (error.code, "the extra `video` is not installed" in error.message) == ("UNSUPPORTED_FORMAT", True)


def test_a_video_is_an_item_of_a_table(tmp_path: Path) -> None:
    files = {"t.csv": b"clip,n\nv/1.mp4,1\nv/2.webm,2\n", "v/1.mp4": video_of(BAR), "v/2.webm": video_of([shade(9)] * 4, "webm")}
    result: Any
    result, frame = run_ingest(tmp_path, zip_of(files), "m.zip", modality="MULTIMODAL")
    assert [item["info"]["codec"] for item in items_of(result)] == ["H264", "VP8"]
    assert frame["clip_frames"].to_list() == [16, 4]
