"""Operations on images: arrays of height × width × bands, float32 from 0 to 1."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
from PIL import Image

from workers.ml.contents.content import Content, ContentError

Method = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]

_FILTERS: Final = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow converts


def resize(content: Content, *, width: int, height: int, fit: Literal["stretch", "pad", "cover"], method: Method) -> Content:
    """Scale to a size. `pad` keeps the proportions and adds black, `cover` keeps them and cuts off."""
    values = content.values
    source_height, source_width = values.shape[:2]
    if fit == "stretch":
        return replace(content, values=_scaled(values, width, height, method))
    ratios = width / source_width, height / source_height
    ratio = min(ratios) if fit == "pad" else max(ratios)
    scaled = _scaled(values, max(1, round(source_width * ratio)), max(1, round(source_height * ratio)), method)
    if fit == "cover":
        return replace(content, values=_center(scaled, width, height))
    target = np.zeros((height, width, values.shape[2]), dtype=np.float32)
    top, left = (height - scaled.shape[0]) // 2, (width - scaled.shape[1]) // 2
    target[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return replace(content, values=target)


def _scaled(values: Any, width: int, height: int, method: Method) -> Any:
    if values.shape[:2] == (height, width):
        return values
    bands = [Image.fromarray(values[..., band]).resize((width, height), _FILTERS[method]) for band in range(values.shape[2])]
    # Cubic and Lanczos filters overshoot at edges.
    return np.clip(np.stack([np.asarray(band) for band in bands], axis=-1), 0, 1)


def _center(values: Any, width: int, height: int) -> Any:
    top, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    return values[top : top + height, left : left + width]


def crop_center(content: Content, *, width: int, height: int) -> Content:
    _check_size(content, width, height)
    return replace(content, values=_center(content.values, width, height))


def crop_box(content: Content, *, left: int, top: int, width: int, height: int) -> Content:
    _check_size(content, left + width, top + height)
    return replace(content, values=content.values[top : top + height, left : left + width])


def _check_size(content: Content, width: int, height: int) -> None:
    found_height, found_width = content.values.shape[:2]
    if found_width < width or found_height < height:
        raise ContentError(f"has {found_width}×{found_height} pixels, and at least {width}×{height} are needed. Resize the images before.")


def grayscale(content: Content) -> Content:
    values = content.values
    return content if values.shape[2] == 1 else replace(content, values=(values @ _LUMA)[..., None])


def normalise(content: Content, *, method: Literal["range", "standard"]) -> Content:
    """`range`: each image from 0 to 1; `standard`: its mean 0 and its standard deviation 1. All bands together; one without contrast becomes 0."""
    values = content.values
    if method == "range":
        low, width = float(values.min()), float(values.max() - values.min())
    else:
        low, width = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    return replace(content, values=(values - np.float32(low)) / np.float32(width) if width > 0 else np.zeros_like(values))


def flip(content: Content, _generator: np.random.Generator, copy: int, *, directions: tuple[str, ...]) -> Content:
    values = content.values
    direction = directions[copy % len(directions)]
    if direction in ("horizontal", "both"):
        values = values[:, ::-1]
    if direction in ("vertical", "both"):
        values = values[::-1]
    return replace(content, values=values)


def rotate(content: Content, generator: np.random.Generator, copy: int, *, angles: tuple[float, ...] | None, max_angle: float) -> Content:
    """Turn counterclockwise about the centre by one of the angles in turn, or by a random one; what comes from outside is the nearest border."""
    angle = float(generator.uniform(-max_angle, max_angle)) if angles is None else angles[copy % len(angles)]
    values = content.values
    if angle % 90 == 0 and (angle % 180 == 0 or values.shape[0] == values.shape[1]):
        return replace(content, values=np.rot90(values, round(angle / 90) % 4))
    height, width = values.shape[:2]
    margin = math.ceil((math.hypot(height, width) - min(height, width)) / 2) + 1  # what a turn brings into the picture
    padded = np.pad(values, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    bands = [Image.fromarray(padded[..., band]).rotate(angle, Image.Resampling.BILINEAR) for band in range(values.shape[2])]
    turned = np.stack([np.asarray(band) for band in bands], axis=-1)
    return replace(content, values=turned[margin : margin + height, margin : margin + width])


def pixels(content: Content) -> np.ndarray:
    """Row by row; the bands of a pixel beside each other."""
    return content.values.reshape(-1)


def hog(content: Content, *, orientations: int, cell: int, block: int) -> np.ndarray:
    """Histograms of oriented gradients (N. Dalal and B. Triggs, 2005): of each cell of `cell`² pixels, by angle without sign, weighted by magnitude.

    Each pixel counts for the band of its greatest gradient. Blocks of `block`² cells overlap by all but one cell; each is scaled to length 1, clipped
    at 0.2 and scaled again. Pixels beyond the last whole cell do not count.
    """
    values = content.values.astype(np.float64)
    height, width = values.shape[:2]
    down, across = height // cell, width // cell
    if down < block or across < block:
        raise ContentError(
            f"has {width}×{height} pixels, and a block of {block}×{block} cells of {cell}×{cell} pixels needs {block * cell}×{block * cell}. Make the cells "
            "smaller, or resize the images before."
        )
    vertical, horizontal = np.zeros_like(values), np.zeros_like(values)
    vertical[1:-1] = values[2:] - values[:-2]
    horizontal[:, 1:-1] = values[:, 2:] - values[:, :-2]
    magnitudes = np.hypot(horizontal, vertical)
    strongest = magnitudes.argmax(axis=2)[..., None]
    magnitude, vertical, horizontal = (np.take_along_axis(each, strongest, 2)[..., 0] for each in (magnitudes, vertical, horizontal))
    angles = np.rad2deg(np.arctan2(vertical, horizontal)) % 180
    bins = np.minimum((angles * orientations / 180).astype(np.int64), orientations - 1)
    rows, columns = (np.arange(size) // cell for size in (down * cell, across * cell))
    cells = rows[:, None] * across + columns[None, :]
    within = slice(0, down * cell), slice(0, across * cell)
    places = (cells * orientations + bins[within]).reshape(-1)
    histogram = np.bincount(places, weights=magnitude[within].reshape(-1), minlength=down * across * orientations)
    histogram = histogram.reshape(down, across, orientations) / cell**2
    windows = np.lib.stride_tricks.sliding_window_view(
        histogram, (block, block), axis=(0, 1)
    )  # down × across × orientations × block × block
    blocks = windows.transpose(0, 1, 3, 4, 2).reshape(-1, block * block * orientations)
    blocks = np.minimum(_unit(blocks), 0.2)
    return _unit(blocks).reshape(-1)


def _unit(blocks: Any) -> Any:
    return blocks / np.sqrt(np.square(blocks).sum(axis=1, keepdims=True) + 1e-10)
