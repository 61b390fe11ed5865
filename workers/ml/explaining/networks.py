"""Integrated gradients of multilayer perceptrons (M. Sundararajan et al., ICML 2017).

The contribution of an input is its distance from the baseline times the mean of the gradient on the straight path from there: they sum up to the
difference of the predictions at both ends. A network of rectified units is linear between the points of the path at which a unit changes its side, so
its integral is a sum. Other activations are smooth: Gauss-Legendre quadrature is refined where the sums are not yet right.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

PANEL_NODES = 16
MAX_PANELS, MAX_DEPTH = 4_096, 30  # parts of a path, and how often one is halved
TOLERANCE = 1e-10
CHUNK = 1_024  # points of a path whose activations are in memory at once


@dataclass(frozen=True)
class Network:
    """The layers of a fitted perceptron without the function of its outputs: it computes log-odds, raw scores of classes, or a value."""

    weights: Sequence[np.ndarray]
    biases: Sequence[np.ndarray]
    activation: str
    estimator: Any

    @classmethod
    def of(cls, estimator: Any) -> Network:
        raw = copy(estimator)
        raw.out_activation_ = "identity"
        return cls(estimator.coefs_, estimator.intercepts_, estimator.activation, raw)

    @property
    def work(self) -> int:
        """About how many operations the explanation of a row takes."""
        hidden = sum(len(each) for each in self.biases[:-1])
        points = 2 * hidden if self.activation == "relu" else 4 * PANEL_NODES
        return 2 * points * sum(each.size for each in self.weights) * (len(self.biases) + len(self.biases[-1]))

    def own_outputs(self, matrix: np.ndarray) -> np.ndarray:
        """Return rows × outputs as scikit-learn computes them."""
        return np.asarray(self.estimator._forward_pass_fast(matrix, check_input=False))  # noqa: SLF001 - the only one without the last function

    def contributions(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return outputs × inputs."""
        if self.activation == "relu":
            bends = self.bends(start, end)
            return _integral(self, start, end, (bends[1:] + bends[:-1]) / 2, np.diff(bends))
        return _refined(self, start, end)

    def outputs(self, points: np.ndarray) -> np.ndarray:
        return self._hidden(points)[-1] @ self.weights[-1] + self.biases[-1]

    def _hidden(self, points: np.ndarray) -> list[np.ndarray]:
        """The values of the inputs and of each hidden layer."""
        values = [points]
        for weights, biases in zip(self.weights[:-1], self.biases[:-1], strict=True):
            values.append(self._activate(values[-1] @ weights + biases))
        return values

    def _activate(self, sums: np.ndarray) -> np.ndarray:
        if self.activation == "relu":
            return np.maximum(sums, 0)
        return np.tanh(sums) if self.activation == "tanh" else 0.5 * (1 + np.tanh(0.5 * sums))

    def _slopes(self, values: np.ndarray) -> np.ndarray:
        """The derivatives of the activation, by its values."""
        if self.activation == "relu":
            return values > 0
        return 1 - values**2 if self.activation == "tanh" else values * (1 - values)

    def gradient(self, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the weighted sum over the points of the gradient of each output: outputs × inputs."""
        slopes = [self._slopes(each) for each in self._hidden(points)[1:]]
        rows: list[np.ndarray] = []
        for output in self.weights[-1].T:
            change = np.broadcast_to(output, slopes[-1].shape) * slopes[-1]
            for layer, slope in zip(self.weights[-2:0:-1], slopes[-2::-1], strict=True):
                change = (change @ layer.T) * slope
            rows.append(self.weights[0] @ (weights @ change))
        return np.stack(rows)

    def bends(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the shares of the way from 0 to 1, ends included, between which a network of rectified units is linear."""
        shares = np.array([0.0, 1.0])
        for layer, biases in enumerate(self.biases[:-1]):
            values = _path(start, end, shares)
            for weights, earlier in zip(self.weights[:layer], self.biases, strict=False):
                values = self._activate(values @ weights + earlier)
            sums = values @ self.weights[layer] + biases
            left, right = sums[:-1], sums[1:]
            segments, units = np.nonzero((left > 0) != (right > 0))
            found = left[segments, units] / (left[segments, units] - right[segments, units])
            shares = np.unique(np.concatenate([shares, shares[segments] + found * (shares[segments + 1] - shares[segments])]))
        return shares


def _path(start: np.ndarray, end: np.ndarray, shares: np.ndarray) -> np.ndarray:
    return start + shares[:, None] * (end - start)


def _refined(network: Network, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Divide the path until the sum of each part is the difference of the outputs at its ends."""
    nodes, weights = np.polynomial.legendre.leggauss(PANEL_NODES)
    first, last = network.outputs(np.stack([start, end]))
    tolerance = TOLERANCE * (1 + max(np.abs(first).max(), np.abs(last).max()))
    contributions = np.zeros((len(first), len(start)))
    parts = [(0.0, 1.0, first, last)]
    for _ in range(MAX_PANELS):
        left, right, before, after = parts.pop()
        width = right - left
        found = _integral(network, start, end, left + (nodes + 1) * (width / 2), weights * (width / 2))
        if np.abs(found.sum(axis=1) - (after - before)).max() <= tolerance * max(width, 1e-3) or len(parts) > MAX_DEPTH:
            contributions += found
        else:
            middle = (left + right) / 2
            between = network.outputs(_path(start, end, np.array([middle])))[0]
            parts += [(middle, right, between, after), (left, middle, before, between)]
        if not parts:
            return contributions
    for left, right, _, _ in parts:
        contributions += _integral(network, start, end, left + (nodes + 1) * ((right - left) / 2), weights * ((right - left) / 2))
    return contributions


def _integral(network: Network, start: np.ndarray, end: np.ndarray, shares: np.ndarray, weights: np.ndarray) -> np.ndarray:
    gradient = np.zeros((len(network.biases[-1]), len(start)))
    for first in range(0, len(shares), CHUNK):
        part = slice(first, first + CHUNK)
        gradient += network.gradient(_path(start, end, shares[part]), weights[part])
    return gradient * (end - start)
