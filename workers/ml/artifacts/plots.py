"""Plots as PNG. Figures are made and drawn as objects: pyplot keeps global state, which a body has no use for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 110
INK, BAR, ACCENT = "#1f2933", "#2a6f97", "#c8553d"
MOST_BARS = 20
MOST_LABELS = 40
MOST_NUMBERED = 15
MOST_POINTS = 5_000
LONGEST_LABEL = 28


def plot_importance(importance: dict[str, Any], path: Path) -> None:
    shown = importance["columns"][:MOST_BARS]
    figure = _figure(7.5, 1.4 + 0.32 * len(shown))
    axes = figure.add_subplot()
    values = [row["importance"] for row in shown]
    bars = axes.barh(range(len(shown)), values, color=BAR)
    axes.set_yticks(range(len(shown)), [_short(row["name"]) for row in shown])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.bar_label(bars, [f"{value:.1%}" for value in values], padding=3, fontsize=8, color=INK)
    axes.set_xlim(0, max([*values, 1e-9]) * 1.14)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.set_xlabel(f"share of importance ({importance['method']})")
    more = len(importance["columns"]) - len(shown)
    axes.set_title("Feature importance" + (f" (the first {len(shown)} of {len(shown) + more})" if more else ""))
    _bare(axes)
    _write(figure, path)


def plot_confusion(truth: np.ndarray, predicted: np.ndarray, path: Path, rows: str) -> None:
    """Counts in each cell, shaded by the share of the true class; with many classes the numbers are left out."""
    classes = np.unique(np.concatenate([truth, predicted]))
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (np.searchsorted(classes, truth), np.searchsorted(classes, predicted)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(11.0, 3.6 + 0.45 * len(classes))
    figure = _figure(side + 0.9, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MOST_LABELS:
        labels = [_short(str(name), 16) for name in classes]
        axes.set_xticks(range(len(classes)), labels, rotation=0 if max(map(len, labels)) * len(labels) < 36 else 90)
        axes.set_yticks(range(len(classes)), labels)
    if len(classes) <= MOST_NUMBERED:
        for row, column in np.ndindex(counts.shape):
            color = "white" if shares[row, column] > 0.55 else INK
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color, fontsize=10)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"Confusion matrix, {rows}")
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.04)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    bar.set_label("share of the true class")
    _write(figure, path)


def plot_residuals(truth: np.ndarray, predicted: np.ndarray, path: Path, rows: str, target: str) -> None:
    truth, predicted = _thinned(truth, predicted)
    figure = _figure(10, 4.4)
    left, right = figure.subplots(1, 2)
    ends = [float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))]
    left.plot(ends, ends, color=ACCENT, linewidth=1.2, label="perfect")
    left.scatter(truth, predicted, s=14, alpha=0.6, color=BAR, linewidths=0)
    left.set_xlabel(f"true {_short(target)}")
    left.set_ylabel(f"predicted {_short(target)}")
    left.set_title(f"Predicted against true, {rows}")
    left.legend(frameon=False)
    right.axhline(0, color=ACCENT, linewidth=1.2)
    right.scatter(predicted, truth - predicted, s=14, alpha=0.6, color=BAR, linewidths=0)
    right.set_xlabel(f"predicted {_short(target)}")
    right.set_ylabel("residual (true − predicted)")
    right.set_title("Residuals")
    for axes in (left, right):
        _bare(axes)
    _write(figure, path)


def plot_clusters(points: np.ndarray, labels: np.ndarray, path: Path, rows: str) -> None:
    """The first two principal components, coloured by cluster."""
    points, labels = _thinned(points, labels)
    centred = points - points.mean(axis=0)
    _, singular, axes_of = np.linalg.svd(centred, full_matrices=False)
    shares = singular**2 / max(float((singular**2).sum()), 1e-300)
    # The sign of a component is arbitrary; the largest loading points up, so that a plot does not flip between runs.
    axes_of = axes_of[:2] * np.sign(axes_of[np.arange(min(2, len(axes_of))), np.abs(axes_of[:2]).argmax(axis=1)])[:, None]
    flat = centred @ axes_of.T
    if flat.shape[1] == 1:
        flat = np.column_stack([flat, np.zeros(len(flat))])
    figure = _figure(7, 5.4)
    axes = figure.add_subplot()
    found = np.unique(labels)
    if len(found) <= 10:
        for number, label in enumerate(found):
            mine = flat[labels == label]
            axes.scatter(
                mine[:, 0], mine[:, 1], s=16, alpha=0.75, linewidths=0, color=f"C{number}", label=f"{label} ({(labels == label).sum():,})"
            )
        axes.legend(title="cluster (rows)", frameon=False)
    else:
        figure.colorbar(
            axes.scatter(flat[:, 0], flat[:, 1], s=16, alpha=0.75, linewidths=0, c=labels, cmap="turbo"), ax=axes, label="cluster"
        )
    axes.set_xlabel(f"first principal component ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second principal component ({shares[1]:.0%})" if len(shares) > 1 else "")
    axes.set_title(f"Clusters, {rows}")
    _bare(axes)
    _write(figure, path)


def _thinned(*arrays: np.ndarray) -> list[np.ndarray]:
    """At most so many points, spread evenly: more do not show, and cost time."""
    step = -(-len(arrays[0]) // MOST_POINTS)
    return [array[:: max(1, step)] for array in arrays]


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _bare(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _short(text: str, longest: int = LONGEST_LABEL) -> str:
    # A dollar sign would start a formula.
    return (text if len(text) <= longest else text[: longest - 1] + "…").replace("$", r"\$")


def _write(figure: Figure, path: Path) -> None:
    # Without a date and a version the same figure is the same file.
    figure.savefig(path, format="png", metadata={"Software": None})
