"""Plots drawn with Pillow: shapes, text and axes in pixels. A plot takes some milliseconds of CPU; matplotlib takes fifty, and half a second to import.

Shapes are drawn twice as large and reduced, which smooths their edges; text is drawn afterwards, smoothed by its renderer.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SCALE = 2
INK, FAINT = "#1f2933", "#9aa5b1"
SMALL, NORMAL, TITLE = 12, 15, 18  # heights of text
TICK_LENGTH, GAP = 5, 6
TICK_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
FONT_FILE = "mpl-data/fonts/ttf/DejaVuSans.ttf"

Color = str | tuple[int, int, int] | tuple[int, int, int, int]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # From memory: processes forked after this would share the position in an open file.
    return ImageFont.truetype(io.BytesIO(_font_file()), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def _font_file() -> bytes:
    # DejaVu has the letters of most alphabets. matplotlib brings it; only the file is used.
    package = find_spec("matplotlib")
    assert package is not None
    assert package.submodule_search_locations is not None
    return (Path(package.submodule_search_locations[0]) / FONT_FILE).read_bytes()


def text_width(text: str, size: int = NORMAL) -> int:
    """Width of a line of text, rounded up."""
    return math.ceil(_font(size).getlength(text))


class Drawing:
    """A white image of `width` by `height` pixels; the origin is the upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._shapes = Image.new("RGB", (width * SCALE, height * SCALE), "white")
        self._draw = ImageDraw.Draw(self._shapes, "RGBA")
        self._texts: list[tuple[float, float, str, int, Color, str, bool]] = []

    def rectangle(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        self._draw.rectangle((left * SCALE, top * SCALE, right * SCALE - 1, bottom * SCALE - 1), fill=color)

    def line(self, x0: float, y0: float, x1: float, y1: float, color: Color = INK, width: float = 1) -> None:
        self._draw.line((x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE), fill=color, width=round(width * SCALE))

    def dots(self, x: np.ndarray, y: np.ndarray, radius: float, color: Color) -> None:
        """Draw a dot of `radius` at each (x, y)."""
        size = radius * SCALE
        for left, top in zip((x * SCALE - size).tolist(), (y * SCALE - size).tolist(), strict=True):
            self._draw.ellipse((left, top, left + 2 * size, top + 2 * size), fill=color)

    def paste(self, image: Image.Image, left: int, top: int) -> None:
        """Put an image in RGB below what is drawn afterwards."""
        larger = image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.NEAREST)
        self._shapes.paste(larger, (left * SCALE, top * SCALE))

    def text(
        self, x: float, y: float, text: str, *, size: int = NORMAL, color: Color = INK, anchor: str = "mm", upward: bool = False
    ) -> None:
        """Write a line of text at (x, y). `anchor` is Pillow's: l, m or r, then a (top), m or d; with `upward` the text is centred and read from below."""
        self._texts.append((x, y, text, size, color, anchor, upward))

    def save(self, path: Path) -> None:
        """Write a PNG. The same drawing gives the same bytes."""
        image = self._shapes.reduce(SCALE)
        draw = ImageDraw.Draw(image)
        for x, y, text, size, color, anchor, upward in self._texts:
            if upward:
                label = Image.new("L", (text_width(text, size) + 2, 2 * size), 0)
                ImageDraw.Draw(label).text((label.width / 2, label.height / 2), text, 255, _font(size), anchor="mm")
                turned = label.transpose(Image.Transpose.ROTATE_90)
                image.paste(Image.new("RGB", turned.size, color), (round(x - turned.width / 2), round(y - turned.height / 2)), turned)
            else:
                draw.text((x, y), text, color, _font(size), anchor=anchor)
        image.save(path, "PNG", compress_level=1)  # of flat colours, higher levels save little and take half as long again


