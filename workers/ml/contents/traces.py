"""Gathers of seismic traces as contents: how they are read of a SEG-Y file, and which of their traces are missing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from workers.ml.contents.content import Content
from workers.ml.contents.places import ItemPlace, Items
from workers.ml.items import segy
from workers.ml.signal_processing.filters import fill_gaps

if TYPE_CHECKING:
    from workers.ml.signal_processing.quality import Quality


@dataclass(frozen=True, slots=True)
class Gather(Content):
    """Traces of which some are missing, with the samples of all traces from before some were held back."""

    missing: np.ndarray | None = None
    truth: np.ndarray | None = None


def file_of_gathers(items: Items, place: ItemPlace) -> segy.Segy | None:
    """The SEG-Y file that an item is a range of; None for another item."""
    if items.raw is None or place.member.in_pack or place.member.stored_size != place.member.size:
        return None
    file = _opened(items.raw)
    if file is None or (place.member.offset - file.first_trace) % file.trace_bytes or place.member.size % file.trace_bytes:
        return None
    return file


@lru_cache(maxsize=1)
def _opened(path: Path) -> segy.Segy | None:
    try:
        return segy.open_segy(path)
    except segy.NotSegy:
        return None


def decode_gather(items: Items, place: ItemPlace, content: bytes) -> Content | None:
    """The traces of a gather, or of a SEG-Y file in an archive, as samples × traces; None for an item of another format."""
    file = file_of_gathers(items, place)
    if file is None and PurePosixPath(place.key).suffix.lower() in segy.SUFFIXES:
        file = segy.parse_segy(np.frombuffer(content, np.uint8))
        content = content[file.first_trace :]
    if file is None:
        return None
    return Content(place.info["kind"], fill_gaps(file.values(content)).T, file.rate or place.info.get("sample_rate"))


def held_back(content: Content) -> tuple[np.ndarray, np.ndarray] | None:
    """The samples of the traces that were held back, and what they are now; None without any, or if they were resampled or cut since."""
    if not isinstance(content, Gather) or content.truth is None or content.truth.shape != content.values.shape:
        return None
    return content.truth[:, content.missing], content.values[:, content.missing]


def quality_of(content: Content) -> dict[str, float | None] | None:
    """How many traces were held back, and the quality of what they are now; None without any."""
    from workers.ml.signal_processing.quality import quality

    pair = held_back(content)
    if pair is None:
        return None
    found: Quality = quality(*pair)
    return {"held_back_traces": pair[0].shape[1], "snr": found["snr"], "psnr": found["psnr"], "mse": found["mse"]}
