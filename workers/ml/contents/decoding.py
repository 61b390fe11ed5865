"""Makes arrays of the bytes of items, by their kind."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from workers.ml.contents.content import Content, ContentError
from workers.ml.contents.films import open_film
from workers.ml.contents.places import ItemPlace, Items
from workers.ml.contents.traces import decode_gather
from workers.ml.items import limits

if TYPE_CHECKING:
    from PIL import Image


MAX_PIXELS: Final = 64_000_000
"""Of an image with three bands, 768 MB as numbers."""


def decode(items: Items, row: int) -> Content:
    """Read the content of an item. Raises ContentError, and BadInput (UNSUPPORTED_FORMAT) for a video without the extra that decodes it."""
    place = items.place(row)
    if place.info["kind"] == "video":
        return open_film(items, place)
    content = items.read(place)
    if place.info["kind"] == "signal" and (gather := decode_gather(items, place, content)) is not None:
        return gather
    return _DECODERS[place.info["kind"]](content, place)


def _decode_image(content: bytes, place: ItemPlace) -> Content:
    from workers.ml.items.image_kind import open_image
    from workers.ml.items.reading import Corrupt

    try:
        image, _ = open_image(content)
    except Corrupt as error:
        raise ContentError(f"{error}. Make a new version without it.") from error
    if image.width * image.height > MAX_PIXELS:
        raise ContentError(
            f"has {image.width:,}×{image.height:,} pixels, and steps take at most {MAX_PIXELS:,}. Scale it down before it is uploaded."
        )
    return Content(place.info["kind"], as_array(image))


def as_array(image: Image.Image) -> Any:
    """Height × width × bands, 1 or 3, from 0 to 1. Where an image is transparent, white shows."""
    values = np.array(image, dtype=np.float32)
    values /= 255
    if image.mode in ("LA", "RGBA"):
        bands, opacity = values[..., :-1], values[..., -1:]
        return bands * opacity + (1 - opacity)
    return values[..., None] if values.ndim == 2 else values


def _decode_audio(content: bytes, place: ItemPlace) -> Content:
    """The seconds that the ingest analyses, too: a file of some kilobytes can hold days of silence."""
    from soundfile import LibsndfileError, SoundFile

    try:
        with SoundFile(io.BytesIO(content)) as file:
            rate, channels = file.samplerate, file.channels
            frames = min(file.frames, limits.MAX_ANALYSED_SECONDS * rate, limits.MAX_ANALYSED_SAMPLES // channels)
            values: Any = file.read(frames, dtype="float64", always_2d=True)
    except LibsndfileError as error:
        raise ContentError("cannot be decoded. Make a new version without it.") from error
    return Content(place.info["kind"], np.nan_to_num(values, copy=False, posinf=0.0, neginf=0.0), float(rate))


def _decode_signal(content: bytes, place: ItemPlace) -> Content:
    from workers.ml.items.errors import NoSignal
    from workers.ml.items.signals import read_signal
    from workers.ml.signal_processing.filters import fill_gaps

    try:
        signal = read_signal(content, place.key, place.info.get("sample_rate"))
    except NoSignal as error:
        raise ContentError(f"{error}. Make a new version without it.") from error
    return Content(place.info["kind"], fill_gaps(np.stack(list(signal.channels.values()))).T, signal.rate)


_DECODERS: Final[Mapping[str, Callable[[bytes, ItemPlace], Content]]] = {
    "image": _decode_image,
    "audio": _decode_audio,
    "signal": _decode_signal,
}
