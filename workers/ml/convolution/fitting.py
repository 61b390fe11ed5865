"""Trains a convolutional network by torch, epoch by epoch, on one thread: the same seed gives the same bytes, also after a checkpoint."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

# An extra that those who check the types need not have.
torch: Any = import_module("torch")
functional: Any = import_module("torch.nn.functional")

THREADS = 1
MOMENTS = ("exp_avg", "exp_avg_sq")


class Training:
    """A training of an estimator, whose `weights_` are those of torch, so that it predicts what has been learned so far."""

    def __init__(self, estimator: Any, matrix: np.ndarray, target: np.ndarray) -> None:
        self.estimator = estimator
        self.target = torch.from_numpy(estimator.begin(matrix, target))
        self.inputs = torch.from_numpy(estimator.inputs(matrix))
        self.generator = np.random.RandomState([estimator.random_state, 1])
        self.parameters = [torch.from_numpy(weights).requires_grad_() for weights in estimator.weights_]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": self.parameters[::2], "weight_decay": estimator.weight_decay},
                {"params": self.parameters[1::2], "weight_decay": 0.0},  # biases
            ],
            lr=estimator.learning_rate,
            foreach=False,
        )
        self._is_classifier = hasattr(estimator, "classes_")

    def run_epoch(self) -> None:
        """Learn from all rows once, in an order by chance."""
        size = self.estimator.batch_size
        order = torch.from_numpy(self.generator.permutation(len(self.inputs)))
        with _one_thread():
            for rows in order.split(size):
                self.optimizer.zero_grad()
                self._loss(self.outputs(self.inputs[rows]), self.target[rows]).backward()
                self.optimizer.step()

    def finish(self) -> None:
        """Leave the estimator with arrays of its own."""
        self.estimator.weights_ = self.copied()

    def copied(self) -> list[np.ndarray]:
        return [parameter.detach().numpy().copy() for parameter in self.parameters]

    def outputs(self, values: Any) -> Any:
        """What `ConvolutionalNetwork.outputs` computes, with gradients."""
        activate = torch.relu if self.estimator.activation == "relu" else torch.tanh
        for number, block in enumerate(self.estimator.blocks):
            padded = functional.pad(values, block.padding)
            convolved = functional.conv2d(padded, self.parameters[2 * number], self.parameters[2 * number + 1])
            values = functional.max_pool2d(activate(convolved), block.pool)
        features = values.mean(dim=(2, 3)) if self.estimator.head == "average" else values.flatten(1)
        return functional.linear(features, self.parameters[-2], self.parameters[-1])

    def _loss(self, outputs: Any, target: Any) -> Any:
        if not self._is_classifier:
            return functional.mse_loss(outputs[:, 0], target)
        if outputs.shape[1] == 1:
            return functional.binary_cross_entropy_with_logits(outputs[:, 0], target.to(outputs.dtype))
        return functional.cross_entropy(outputs, target)

    def write(self, path: Path, kept: dict[int, list[np.ndarray]]) -> None:
        """Write all that the next epoch depends on as plain arrays, and the parameters that are `kept`."""
        _, keys, position, *_ = self.generator.get_state()
        arrays: dict[str, Any] = {f"parameter_{number}": values for number, values in enumerate(self.copied())}
        for number, parameter in enumerate(self.parameters):
            state = self.optimizer.state[parameter]
            arrays |= {f"{name}_{number}": state[name].numpy() for name in MOMENTS}
            arrays["steps"] = state["step"].numpy()
        arrays |= {f"kept_{step}_{number}": values for step, each in kept.items() for number, values in enumerate(each)}
        with path.open("wb") as file:
            np.savez(file, keys=keys, position=np.array(position), kept=np.array(list(kept), np.int64), **arrays)

    def read(self, path: Path) -> dict[int, list[np.ndarray]]:
        """Go on after a checkpoint; return the parameters that it keeps."""
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = dict(file)
        self.generator.set_state(("MT19937", arrays["keys"], int(arrays["position"]), 0, 0.0))  # it has drawn no normal numbers
        for number, parameter in enumerate(self.parameters):
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(arrays[f"parameter_{number}"]))
            moments = {name: torch.from_numpy(arrays[f"{name}_{number}"]) for name in MOMENTS}
            self.optimizer.state[parameter] = {"step": torch.tensor(float(arrays["steps"])), **moments}
        return {int(step): [arrays[f"kept_{step}_{number}"] for number in range(len(self.parameters))] for step in arrays["kept"]}


@contextmanager
def _one_thread() -> Generator[None]:
    """With several threads the order of sums varies. Other bodies may run in this process later, so the number is set back."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)
