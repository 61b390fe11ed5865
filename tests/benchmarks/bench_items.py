"""Ingest of items against a bare loop of the same libraries, and the memory of an archive of many images.

The loop opens the archive with `zipfile`, and of each file computes what the ingest stores: a digest, the features and the preview. It checks nothing, and
writes neither items nor a table nor a profile. What only this program computes, the envelope of a signal and drawn previews, is called; decoding and common
features are plain calls of Pillow, soundfile, NumPy, SciPy and PyAV. Both run alternately in new child processes, and the best of three counts. The ratio is
theirs over ours; the target is at least 0.5. `TRELLIS_BENCH_ITEMS` is the number of items, a twentieth of them for videos (2,000).

The memory is the peak of the body's process at 10,000 images and, unless `TRELLIS_BENCH_IMAGES` is another number, at 100,000; the target is at most 1.2 times
as much. The table and its profile take part in it, by up to 64 MiB each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.archives import image_of, npy_of, recording_of, tone, vibration
from tests.videos import moving_bar, video_of
from workers.ml.items.video_kind import can_read_videos

ITEMS = int(os.environ.get("TRELLIS_BENCH_ITEMS", "2000"))
IMAGES = int(os.environ.get("TRELLIS_BENCH_IMAGES", "100000"))
_ROOT = Path(__file__).parents[2]
_TURNS = 3
_FEW = 10_000

_MEASURED = """
import sys, time
from pathlib import Path
def report(start, cpu):
    # Of this program alone: `ru_maxrss` counts also what the process that started it had.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(time.perf_counter() - start, time.process_time() - cpu, int(peak.split()[1]) // 1024)
"""
_OURS = (
    _MEASURED
    + """
from tests.workers.ingest_runner import IngestRecorder
from workers.ml.ingest import ingest
class Reporter(IngestRecorder):
    def progress(self, percent, step):
        pass  # what is kept of each step would take memory by items, and keep much of what is freed from being used again
def read(path):
    spec = {"source": str(path), "folder": sys.argv[2], "filename": path.name, "size": path.stat().st_size, "sha256": None}
    return ingest(spec | {"modality": path.parent.name}, Reporter())

path = Path(sys.argv[1])
read(path.with_name("few.zip"))  # so that the libraries are imported
start, cpu = time.perf_counter(), time.process_time()
result = read(path)
report(start, cpu)
assert result["row_count"] == int(sys.argv[3])
"""
)
_BARE = (
    _MEASURED
    + """
import hashlib, io, zipfile
import numpy as np
from PIL import Image
WEBP = dict(format="WEBP", quality=80)

def thumbnail(pixels):
    target = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image = image.convert("RGB")
    image.thumbnail((128, 128))
    image.save(target, **WEBP)

def IMAGE(content):
    image = Image.open(io.BytesIO(content))
    image.load()
    grey = image.convert("L")
    values = np.asarray(grey, dtype=np.float64) / 255
    values.mean(), values.std(), np.abs(np.diff(values, axis=0)).mean(), np.abs(np.diff(values, axis=1)).mean()
    cells = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes().hex()
    thumbnail(image)

def AUDIO(content):
    import soundfile
    from workers.ml.items.audio import Analysis
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        samples = file.read(always_2d=True)
        analysis = Analysis(file.samplerate, file.channels, len(samples))
    analysis.add(samples)
    analysis.features()
    analysis.picture()

def SIGNAL(content):
    from scipy import signal
    from workers.ml.items.envelope import envelope_features
    from workers.ml.items.signal_preview import signal_preview
    samples = np.load(io.BytesIO(content)).astype(np.float64)
    centred = samples - samples.mean()
    np.sqrt(np.mean(samples**2)), np.mean(centred**2), np.mean(centred**3), np.mean(centred**4), np.abs(samples).max()
    signal.welch(samples, 1000, nperseg=min(4096, len(samples)))
    envelope_features(samples - samples.mean(), 1000)
    signal_preview([samples])

def TEXT(content):
    import re
    from workers.ml.items.text_kind import _identifier
    text = content.decode()
    words = re.findall(r"[^\\W_]+", text)
    len(words), len({word.casefold() for word in words}), len(re.findall(r"[.!?]+(?=\\s|$)", text)), text.count("\\n")
    sum(map(str.isupper, text)), sum(map(str.isdigit, text)), sum(map(len, words))
    _identifier().classify(text[:3000])

