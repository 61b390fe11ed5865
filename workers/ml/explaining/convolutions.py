"""Integrated gradients of convolutional networks, with numpy alone, as they predict.

A network of rectified units is linear between thousands of points of the path, at which a unit or a maximum changes its side. So the path is not divided
there: the mean gradient over evenly spaced points is taken, of twice as many until the contributions sum up to the difference of the predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from workers.ml.convolution.layers import Block, head_inputs

FIRST_POINTS, MOST_POINTS = 32, 1_024  # of a path
TOLERANCE = 1e-4  # of the sum, in shares of the size of the predictions
MAX_VALUES = 1 << 23  # of the windows of a convolution that are in memory at once


@dataclass(frozen=True)
class Convolutions:
    """A fitted network without the function of its outputs: it computes log-odds, raw scores of classes, or a value, in 64 bits."""

    estimator: Any

    @cached_property
    def _weights(self) -> list[np.ndarray]:
        return [weights.astype(np.float64) for weights in self.estimator.weights_]

    @cached_property
    def _blocks(self) -> list[Block]:
        return self.estimator.blocks

    @property
    def _scale(self) -> tuple[float, float]:
        """Values are learned in standard deviations from their mean."""
        return getattr(self.estimator, "target_scale_", 1.0), getattr(self.estimator, "target_mean_", 0.0)

    @property
    def work(self) -> int:
        """About how many operations the explanation of a row takes."""
        forward = sum(block.weights * block.height * block.width for block in self._blocks) + self._weights[-2].size
        return 2 * 2 * MOST_POINTS * forward * (1 + len(self._weights[-1]))

    def own_outputs(self, matrix: np.ndarray) -> np.ndarray:
        """Return rows × outputs as the estimator computes them, with 32 bits."""
        factor, mean = self._scale
        return self.estimator.outputs(matrix) * factor + mean

    def outputs(self, points: np.ndarray) -> np.ndarray:
        factor, mean = self._scale
        features, _ = self._forward(points)
        return (features @ self._weights[-2].T + self._weights[-1]) * factor + mean

    def contributions(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return outputs × inputs."""
        first, last = self.outputs(np.stack([start, end]))
        tolerance = TOLERANCE * (1 + max(np.abs(first).max(), np.abs(last).max()))
        count = FIRST_POINTS
        while True:
            shares = (np.arange(count) + 0.5) / count
            found = self._mean_gradient(start + shares[:, None] * (end - start)) * (end - start)
            if count >= MOST_POINTS or np.abs(found.sum(axis=1) - (last - first)).max() <= tolerance:
                return found
            count *= 2

    def _mean_gradient(self, points: np.ndarray) -> np.ndarray:
        largest = max(block.inputs * block.kernel[0] * block.kernel[1] * block.height * block.width for block in self._blocks)
        size = max(1, MAX_VALUES // largest)
        total = np.zeros((len(self._weights[-1]), points.shape[1]))
        for first in range(0, len(points), size):
            total += self.gradient(points[first : first + size])
        return total / len(points)

    def _forward(self, points: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Return what the linear layer takes; of each block its activations, points × height × width × outputs, and which of a pool was the greatest."""
        layout = self.estimator.layout
        scaled = (points.reshape(-1, layout.height, layout.width, layout.channels) - self.estimator.mean_) / self.estimator.scale_
        values, kept = np.moveaxis(scaled, 3, 1), []
        for number, block in enumerate(self._blocks):
            left, right, above, below = block.padding
            padded = np.pad(values, ((0, 0), (0, 0), (above, below), (left, right)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, block.kernel, axis=(2, 3))
            sums = np.tensordot(windows, self._weights[2 * number], axes=([1, 4, 5], [1, 2, 3])) + self._weights[2 * number + 1]
            activated = np.maximum(sums, 0) if self.estimator.activation == "relu" else np.tanh(sums)
            pools = _pools(activated, block)
            greatest = pools.argmax(axis=-1)[..., None]
            kept.append((activated, greatest))
            values = np.moveaxis(np.take_along_axis(pools, greatest, axis=-1)[..., 0], 3, 1)
        return values.mean(axis=(2, 3)) if self.estimator.head == "average" else values.reshape(len(values), -1), kept

    def gradient(self, points: np.ndarray) -> np.ndarray:
        """Return the sum over the points of the gradient of each output: outputs × inputs."""
        _, kept = self._forward(points)
        last = self._blocks[-1]
        height, width = last.pooled
        rows: list[np.ndarray] = []
        for output in self._weights[-2] * self._scale[0]:
            if self.estimator.head == "average":
                of_features = np.broadcast_to(output[:, None, None] / (height * width), (last.outputs, height, width))
            else:
                assert len(output) == head_inputs(self.estimator.definition, self._blocks)
                of_features = output.reshape(last.outputs, height, width)
            change = np.broadcast_to(of_features, (len(points), *of_features.shape))
            for block, kernels, (activated, greatest) in zip(reversed(self._blocks), self._weights[-4::-2], reversed(kept), strict=True):
                change = self._back(block, kernels, activated, greatest, change)
            of_inputs = np.moveaxis(change.sum(axis=0), 0, 2) / self.estimator.scale_
            rows.append(of_inputs.reshape(-1))
        return np.stack(rows)

    def _back(self, block: Block, kernels: np.ndarray, activated: np.ndarray, greatest: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Return the gradient by the inputs of a block, points × channels × height × width, from that by its outputs."""
        (down, across), (height, width) = block.pool, block.pooled
        pools = np.zeros((*greatest.shape[:-1], down * across))
        np.put_along_axis(pools, greatest, np.moveaxis(change, 1, 3)[..., None], axis=-1)
        of_sums = np.zeros_like(activated)
        spread = pools.reshape(len(pools), height, width, block.outputs, down, across).transpose(0, 1, 4, 2, 5, 3)
        of_sums[:, : height * down, : width * across] = spread.reshape(len(pools), height * down, width * across, block.outputs)
        of_sums *= activated > 0 if self.estimator.activation == "relu" else 1 - activated**2
        left, right, above, below = block.padding
        padded = np.zeros((len(change), block.inputs, block.height + above + below, block.width + left + right))
        for row, column in np.ndindex(*block.kernel):
            part = np.tensordot(of_sums, kernels[:, :, row, column], axes=([3], [0]))
            padded[:, :, row : row + block.height, column : column + block.width] += np.moveaxis(part, 3, 1)
        return padded[:, :, above : above + block.height, left : left + block.width]


def _pools(activated: np.ndarray, block: Block) -> np.ndarray:
    """Points × height × width × outputs × the values of a pool, without those that are left over."""
    (down, across), (height, width) = block.pool, block.pooled
    kept = activated[:, : height * down, : width * across]
    pools = kept.reshape(len(kept), height, down, width, across, block.outputs).transpose(0, 1, 3, 5, 2, 4)
    return pools.reshape(len(kept), height, width, block.outputs, down * across)
