"""Recordings: what is read of them, against SciPy, and what is wrong with damaged ones."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.archives import recording_of, tone, wav_of, zip_of
from tests.exhaustive import few
from tests.lazy_module import LazyModule
from tests.workers.ingest_runner import ingest_error, items_of, run_ingest
from workers.ml.items.audio import mel_filters

SIGNAL: Any = LazyModule("scipy.signal")
SOUNDFILE: Any = LazyModule("soundfile")
RATE = 8_000


def _described(folder: Path, content: bytes, name: str) -> dict[str, Any]:
    result, _ = run_ingest(folder, content, name, modality="AUDIO")
    (item,) = items_of(result)
    return item


@pytest.mark.parametrize(
    ("format_name", "subtype", "codec"),
    few(
        3,
        [
            ("WAV", "FLOAT", "FLOAT"),
            ("WAV", "ULAW", "ULAW"),
            ("FLAC", "PCM_24", "FLAC"),
            ("OGG", "VORBIS", "VORBIS"),
            ("OGG", "OPUS", "OPUS"),
            ("MP3", "MPEG_LAYER_III", "MP3"),
        ],
    ),
)
def test_the_features_of_each_format_are_those_of_its_samples(format_name: str, subtype: str, codec: str, tmp_path: Path) -> None:
    # Channels of opposite phase, whose mean is silence; long enough for several blocks.
    left = tone(1_000, 1, seconds=20)
    content = recording_of(np.stack([left, -left], axis=1), format_name, RATE, subtype)
    samples = SOUNDFILE.read(io.BytesIO(content))[0].T
    assert np.sqrt(np.mean((samples[0] - left) ** 2)) < 0.1
    item = _described(tmp_path, content, f"a.{format_name.lower()}")
    assert item["info"] == {"kind": "audio", "duration": 20, "sample_rate": RATE, "channels": 2, "codec": codec}
    assert (item["issues"], item["label"], item["in_pack"]) == ([], None, False)

    length = 512  # the power of two nearest to 46 ms
    options: Any = {"window": "hann", "nperseg": length, "noverlap": length // 2, "detrend": "constant", "scaling": "spectrum"}
    frequencies, power = SIGNAL.welch(samples, RATE, **options)
    power = power.mean(axis=0)[1:]
    spectra = SIGNAL.spectrogram(samples, RATE, **options)[2].mean(axis=0).T
    bands = 10 * np.log10(np.maximum(spectra @ mel_filters(RATE, length, 20, 8_000), 1e-10)).mean(axis=0)
    rms, peak = np.sqrt((samples**2).mean()), np.abs(samples).max()
    negative = np.signbit(samples)
    assert item["features"] == pytest.approx(
        {
            "duration": 20,
            "sample_rate": RATE,
            "channels": 2,
            "rms": rms,
            "peak": peak,
            "crest_factor": peak / rms,
            "zero_crossing_rate": (negative[:, 1:] != negative[:, :-1]).mean(),
            "spectral_centroid": (frequencies[1:] * power).sum() / power.sum(),
            "dominant_frequency": 1_000,
            **{f"mel_{number}": value for number, value in enumerate(bands, 1)},
        }
    )


def test_mel_bands_are_triangles_of_equal_width_on_the_scale() -> None:
    filters = mel_filters(48_000, 2_048, 20, 8_000)
    frequencies = np.arange(1_025) * 48_000 / 2_048
    inner = (frequencies > 100) & (frequencies < 6_900)
    assert filters[inner].sum(axis=1) == pytest.approx(1), "neighbours add up"
    assert filters[frequencies >= 8_000].sum() == 0
    centres = 2_595 * np.log10(1 + frequencies[filters.argmax(axis=0)] / 700)
    assert np.diff(centres) == pytest.approx(2_840.02 / 21, abs=35)  # to the nearest bin


def test_the_preview_is_a_spectrogram(tmp_path: Path) -> None:
    samples = np.concatenate([tone(500, 1, noise=0), tone(3_000, 2, noise=0)])
    result, _ = run_ingest(tmp_path, recording_of(samples), "a.flac", modality="AUDIO")
    assert "items" in result
    with Image.open(Path(result["items"]["previews"] or "")) as image:
        assert (image.format, image.size) == ("WEBP", (128, 64))
        brightness = np.asarray(image.convert("L"), dtype=float)
    early, late = brightness[:, :55].mean(axis=1), brightness[:, 75:].mean(axis=1)
    mels = [2_595 * np.log10(1 + frequency / 700) for frequency in (500, 3_000, 4_000)]
    assert 63 - early.argmax() == pytest.approx(mels[0] / mels[2] * 65, abs=2.5)
    assert 63 - late.argmax() == pytest.approx(mels[1] / mels[2] * 65, abs=2.5)


def test_a_long_recording_is_decoded_in_part_and_its_duration_is_that_of_all(tmp_path: Path) -> None:
    samples = np.zeros(40 * 60 * RATE, np.int16)  # 40 minutes of silence, but for a click at the start
    samples[100] = 16_384
    item = _described(tmp_path, recording_of(samples), "long.flac")
    assert item["info"]["duration"] == 2_400
    assert item["size_bytes"] < 100_000
    assert [(issue["code"], issue["message"]) for issue in item["issues"]] == [
        ("PARTLY_ANALYSED", "Its features are those of its first 300 of 2,400 seconds.")
    ]
    assert item["features"]["peak"] == 0.5
    assert item["features"]["rms"] == pytest.approx(0.5 / np.sqrt(300 * RATE))


def test_silence_and_clicks_have_the_features_that_are_defined(tmp_path: Path) -> None:
    files = {"a/silence.wav": wav_of(np.zeros(4_000)), "b/click.wav": wav_of(np.array([0.0, 0.5, 0.0])), "b/tone.wav": wav_of(tone(100, 1))}
    result, frame = run_ingest(tmp_path, zip_of(files), "a.zip", modality="AUDIO")
    silence, click, _ = items_of(result)
    assert (silence["features"]["rms"], silence["features"]["crest_factor"], silence["features"]["spectral_centroid"]) == (0, None, None)
    assert [silence["features"][f"mel_{number}"] for number in range(1, 21)] == pytest.approx([-100] * 20)
    assert (click["features"]["peak"], click["preview_size"]) == (pytest.approx(0.5, abs=1e-4), None)
    assert frame.height == 3


def _claiming(content: bytes, hours: int) -> bytes:
    """A FLAC file whose header says how many samples it has: 36 bits at offset 21.5."""
    field = int.from_bytes(content[18:26], "big") >> 36 << 36 | hours * 3_600 * RATE
    return content[:18] + field.to_bytes(8, "big") + content[26:]


FLAC, MP3, WAV, OGG = (
    recording_of(tone(440, 1, seconds=4), name, 16_000 if name == "MP3" else RATE) for name in ("FLAC", "MP3", "WAV", "OGG")
)


DAMAGED: list[tuple[bytes, str]] = [
    (MP3[: len(MP3) // 2], "is cut off: its header says 32,000 samples"),
    (MP3[:200], "is damaged or cut off"),
    (FLAC[: len(FLAC) // 2], "is damaged or cut off"),
    (_claiming(FLAC, 30), "is damaged or cut off"),
    (WAV[: len(WAV) // 2], "is cut off: it says that it has 64,000 bytes of samples"),
    (OGG[:3_000], "has fewer than two samples"),
    (WAV[:24] + struct.pack("<I", 0) + WAV[28:], "has a header that contradicts itself"),
    (WAV[:22] + struct.pack("<H", 0) + WAV[24:], "has a header that contradicts itself"),
    (b"fLaC" + bytes(200), "is damaged or cut off"),
    (b"ID3" + bytes(200), "is damaged or cut off"),
    (b".snd" + bytes(200), "is no recording in one of the formats WAV, FLAC, OGG and MP3"),
    (wav_of(np.zeros(0)), "has fewer than two samples"),
    (b"", "is empty"),
]


@pytest.mark.parametrize(("content", "words"), DAMAGED)
def test_a_damaged_recording_is_refused_with_a_reason(content: bytes, words: str, tmp_path: Path) -> None:
    error = ingest_error(tmp_path, zip_of({"a/1.wav": content}), "a.zip", modality="AUDIO")
    assert (error.code, words in error.message) == ("CORRUPT_ITEMS", True), error.message


def test_a_damaged_recording_among_others_is_listed(tmp_path: Path) -> None:
    files = {f"a/{number:02}.wav": wav_of(tone(100, number)) for number in range(12)}
    files |= {"a/renamed.wav": FLAC, "a/cut.mp3": MP3[: len(MP3) // 2]}
    result, frame = run_ingest(tmp_path, zip_of(files), "a.zip", modality="AUDIO")
    issues = {item["key"]: [issue["code"] for issue in item["issues"]] for item in items_of(result) if item["issues"]}
    assert issues == {"renamed.wav": ["OTHER_FORMAT"], "cut.mp3": ["CORRUPT_ITEM"]}
    assert frame.height == 13


def test_an_mp3_file_without_a_header_of_its_length_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = SOUNDFILE.SoundFile(io.BytesIO(MP3))
    second_frame = MP3.find(MP3[:2], 10)
    item = _described(tmp_path, MP3[second_frame : len(MP3) * 3 // 4], "a.mp3")
    assert item["issues"] == []
    assert 0.2 < item["info"]["duration"] < whole.frames / whole.samplerate


def test_samples_that_are_no_numbers_count_as_silence(tmp_path: Path) -> None:
    samples = tone(100, 1)
    samples[:400] = np.nan
    item = _described(tmp_path, recording_of(samples, "WAV", subtype="FLOAT"), "a.wav")
    assert [issue["message"] for issue in item["issues"]] == ["400 samples are no finite numbers; they count as 0."]
    assert item["features"]["rms"] == pytest.approx(np.sqrt((samples[400:] ** 2).sum() / len(samples)), rel=1e-5)
    error = ingest_error(tmp_path, recording_of(np.full(100, np.nan), "WAV", subtype="FLOAT"), "a.wav", modality="AUDIO")
    assert "has no finite sample" in error.message


def test_an_ogg_file_without_its_last_page_is_read_and_says_so(tmp_path: Path) -> None:
    content = recording_of(tone(440, 1, seconds=20), "OGG", RATE, "OPUS")
    item = _described(tmp_path, content[: len(content) * 3 // 4], "a.opus")
    assert [issue["code"] for issue in item["issues"]] == ["NO_END"]
    assert 5 < item["info"]["duration"] < 16