@dataclass(frozen=True, slots=True)
class Area:
    """The part of a drawing inside the axes, in pixels, and the values at its edges. `x_range` and `y_range` may be reversed."""

    drawing: Drawing
    left: int
    top: int
    right: int
    bottom: int
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)

    def x(self, values: np.ndarray) -> np.ndarray:
        low, high = self.x_range
        return self.left + (values - low) / ((high - low) or 1) * (self.right - self.left)

    def y(self, values: np.ndarray) -> np.ndarray:
        low, high = self.y_range
        return self.bottom - (values - low) / ((high - low) or 1) * (self.bottom - self.top)

    def axes(self, x_label: str, y_label: str = "", title: str = "", format_x: Callable[[float], str] | None = None) -> None:
        """Draw both axes with ticks where values lie, their labels and the title."""
        self.x_axis(x_label, format_x)
        self.drawing.line(self.left, self.top, self.left, self.bottom)
        ticks, labels = _ticks(self.y_range, (self.bottom - self.top) / 45)
        for position, label in zip(self.y(np.array(ticks)), labels, strict=True):
            self.drawing.line(self.left - TICK_LENGTH, position, self.left, position)
            self.drawing.text(self.left - TICK_LENGTH - GAP, position, label, anchor="rm")
        width = max(map(text_width, labels), default=0)
        self.drawing.text(self.left - TICK_LENGTH - 2 * GAP - width - NORMAL / 2, (self.top + self.bottom) / 2, y_label, upward=True)
        self.title(title)

    def x_axis(self, label: str, format_value: Callable[[float], str] | None = None) -> None:
        """Draw the lower axis with its ticks and its label."""
        self.drawing.line(self.left, self.bottom, self.right, self.bottom)
        ticks, labels = _ticks(self.x_range, (self.right - self.left) / 90, format_value)
        for position, tick_label in zip(self.x(np.array(ticks)), labels, strict=True):
            self.drawing.line(position, self.bottom, position, self.bottom + TICK_LENGTH)
            self.drawing.text(position, self.bottom + TICK_LENGTH + GAP, tick_label, anchor="ma")
        self.drawing.text((self.left + self.right) / 2, self.bottom + TICK_LENGTH + 3 * GAP + NORMAL, label, anchor="ma")

    def title(self, title: str) -> None:
        """Write the title above, moved as far as it needs to stay in the drawing."""
        half = text_width(title, TITLE) / 2
        middle = min(max((self.left + self.right) / 2, half + GAP), self.drawing.width - half - GAP)
        self.drawing.text(middle, self.top - TITLE, title, size=TITLE)


def y_label_width(y_range: tuple[float, float], height: int) -> int:
    """Width that the labels of an axis of this range and height take, its own label included."""
    labels = _ticks(y_range, height / 45)[1]
    return max(map(text_width, labels), default=0) + TICK_LENGTH + 3 * GAP + NORMAL


def padded_range(*values: np.ndarray) -> tuple[float, float]:
    """The range of all finite values with a margin of 4 %; around a single value, a range of at least some width."""
    finite = np.concatenate([each[np.isfinite(each)] for each in values])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    margin = 0.04 * (high - low) or max(abs(low) * 0.05, 0.5)
    return low - margin, high + margin


def _ticks(
    value_range: tuple[float, float], count: float, format_value: Callable[[float], str] | None = None
) -> tuple[list[float], list[str]]:
    """Return round values in the range, about `count`, and their labels."""
    low, high = sorted(value_range)
    raw_step = (high - low) / max(2.0, count)
    if not (math.isfinite(raw_step) and raw_step > 0):
        return [], []
    power = 10.0 ** math.floor(math.log10(raw_step))
    step = next(factor * power for factor in TICK_STEPS if factor * power >= raw_step * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    ticks = [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]
    return ticks, [format_value(tick) for tick in ticks] if format_value else _labels(ticks, step)


def _labels(ticks: Sequence[float], step: float) -> list[str]:
    largest = max(map(abs, ticks), default=0.0)
    if largest >= 1e6 or 0 < step < 1e-4:
        return [f"{tick:.3g}" for tick in ticks]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) + (abs(step / 10 ** math.floor(math.log10(step) + 1e-9) - 2.5) < 1e-6)
    return [f"{tick + 0.0:,.{decimals}f}" for tick in ticks]
