"""Plots of explanations as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from workers.ml.artifacts.drawing import FAINT, GAP, INK, NORMAL, SMALL, Area, Drawing, padded_range, text_width, y_label_width
from workers.ml.artifacts.plots import ACCENT, BAR, FOOTER, HEADER, MARGIN, POINT, ROW_HEIGHT
from workers.ml.explaining.occlusion import Occlusion
from workers.ml.explaining.partial_dependence import Curve

MAX_BARS, MAX_SWARMS, MAX_PANELS = 20, 15, 6
MAX_LABEL_LENGTH = 28
ROUNDING = 1e-9  # of the greatest number: what is less was left by rounding
MAX_DOTS = 500  # of a column in a swarm
SWARM_HEIGHT = 44
SHADES = 24  # of the colours of values, from low to high
LOW, HIGH = np.array([58.0, 110, 200]), np.array([214.0, 60, 70])
PLOT_WIDTH = 860
PANEL_WIDTH, PANEL_HEIGHT = 470, 330
ITEM_SIDE = 560  # pixels of the longer side of an item


def shorten(text: str, length: int = MAX_LABEL_LENGTH) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def plot_bars(
    names: Sequence[str], values: Sequence[float], title: str, axis: str, path: Path, deviations: Sequence[float] | None = None
) -> None:
    """Draw a bar for each value, the greatest first; `deviations` are drawn as lines around their ends."""
    order = sorted(range(len(names)), key=lambda index: (-abs(values[index]), names[index]))
    shown = order[:MAX_BARS]
    labels = [shorten(names[index]) for index in shown]
    lengths = np.array([values[index] for index in shown])
    lengths[np.abs(lengths) < ROUNDING * np.abs(lengths).max(initial=0)] = 0
    spread = np.zeros(len(shown)) if deviations is None else np.array([deviations[index] for index in shown])
    left = MARGIN + max(map(text_width, labels), default=0) + GAP
    drawing = Drawing(max(PLOT_WIDTH, left + 420), HEADER + ROW_HEIGHT * len(shown) + FOOTER)
    low, high = min(0.0, float((lengths - spread).min(initial=0))), max(0.0, float((lengths + spread).max(initial=0)))
    margin = 0.13 * ((high - low) or 1.0)
    area = Area(drawing, left, HEADER, drawing.width - MARGIN, drawing.height - FOOTER, (low - (margin if low < 0 else 0), high + margin))
    zero = float(area.x(np.zeros(1))[0])
    for number, (label, length, deviation) in enumerate(zip(labels, lengths.tolist(), spread.tolist(), strict=True)):
        top = area.top + ROW_HEIGHT * number
        end, before, after = area.x(np.array([length, length - deviation, length + deviation])).tolist()
        drawing.rectangle(min(zero, end), top + 5, max(zero, end, min(zero, end) + 1), top + ROW_HEIGHT - 5, BAR if length >= 0 else ACCENT)
        middle = top + ROW_HEIGHT / 2
        if deviation > 0:
            drawing.line(before, middle, after, middle, INK, 1.5)
        drawing.text(left - GAP, middle, label, anchor="rm")
        edge, anchor = (max(end, after) + GAP, "lm") if length >= 0 else (min(end, before) - GAP, "rm")
        drawing.text(edge, middle, f"{length:+.3g}" if low < 0 else f"{length:.3g}", size=SMALL, anchor=anchor)
    drawing.line(zero, area.top, zero, area.bottom)
    area.x_axis(axis)
    area.title(title + (f" (the first {len(shown)} of {len(names)})" if len(names) > len(shown) else ""))
    drawing.save(path)


def plot_swarm(names: Sequence[str], contributions: np.ndarray, values: dict[str, pl.Series], title: str, axis: str, path: Path) -> None:
    """Draw a dot for each row in the line of each column: `contributions` are rows × columns; its colour is the value, grey where it is no number."""
    order: list[int] = np.lexsort((np.arange(len(names)), -np.abs(contributions).mean(axis=0)))[:MAX_SWARMS].tolist()
    labels = [shorten(names[index]) for index in order]
    left = MARGIN + max(map(text_width, labels), default=0) + GAP
    drawing = Drawing(max(PLOT_WIDTH, left + 480), HEADER + SWARM_HEIGHT * len(order) + FOOTER)
    area = Area(
        drawing, left, HEADER, drawing.width - 110, drawing.height - FOOTER, padded_range(contributions[:, order].reshape(-1), np.zeros(1))
    )
    zero = float(area.x(np.zeros(1))[0])
    drawing.line(zero, area.top, zero, area.bottom, FAINT)
    step = max(1, -(-len(contributions) // MAX_DOTS))
    for number, (index, label) in enumerate(zip(order, labels, strict=True)):
        middle = area.top + SWARM_HEIGHT * (number + 0.5)
        x = area.x(contributions[::step, index])
        y = middle + _spread(x, SWARM_HEIGHT / 2 - 6)
        _colored_dots(drawing, x, y, None if names[index] not in values else values[names[index]].gather_every(step))
        drawing.text(left - GAP, middle, label, anchor="rm")
    area.x_axis(axis)
    area.title(title)
    for row in range(100):
        drawing.rectangle(area.right + 34, area.top + row, area.right + 46, area.top + row + 1, _shade(1 - row / 99))
    for y, text in ((0, "high"), (100, "low")):
        drawing.text(area.right + 52, area.top + y, text, size=SMALL, anchor="lm")
    drawing.text(area.right + 20, area.top + 50, "value of the column", size=SMALL, upward=True)
    drawing.save(path)


def plot_dependence(name: str, values: np.ndarray, contributions: np.ndarray, axis: str, path: Path) -> None:
    """Draw the contributions of one column over its values."""
    step = max(1, -(-len(values) // 5_000))
    values, contributions = values[::step], contributions[::step]
    drawing = Drawing(PLOT_WIDTH, 500)
    y_range = padded_range(contributions, np.zeros(1))
    bottom = drawing.height - FOOTER
    area = Area(
        drawing, MARGIN + y_label_width(y_range, bottom - HEADER), HEADER, drawing.width - MARGIN, bottom, padded_range(values), y_range
    )
    zero = float(area.y(np.zeros(1))[0])
    drawing.line(area.left, zero, area.right, zero, FAINT)
    known = np.isfinite(values)
    drawing.dots(area.x(values[known]), area.y(contributions[known]), 2.6, POINT)
    area.axes(shorten(name, 60), axis, f"Contributions of {shorten(name)}")
    drawing.save(path)


def plot_curves(curves: Sequence[Curve], output: int, quantity: str, path: Path) -> None:
    """Draw the curves of several columns side by side: of single rows faintly, of the mean over all rows strongly. Categories are numbered in order."""
    shown = curves[:MAX_PANELS]
    columns = min(2, len(shown))
    rows = -(-len(shown) // max(columns, 1))
    drawing = Drawing(MARGIN + PANEL_WIDTH * columns, HEADER + PANEL_HEIGHT * rows)
    everything = np.concatenate([curve.individual[output].reshape(-1) for curve in shown])
    y_range = padded_range(everything, *(curve.mean[output] for curve in shown))
    for number, curve in enumerate(shown):
        _panel(drawing, curve, output, quantity, y_range, (number % columns * PANEL_WIDTH, number // columns * PANEL_HEIGHT + NORMAL))
    hidden = f" (the first {len(shown)} of {len(curves)})" if len(curves) > len(shown) else ""
    drawing.text(drawing.width / 2, HEADER / 2, shorten(f"Partial dependence: {quantity}{hidden}", 100), size=NORMAL + 2)
    drawing.save(path)


def _panel(drawing: Drawing, curve: Curve, output: int, quantity: str, y_range: tuple[float, float], corner: tuple[int, int]) -> None:
    left, top = corner
    is_number = all(isinstance(value, int | float) for value in curve.values)
    x = np.array(curve.values, dtype=float) if is_number else np.arange(len(curve.values), dtype=float)
    bottom = top + PANEL_HEIGHT - FOOTER
    inner = left + MARGIN + y_label_width(y_range, bottom - top - HEADER)
    area = Area(drawing, inner, top + HEADER, left + PANEL_WIDTH - MARGIN, bottom, padded_range(x), y_range)
    for line in curve.individual[output]:
        _polyline(area, x, line, (42, 111, 151, 40), 1)
    _polyline(area, x, curve.mean[output], ACCENT, 3)
    if is_number:
        area.axes(shorten(curve.feature), shorten(quantity), "")
        return

    def name(value: float) -> str:
        return shorten(str(curve.values[int(value)]), 8) if value % 1 == 0 and 0 <= value < len(x) else ""

    area.axes(shorten(curve.feature), shorten(quantity), "", name)
    drawing.dots(area.x(x), area.y(curve.mean[output]), 4, ACCENT)


def _polyline(area: Area, x: np.ndarray, y: np.ndarray, color: Any, width: float) -> None:
    across, up = area.x(x).tolist(), area.y(y).tolist()
    if len(across) == 1:
        area.drawing.line(area.left, up[0], area.right, up[0], color, width)
    for index in range(len(across) - 1):
        area.drawing.line(across[index], up[index], across[index + 1], up[index + 1], color, width)


def plot_occlusion(found: Occlusion, quantity: str, path: Path) -> None:
    """Draw the item, with its parts in red where the prediction falls without them, in blue where it rises."""
    if found.content.kind == "image":
        _image_occlusion(found, quantity, path)
    else:
        _course_occlusion(found, quantity, path)


def _image_occlusion(found: Occlusion, quantity: str, path: Path) -> None:
    values = found.content.values
    height, width = values.shape[:2]
    ratio = ITEM_SIDE / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    drawing = Drawing(size[0] + 2 * MARGIN + 120, size[1] + HEADER + MARGIN + 2 * NORMAL)
    grey = Image.fromarray((values.mean(axis=2) * 255).clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    left, top = MARGIN, HEADER
    drawing.paste(grey.convert("RGB"), left, top)
    greatest = float(np.abs(found.effects).max()) or 1.0
    (tops, lefts) = found.bounds
    for row, column in np.ndindex(found.effects.shape):
        share = float(found.effects[row, column]) / greatest
        corner = (left + lefts[column] * ratio, top + tops[row] * ratio, left + lefts[column + 1] * ratio, top + tops[row + 1] * ratio)
        drawing.rectangle(*corner, _signed(share))
    _signed_scale(drawing, left + size[0] + 24, top, min(200, size[1]), greatest)
    drawing.text(left + size[0] / 2, top - NORMAL, shorten(f"What {quantity} rests on", 60), size=NORMAL + 1)
    drawing.text(left, drawing.height - MARGIN, f"predicted: {found.prediction:.4g}", anchor="ls", size=SMALL)
    drawing.save(path)


def _course_occlusion(found: Occlusion, quantity: str, path: Path) -> None:
    values = found.content.values
    course = values.reshape(len(values), -1).mean(axis=1)
    lefts, effects = found.bounds[1], found.effects[0]
    rate = found.content.rate
    scale, unit = (rate, "seconds") if rate else (1.0, "samples")
    drawing = Drawing(1_000, 420)
    y_range = padded_range(course)
    bottom = drawing.height - FOOTER
    left = MARGIN + y_label_width(y_range, bottom - HEADER)
    area = Area(drawing, left, HEADER, drawing.width - 130, bottom, (0, len(course) / scale), y_range)
    greatest = float(np.abs(effects).max()) or 1.0
    for index, effect in enumerate(effects.tolist()):
        start, end = area.x(np.array([lefts[index], lefts[index + 1]]) / scale).tolist()
        drawing.rectangle(start, area.top, end, area.bottom, _signed(effect / greatest))
    step = max(1, len(course) // 4_000)
    _polyline(area, np.arange(0, len(course), step) / scale, course[::step], INK, 1)
    area.axes(unit, "mean of the channels" if values.ndim > 1 and values.shape[1] > 1 else "", shorten(f"What {quantity} rests on", 60))
    _signed_scale(drawing, area.right + 24, area.top, 180, greatest)
    drawing.save(path)


def plot_map(places: np.ndarray, title: str, axis: str, path: Path) -> None:
    """Draw the contributions of the places of an image, height × width, in red where they raise the prediction; of a signal, one high, as a curve."""
    height, width = places.shape
    greatest = float(np.abs(places).max()) or 1.0
    if height == 1:
        drawing = Drawing(1_000, 420)
        y_range, bottom = padded_range(places[0], np.zeros(1)), drawing.height - FOOTER
        area = Area(drawing, MARGIN + y_label_width(y_range, bottom - HEADER), HEADER, drawing.width - MARGIN, bottom, (0, width), y_range)
        zero = float(area.y(np.zeros(1))[0])
        drawing.line(area.left, zero, area.right, zero, FAINT)
        _polyline(area, np.arange(width), places[0], POINT, 1.5)
        area.axes("samples", axis, title)
        drawing.save(path)
        return
    ratio = ITEM_SIDE / max(height, width)
    drawing = Drawing(round(width * ratio) + 2 * MARGIN + 120, round(height * ratio) + HEADER + MARGIN)
    for row, column in np.ndindex(places.shape):
        corner = (MARGIN + column * ratio, HEADER + row * ratio, MARGIN + (column + 1) * ratio, HEADER + (row + 1) * ratio)
        drawing.rectangle(*corner, _signed(float(places[row, column]) / greatest))
    _signed_scale(drawing, round(MARGIN + width * ratio) + 24, HEADER, min(200, round(height * ratio)), greatest, shorten(axis))
    drawing.text(MARGIN + width * ratio / 2, HEADER - NORMAL, title, size=NORMAL + 1)
    drawing.save(path)


def _signed(share: float) -> tuple[int, int, int, int]:
    """Red for a positive share, blue for a negative one, transparent for none."""
    red, green, blue = (HIGH if share > 0 else LOW).astype(int).tolist()
    return red, green, blue, round(190 * min(1.0, abs(share)))


def _signed_scale(drawing: Drawing, left: int, top: int, height: int, greatest: float, what: str = "falls without it") -> None:
    for row in range(height):
        drawing.rectangle(left, top + row, left + 14, top + row + 1, _signed(1 - 2 * row / max(1, height - 1)))
    for share in (1.0, 0.0, -1.0):
        drawing.text(left + 20, top + (1 - share) / 2 * height, f"{share * greatest:+.2g}", size=SMALL, anchor="lm")
    drawing.text(left + 78, top + height / 2, what, size=SMALL, upward=True)


def _spread(x: np.ndarray, reach: float) -> np.ndarray:
    """Move dots apart that lie at one place: in turn above and below the line, at most `reach` pixels."""
    places = np.round(x / 3).astype(np.int64)
    order = np.argsort(places, kind="stable")
    _, starts, counts = np.unique(places[order], return_index=True, return_counts=True)
    numbers = np.arange(len(x)) - np.repeat(starts, counts)
    offsets = (numbers + 1) // 2 * np.where(numbers % 2, 1.0, -1.0)
    longest = max(1.0, float(np.abs(offsets).max(initial=1)))
    spread = np.empty(len(x))
    spread[order] = offsets * min(4.0, reach / longest)
    return spread


def _colored_dots(drawing: Drawing, x: np.ndarray, y: np.ndarray, values: pl.Series | None) -> None:
    if values is None or not values.dtype.is_numeric():
        drawing.dots(x, y, 2.6, (120, 130, 140, 170))
        return
    numbers = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = np.isfinite(numbers)
    ranks = np.zeros(len(numbers))
    if known.any():
        low, high = np.quantile(numbers[known], (0.05, 0.95))
        ranks = np.clip((numbers - low) / ((high - low) or 1.0), 0, 1)
    drawing.dots(x[~known], y[~known], 2.6, (120, 130, 140, 170))
    shades = np.where(known, np.nan_to_num(ranks) * (SHADES - 1), -1).round().astype(int)
    for shade in range(SHADES):
        members = shades == shade
        if members.any():
            drawing.dots(x[members], y[members], 2.6, (*_shade(shade / (SHADES - 1)), 190))


def _shade(share: float) -> tuple[int, int, int]:
    red, green, blue = (LOW + (HIGH - LOW) * share).round().astype(int).tolist()
    return red, green, blue