def VIDEO(content):
    import av
    samples, next_time = [], 0.0
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            if frame.time >= next_time:
                next_time = frame.time + 0.25
                scale = min(1.0, 128 / max(frame.width, frame.height))
                size = dict(width=round(frame.width * scale), height=round(frame.height * scale))
                samples.append(frame.reformat(**size, format="rgb24").to_ndarray())
    light = [sample.astype(np.float64) @ (0.299, 0.587, 0.114) / 255 for sample in samples]
    [(each.mean(), each.std()) for each in light], [np.abs(b - a).mean() for a, b in zip(light, light[1:])]
    values = [sample.astype(np.float64) / 255 for sample in samples]
    [(np.hypot((v[..., 0] - v[..., 1]).std(), ((v[..., 0] + v[..., 1]) / 2 - v[..., 2]).std())) for v in values]
    [np.bincount((sample // 64).reshape(-1, 3) @ np.array([16, 4, 1]), minlength=64) for sample in samples]
    thumbnail(np.vstack([np.hstack([samples[0], samples[-1]])] * 2))

path = sys.argv[1]
compute = globals()[path.split("/")[-2]]
with zipfile.ZipFile(path) as archive:
    compute(archive.read(archive.infolist()[0]))  # so that the libraries are imported
start, cpu = time.perf_counter(), time.process_time()
count = 0
with zipfile.ZipFile(path) as archive:
    for info in archive.infolist():
        content = archive.read(info)
        hashlib.sha256(content).hexdigest()
        compute(content)
        count += 1
report(start, cpu)
assert count == int(sys.argv[3])
"""
)


def _pictures(side: int) -> Iterator[bytes]:
    """Smooth ones, as photographs are, and each another."""
    rng = np.random.default_rng(1)
    while True:
        corners = rng.integers(0, 256, (2, 2, 3)).astype(np.float64)
        weights = np.linspace(0, 1, side)
        left = corners[0, 0] + weights[:, None] * (corners[1, 0] - corners[0, 0])
        right = corners[0, 1] + weights[:, None] * (corners[1, 1] - corners[0, 1])
        pixels = left[:, None] + weights[None, :, None] * (right - left)[:, None]
        yield image_of((pixels + rng.normal(0, 2, pixels.shape)).clip(0, 255).astype(np.uint8))


def _texts() -> Iterator[bytes]:
    rng = np.random.default_rng(1)
    words = "The pump of the second line was inspected on Monday. Its bearing is worn, and the oil has metal in it! Who replaces it"
    while True:
        yield " ".join(rng.choice(words.split(), 200)).encode()


def _numbered(make: Callable[[int], bytes]) -> Iterator[bytes]:
    number = 0
    while True:
        yield make(number)
        number += 1


def _video(number: int) -> bytes:
    return video_of(moving_bar(32, 1 + number % 7, width=320, height=240))


CONTENTS: dict[str, tuple[str, Callable[[], Iterator[bytes]]]] = {
    "SIGNAL": ("npy", lambda: _numbered(lambda number: npy_of(vibration(5 + number % 9, number, length=8_192)))),
    "IMAGE": ("png", lambda: _pictures(128)),
    "AUDIO": ("flac", lambda: _numbered(lambda number: recording_of(tone(200 + number % 900, number, seconds=2.0)))),
    "TEXT": ("txt", _texts),
    "VIDEO": ("mp4", lambda: _numbered(_video)),
}


def make_archive(folder: Path, modality: str, extension: str, contents: Iterator[bytes], count: int) -> Path:
    """Write the archive, and one of two items beside it; return its path."""
    target = folder / modality
    target.mkdir()
    _write(target / "few.zip", extension, contents, 2)
    _write(target / "all.zip", extension, contents, count)
    return target / "all.zip"


def _write(path: Path, extension: str, contents: Iterator[bytes], count: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            archive.writestr(f"{('train', 'test')[number % 5 == 0]}/class{number % 10}/{number:06}.{extension}", next(contents))


def run_child(code: str, path: Path, folder: Path, count: int) -> tuple[float, float, int]:
    """Return wall-clock seconds, CPU seconds and peak memory in MiB."""
    arguments = [sys.executable, "-c", code, str(path), str(folder), str(count)]
    completed = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=_ROOT)
    wall, cpu, peak = completed.stdout.split()
    return float(wall), float(cpu), int(peak)


def test_items_a_second_against_bare_loops() -> None:
    print(f"\n{'':<8} {'items':>7} {'bare/s':>9} {'ours/s':>9} {'ratio':>6} {'ratio of processor time (to reach: 0.50)':>42}")
    for modality, (extension, contents) in CONTENTS.items():
        if modality == "VIDEO" and not can_read_videos():
            continue
        count = ITEMS // 20 if modality == "VIDEO" else ITEMS
        with tempfile.TemporaryDirectory(prefix="trellis-bench-") as name:
            path = make_archive(Path(name), modality, extension, contents(), count)
            bare: list[tuple[float, float, int]] = []
            ours: list[tuple[float, float, int]] = []
            for _ in range(_TURNS):
                bare.append(run_child(_BARE, path, Path(name), count))
                ours.append(run_child(_OURS, path, Path(name), count))
        (wall, _, _), (our_wall, _, _) = min(bare), min(ours)
        ratio = min(cpu for _, cpu, _ in bare) / min(cpu for _, cpu, _ in ours)
        print(f"{modality:<8} {count:>7,} {count / wall:>9,.0f} {count / our_wall:>9,.0f} {wall / our_wall:>6.2f} {ratio:>6.2f}")


def test_memory_of_many_images() -> None:
    peaks: dict[int, int] = {}
    for count in (_FEW, IMAGES):
        with tempfile.TemporaryDirectory(prefix="trellis-bench-") as name:
            path = make_archive(Path(name), "IMAGE", "png", _pictures(8), count)
            wall, _, peaks[count] = run_child(_OURS, path, Path(name), count)
        print(f"\n{count:>8,} images: {wall:,.1f} s, {count / wall:,.0f} a second, {peaks[count]:,} MiB at the peak")
    print(f"ratio {peaks[IMAGES] / peaks[_FEW]:.2f} (to reach: 1.20)")


if __name__ == "__main__":
    test_items_a_second_against_bare_loops()
    test_memory_of_many_images()
