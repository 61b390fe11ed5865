"""Plots of a training as PNG."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np

from workers.ml.artifacts.drawing import (
    FAINT,
    GAP,
    INK,
    NORMAL,
    SMALL,
    TICK_LENGTH,
    TITLE,
    Area,
    Drawing,
    padded_range,
    text_width,
    y_label_width,
)

BAR, ACCENT, POINT = "#2a6f97", "#c8553d", (42, 111, 151, 150)
# Blues from none to all, after ColorBrewer's sequential scheme of that name.
SHADES = np.array([(247, 251, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107)], dtype=float)
CLUSTER_COLORS = (
    (31, 119, 180),
    (255, 127, 14),
    (44, 160, 44),
    (214, 39, 40),
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
    (127, 127, 127),
    (188, 189, 34),
    (23, 190, 207),
)
MARGIN = 14
HEADER = 2 * TITLE + GAP
FOOTER = TICK_LENGTH + 5 * GAP + 2 * NORMAL
ROW_HEIGHT = 35
MAX_BARS = 20
MAX_LABELS = 40
MAX_NUMBERED_CLASSES = 15
MAX_POINTS = 5_000
MAX_LABEL_LENGTH = 28


def plot_importance(importance: dict[str, Any], path: Path) -> None:
    """Draw the columns of `importance` as bars, the first 20 of them."""
    columns = importance["columns"][:MAX_BARS]
    names = [_shorten(row["name"]) for row in columns]
    left = MARGIN + max(map(text_width, names), default=0) + GAP
    drawing = Drawing(max(825, left + 400), HEADER + ROW_HEIGHT * len(columns) + FOOTER)
    highest = max([*(row["importance"] for row in columns), 1e-9]) * 1.14
    area = Area(drawing, left, HEADER, drawing.width - MARGIN, drawing.height - FOOTER, x_range=(0, highest))
    for number, (row, name) in enumerate(zip(columns, names, strict=True)):
        top = area.top + ROW_HEIGHT * number
        end = float(area.x(np.array(max(row["importance"], 0.0))))
        drawing.rectangle(left, top + 4, max(end, left + 1), top + ROW_HEIGHT - 4, BAR)
        drawing.text(left - GAP, top + ROW_HEIGHT / 2, name, anchor="rm")
        drawing.text(end + GAP, top + ROW_HEIGHT / 2, f"{row['importance']:.1%}", size=SMALL, anchor="lm")
    drawing.line(left, area.top, left, area.bottom)
    area.x_axis(f"share of importance ({importance['method']})", lambda value: f"{100 * value:g}%")
    hidden_count = len(importance["columns"]) - len(columns)
    area.title("Feature importance" + (f" (the first {len(columns)} of {len(columns) + hidden_count})" if hidden_count else ""))
    drawing.save(path)


def plot_confusion(truth: np.ndarray, predicted: np.ndarray, path: Path, rows_label: str) -> None:
    """Draw a confusion matrix: counts, shaded by the share of the true class; the numbers are omitted for more than 15 classes."""
    classes = np.unique(np.concatenate([truth, predicted]))
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (np.searchsorted(classes, truth), np.searchsorted(classes, predicted)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [_shorten(str(name), 16) for name in classes] if len(classes) <= MAX_LABELS else []
    label_width = max(map(text_width, labels), default=0)
    cell = max(14, min(120, 480 // max(1, len(classes))))
    side = cell * len(classes)
    upward = label_width + GAP > cell
    left = MARGIN + NORMAL + 2 * GAP + label_width
    below = (label_width if upward else NORMAL) + NORMAL + 4 * GAP + MARGIN
    drawing = Drawing(max(left + side + 110, 460), HEADER + max(side, 160) + below)
    area = Area(drawing, left, HEADER, left + side, HEADER + side)
    for row, column in np.ndindex(counts.shape):
        x, y = left + column * cell, area.top + row * cell
        drawing.rectangle(x, y, x + cell, y + cell, _shade(shares[row, column]))
        if len(classes) <= MAX_NUMBERED_CLASSES:
            color = "white" if shares[row, column] > 0.55 else INK
            number = f"{counts[row, column]:,}"
            drawing.text(x + cell / 2, y + cell / 2, number, color=color, size=NORMAL if text_width(number) < cell else SMALL)
    for number, label in enumerate(labels):
        middle = (number + 0.5) * cell
        drawing.text(left - GAP, area.top + middle, label, anchor="rm")
        if upward:
            drawing.text(left + middle, area.bottom + GAP + text_width(label) / 2, label, upward=True)
        else:
            drawing.text(left + middle, area.bottom + GAP, label, anchor="ma")
    drawing.text(left + side / 2, drawing.height - MARGIN, "predicted", anchor="md")
    drawing.text(MARGIN + NORMAL / 2, area.top + side / 2, "true", upward=True)
    area.title(f"Confusion matrix, {rows_label}")
    _draw_scale(drawing, left + side + 30, area.top, max(side, 160), "share of the true class")
    drawing.save(path)


def plot_residuals(truth: np.ndarray, predicted: np.ndarray, path: Path, rows_label: str, target: str) -> None:
    """Draw the predictions against the true values, and the residuals against the predictions."""
    truth, predicted = _downsample(truth.astype(float), predicted.astype(float))
    residuals = truth - predicted
    drawing = Drawing(1100, 484)
    both, errors = padded_range(truth, predicted), padded_range(residuals, np.zeros(1))
    bottom, height, half = drawing.height - FOOTER, drawing.height - FOOTER - HEADER, drawing.width // 2
    left = Area(drawing, MARGIN + y_label_width(both, height), HEADER, half - 2 * MARGIN, bottom, both, both)
    right = Area(drawing, half + MARGIN + y_label_width(errors, height), HEADER, drawing.width - MARGIN, bottom, both, errors)
    name = _shorten(target)
    drawing.line(left.left, left.bottom, left.right, left.top, ACCENT, 1.5)
    drawing.dots(left.x(truth), left.y(predicted), 2.6, POINT)
    drawing.text(left.right - GAP, left.bottom - GAP, "line: perfect", size=SMALL, color=ACCENT, anchor="rd")
    left.axes(f"true {name}", f"predicted {name}", f"Predicted against true, {rows_label}")
    zero = float(right.y(np.zeros(1))[0])
    drawing.line(right.left, zero, right.right, zero, ACCENT, 1.5)
    drawing.dots(right.x(predicted), right.y(residuals), 2.6, POINT)
    right.axes(f"predicted {name}", "residual (true − predicted)", "Residuals")
    drawing.save(path)


def plot_clusters(points: np.ndarray, labels: np.ndarray, path: Path, rows_label: str) -> None:
    """Draw `points` (rows by features) on their first two principal components, coloured by cluster."""
    points, labels = _downsample(points, labels)
    centered = points - points.mean(axis=0)
    _, singular, components = np.linalg.svd(centered, full_matrices=False)
    variance_shares = singular**2 / max(float((singular**2).sum()), 1e-300)
    # The sign of a component is arbitrary; its largest loading is made positive so that plots do not flip between runs.
    components = components[:2] * np.sign(components[np.arange(min(2, len(components))), np.abs(components[:2]).argmax(axis=1)])[:, None]
    projected = centered @ components.T
    if projected.shape[1] == 1:
        projected = np.column_stack([projected, np.zeros(len(projected))])
    drawing = Drawing(860, 594)
    x_range, y_range = padded_range(projected[:, 0]), padded_range(projected[:, 1])
    top, bottom = HEADER, drawing.height - FOOTER
    area = Area(drawing, MARGIN + y_label_width(y_range, bottom - top), top, drawing.width - 170, bottom, x_range, y_range)
    clusters = np.unique(labels)
    x, y = area.x(projected[:, 0]), area.y(projected[:, 1])
    for number, label in enumerate(clusters):
        members = labels == label
        few = len(clusters) <= len(CLUSTER_COLORS)
        color = CLUSTER_COLORS[number] if few else _rainbow(number / (len(clusters) - 1))
        drawing.dots(x[members], y[members], 2.8, (*color, 190))
        if few:
            middle = top + 2 * NORMAL + number * 24
            drawing.dots(np.array([area.right + 24.0]), np.array([float(middle)]), 4, color)
            drawing.text(area.right + 36, middle, f"{label} ({members.sum():,})", anchor="lm")
    drawing.text(
        area.right + 16, top, "cluster (rows)" if len(clusters) <= len(CLUSTER_COLORS) else f"{len(clusters)} clusters", anchor="lm"
    )
    area.axes(
        f"first principal component ({variance_shares[0]:.0%} of the variance)",
        f"second principal component ({variance_shares[1]:.0%})" if len(variance_shares) > 1 else "",
        f"Clusters, {rows_label}",
    )
    drawing.save(path)


def _draw_scale(drawing: Drawing, left: int, top: int, height: int, label: str) -> None:
    """Draw the colours of shares from 0 % at the bottom to 100 %."""
    for row in range(height):
        drawing.rectangle(left, top + row, left + 16, top + row + 1, _shade(1 - row / max(1, height - 1)))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = top + (1 - share) * height
        drawing.line(left + 16, y, left + 20, y, FAINT)
        drawing.text(left + 24, y, f"{share:.0%}", size=SMALL, anchor="lm")
    drawing.text(left + 70, top + height / 2, label, size=SMALL, upward=True)


def _shade(share: float) -> tuple[int, int, int]:
    position = min(max(float(share), 0.0), 1.0) * (len(SHADES) - 1)
    lower = min(int(position), len(SHADES) - 2)
    red, green, blue = (SHADES[lower] + (SHADES[lower + 1] - SHADES[lower]) * (position - lower)).round().astype(int).tolist()
    return red, green, blue


def _rainbow(share: float) -> tuple[int, int, int]:
    """Colours from violet to red, for more clusters than have colours of their own."""
    red, green, blue = colorsys.hsv_to_rgb(0.75 * (1 - share), 0.85, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def _downsample(*arrays: np.ndarray) -> list[np.ndarray]:
    """Take at most 5,000 evenly spaced points: more are not visible and cost time."""
    step = -(-len(arrays[0]) // MAX_POINTS)
    return [array[:: max(1, step)] for array in arrays]


def _shorten(text: str, max_length: int = MAX_LABEL_LENGTH) -> str:
    text = " ".join(text.split())
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
