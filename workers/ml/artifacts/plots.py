"""Plots as PNG, drawn with matplotlib's object API; pyplot keeps global state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 110
INK, BAR, ACCENT = "#1f2933", "#2a6f97", "#c8553d"
MAX_BARS = 20
MAX_LABELS = 40
MAX_NUMBERED_CLASSES = 15
MAX_POINTS = 5_000
MAX_LABEL_LENGTH = 28


def plot_importance(importance: dict[str, Any], path: Path) -> None:
    columns = importance["columns"][:MAX_BARS]
    figure = _figure(7.5, 1.4 + 0.32 * len(columns))
    axes = figure.add_subplot()
    values = [row["importance"] for row in columns]
    bars = axes.barh(range(len(columns)), values, color=BAR)
    axes.set_yticks(range(len(columns)), [_shorten(row["name"]) for row in columns])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.bar_label(bars, [f"{value:.1%}" for value in values], padding=3, fontsize=8, color=INK)
    axes.set_xlim(0, max([*values, 1e-9]) * 1.14)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.set_xlabel(f"share of importance ({importance['method']})")
    hidden_count = len(importance["columns"]) - len(columns)
    axes.set_title("Feature importance" + (f" (the first {len(columns)} of {len(columns) + hidden_count})" if hidden_count else ""))
    _remove_spines(axes)
    _save(figure, path)


def plot_confusion(truth: np.ndarray, predicted: np.ndarray, path: Path, rows_label: str) -> None:
    """Draw a confusion matrix: counts, shaded by the share of the true class; the numbers are omitted for more than 15 classes."""
    classes = np.unique(np.concatenate([truth, predicted]))
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (np.searchsorted(classes, truth), np.searchsorted(classes, predicted)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(11.0, 3.6 + 0.45 * len(classes))
    figure = _figure(side + 0.9, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MAX_LABELS:
        labels = [_shorten(str(name), 16) for name in classes]
        axes.set_xticks(range(len(classes)), labels, rotation=0 if max(map(len, labels)) * len(labels) < 36 else 90)
        axes.set_yticks(range(len(classes)), labels)
    if len(classes) <= MAX_NUMBERED_CLASSES:
        for row, column in np.ndindex(counts.shape):
            color = "white" if shares[row, column] > 0.55 else INK
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color, fontsize=10)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"Confusion matrix, {rows_label}")
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.04)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    bar.set_label("share of the true class")
    _save(figure, path)


def plot_residuals(truth: np.ndarray, predicted: np.ndarray, path: Path, rows_label: str, target: str) -> None:
    truth, predicted = _downsample(truth, predicted)
    figure = _figure(10, 4.4)
    left, right = figure.subplots(1, 2)
    value_range = [float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))]
    left.plot(value_range, value_range, color=ACCENT, linewidth=1.2, label="perfect")
    left.scatter(truth, predicted, s=14, alpha=0.6, color=BAR, linewidths=0)
    left.set_xlabel(f"true {_shorten(target)}")
    left.set_ylabel(f"predicted {_shorten(target)}")
    left.set_title(f"Predicted against true, {rows_label}")
    left.legend(frameon=False)
    right.axhline(0, color=ACCENT, linewidth=1.2)
    right.scatter(predicted, truth - predicted, s=14, alpha=0.6, color=BAR, linewidths=0)
    right.set_xlabel(f"predicted {_shorten(target)}")
    right.set_ylabel("residual (true − predicted)")
    right.set_title("Residuals")
    for axes in (left, right):
        _remove_spines(axes)
    _save(figure, path)


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
    figure = _figure(7, 5.4)
    axes = figure.add_subplot()
    clusters = np.unique(labels)
    if len(clusters) <= 10:
        for number, label in enumerate(clusters):
            members = projected[labels == label]
            axes.scatter(
                members[:, 0],
                members[:, 1],
                s=16,
                alpha=0.75,
                linewidths=0,
                color=f"C{number}",
                label=f"{label} ({(labels == label).sum():,})",
            )
        axes.legend(title="cluster (rows)", frameon=False)
    else:
        figure.colorbar(
            axes.scatter(projected[:, 0], projected[:, 1], s=16, alpha=0.75, linewidths=0, c=labels, cmap="turbo"), ax=axes, label="cluster"
        )
    axes.set_xlabel(f"first principal component ({variance_shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second principal component ({variance_shares[1]:.0%})" if len(variance_shares) > 1 else "")
    axes.set_title(f"Clusters, {rows_label}")
    _remove_spines(axes)
    _save(figure, path)


def _downsample(*arrays: np.ndarray) -> list[np.ndarray]:
    """Take at most 5,000 evenly spaced points: more are not visible and cost time."""
    step = -(-len(arrays[0]) // MAX_POINTS)
    return [array[:: max(1, step)] for array in arrays]


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _remove_spines(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _shorten(text: str, max_length: int = MAX_LABEL_LENGTH) -> str:
    # matplotlib treats "$" as the start of a formula.
    return (text if len(text) <= max_length else text[: max_length - 1] + "…").replace("$", r"\$")


def _save(figure: Figure, path: Path) -> None:
    # Without the matplotlib version in its metadata, the same figure gives the same bytes.
    figure.savefig(path, format="png", metadata={"Software": None})
