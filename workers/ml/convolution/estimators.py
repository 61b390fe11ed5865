"""Estimators of convolutional networks. They are fitted by torch and predict with numpy, so whoever predicts or explains needs no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from workers.ml.convolution.layers import Block, Layout, blocks_of, definition_of, head_inputs, layout_of

MAX_WINDOW_VALUES = 1 << 24
"""Of the windows of a convolution that are in memory at once."""


class ConvolutionalNetwork(BaseEstimator):
    """The parameters are those of the step `train_cnn`. Fitted, it has `weights_`: of each block the kernels, outputs × inputs × height × width, and biases; then
    those of the linear layer, outputs × features. Inputs are shifted by `mean_` and divided by `scale_`, of each channel."""

    def __init__(
        self,
        dimensions: int = 2,
        channels: int | None = None,
        height: int | None = None,
        depth: int = 2,
        width: int = 16,
        growth: int = 2,
        kernel: int = 3,
        pool: int = 2,
        activation: str = "relu",
        head: str = "flatten",
        learning_rate: float = 1e-3,
        batch_size: int = 32,
        weight_decay: float = 1e-4,
        max_epochs: int = 20,
        random_state: int = 0,
    ) -> None:
        self.dimensions = dimensions
        self.channels = channels
        self.height = height
        self.depth = depth
        self.width = width
        self.growth = growth
        self.kernel = kernel
        self.pool = pool
        self.activation = activation
        self.head = head
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.random_state = random_state

    @property
    def definition(self) -> dict[str, Any]:
        return definition_of(self)

    @property
    def layout(self) -> Layout:
        layout = layout_of(self.n_features_in_, self.dimensions, self.channels, self.height)
        if layout is None:
            raise ValueError(f"{self.n_features_in_} columns are no {'signal' if self.dimensions == 1 else 'image'} of these channels.")
        return layout

    @property
    def blocks(self) -> list[Block]:
        return blocks_of(self.definition, self.layout)

    def named_weights(self) -> dict[str, np.ndarray]:
        """The weights as torch lays them out, `blocks.0.weight` and so on; of the inputs what they are shifted by and divided by."""
        names = [
            f"{part}.{kind}" for part in (*(f"blocks.{number}" for number in range(self.depth)), "head") for kind in ("weight", "bias")
        ]
        return dict(zip(names, self.weights_, strict=True)) | {"input.mean": self.mean_, "input.scale": self.scale_}

    def fit(self, matrix: np.ndarray, target: np.ndarray) -> Any:
        """Train for `max_epochs`. Needs torch."""
        from workers.ml.convolution.fitting import Training

        training = Training(self, matrix, target)
        for _ in range(self.max_epochs):
            training.run_epoch()
        training.finish()
        return self

    def begin(self, matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Set what follows from the data before the training, and weights by chance (He et al., 2015); return the target as the network learns it.

        Of classes these are their positions, of numbers their distance from the mean in standard deviations.
        """
        self.n_features_in_ = matrix.shape[1]
        layout = self.layout
        values = matrix.reshape(-1, layout.channels)
        self.mean_, deviations = values.mean(axis=0).astype(np.float32), values.std(axis=0).astype(np.float32)
        self.scale_ = np.where(deviations > 0, deviations, np.float32(1))
        learned, outputs = self._begin_target(target)
        rng = np.random.RandomState(self.random_state)
        self.weights_: list[np.ndarray] = []
        for block in self.blocks:
            shape = (block.outputs, block.inputs, *block.kernel)
            deviation = np.sqrt(2 * block.outputs / block.weights)
            self.weights_ += [(rng.standard_normal(shape) * deviation).astype(np.float32), np.zeros(block.outputs, np.float32)]
        features = head_inputs(self.definition, self.blocks)
        self.weights_ += [(rng.standard_normal((outputs, features)) / np.sqrt(features)).astype(np.float32), np.zeros(outputs, np.float32)]
        return learned

    def _begin_target(self, target: np.ndarray) -> tuple[np.ndarray, int]:
        raise NotImplementedError

    def inputs(self, matrix: np.ndarray) -> np.ndarray:
        """The rows as the first block takes them: rows × channels × height × width, of 32 bits."""
        layout = self.layout
        values = np.asarray(matrix, dtype=np.float32).reshape(-1, layout.height, layout.width, layout.channels)
        return np.ascontiguousarray(np.moveaxis((values - self.mean_) / self.scale_, 3, 1))

    def outputs(self, matrix: np.ndarray) -> np.ndarray:
        """The values of the linear layer, rows × outputs, of 64 bits."""
        largest = max(block.inputs * block.kernel[0] * block.kernel[1] * block.height * block.width for block in self.blocks)
        batch = max(1, MAX_WINDOW_VALUES // largest)
        parts = [self._outputs(self.inputs(matrix[start : start + batch])) for start in range(0, len(matrix), batch)]
        return np.concatenate(parts).astype(np.float64) if parts else np.empty((0, len(self.weights_[-1])))

    def _outputs(self, values: np.ndarray) -> np.ndarray:
        for number, block in enumerate(self.blocks):
            left, right, above, below = block.padding
            padded = np.pad(values, ((0, 0), (0, 0), (above, below), (left, right)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, block.kernel, axis=(2, 3))
            convolved = np.tensordot(windows, self.weights_[2 * number], axes=([1, 4, 5], [1, 2, 3])) + self.weights_[2 * number + 1]
            activated = np.maximum(convolved, 0) if self.activation == "relu" else np.tanh(convolved)
            (down, across), (height, width) = block.pool, block.pooled
            kept = activated[:, : height * down, : width * across]
            pooled = kept.reshape(len(values), height, down, width, across, block.outputs).max(axis=(2, 4))
            values = np.moveaxis(pooled, 3, 1)
        features = values.mean(axis=(2, 3)) if self.head == "average" else values.reshape(len(values), -1)
        return features @ self.weights_[-2].T + self.weights_[-1]


class ConvolutionalClassifier(ClassifierMixin, ConvolutionalNetwork):
    """Of two classes, the one output is the log-odds of the second."""

    def _begin_target(self, target: np.ndarray) -> tuple[np.ndarray, int]:
        self.classes_, positions = np.unique(target, return_inverse=True)
        return positions.astype(np.int64), len(self.classes_) if len(self.classes_) > 2 else 1

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        outputs = self.outputs(matrix)
        if outputs.shape[1] == 1:
            second = 1 / (1 + np.exp(-np.clip(outputs, -500, 500)))
            return np.hstack([1 - second, second])
        exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(matrix).argmax(axis=1)]


class ConvolutionalRegressor(RegressorMixin, ConvolutionalNetwork):
    """The output is in standard deviations of the training targets from their mean."""

    def _begin_target(self, target: np.ndarray) -> tuple[np.ndarray, int]:
        self.target_mean_, deviation = float(target.mean()), float(target.std())
        self.target_scale_ = deviation or 1.0
        return ((target - self.target_mean_) / self.target_scale_).astype(np.float32), 1

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        return self.outputs(matrix)[:, 0] * self.target_scale_ + self.target_mean_
