"""The layers of a convolutional network: what a definition makes of inputs of a certain layout, and how large that is, in closed form.

A block is a convolution whose outputs are as many as its inputs (padded by zeros, of an even kernel one more behind), the activation, and the maximum of each
`pool` values, without those that are left over; a side shorter than `pool` is not pooled. A linear layer follows, of all values of the last block or of the mean of
each of its channels. Signals have one row, so a kernel and a pool are one high.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workers.ml.architectures import Architecture

FLOAT32_BYTES = 4
CHANNELS = (1, 3)
"""Tried in this order where the number of channels is not given: grey and coloured images."""


@dataclass(frozen=True)
class Layout:
    """What the columns of a row are: the values of each place row by row, its channels beside each other."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Block:
    """A convolution of `kernel` (height, width) from `inputs` to `outputs` channels over height × width places, then the maximum of each `pool`."""

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    height: int
    width: int
    pool: tuple[int, int]

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs * self.kernel[0] * self.kernel[1]

    @property
    def pooled(self) -> tuple[int, int]:
        return self.height // self.pool[0], self.width // self.pool[1]

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Left, right, above and below."""
        down, across = self.kernel[0] - 1, self.kernel[1] - 1
        return across // 2, across - across // 2, down // 2, down - down // 2


def layout_of(columns: int, dimensions: int, channels: int | None, height: int | None) -> Layout | None:
    """The layout of so many columns: a signal (`dimensions` 1), or an image, with equal sides unless its height is given. None if none fits."""
    for count in CHANNELS[: 1 if dimensions == 1 else None] if channels is None else (channels,):
        places, rest = divmod(columns, count)
        if rest:
            continue
        rows = 1 if dimensions == 1 else math.isqrt(places) if height is None else height
        if rows and places % rows == 0 and (dimensions == 1 or height is not None or rows * rows == places):
            return Layout(count, rows, places // rows)
    return None


def definition_of(parameters: Any) -> dict[str, Any]:
    """The definition that the parameters of a step or of an estimator make."""
    layers = {name: getattr(parameters, name) for name in ("kernel", "pool", "activation", "head")}
    channels = [parameters.width * parameters.growth**block for block in range(parameters.depth)]
    return {"type": "convolutional", "dimensions": parameters.dimensions, "channels": channels, **layers}


def blocks_of(definition: dict[str, Any], layout: Layout) -> list[Block]:
    blocks: list[Block] = []
    inputs, height, width = layout.channels, layout.height, layout.width
    is_image, kernel, pool = definition["dimensions"] == 2, definition["kernel"], definition["pool"]
    for outputs in definition["channels"]:
        pools = (pool if is_image and height >= pool else 1, pool if width >= pool else 1)
        block = Block(inputs, outputs, (kernel if is_image else 1, kernel), height, width, pools)
        blocks.append(block)
        inputs, (height, width) = outputs, block.pooled
    return blocks


def head_inputs(definition: dict[str, Any], blocks: Sequence[Block]) -> int:
    """How many values the linear layer takes."""
    height, width = blocks[-1].pooled
    return blocks[-1].outputs * (1 if definition["head"] == "average" else height * width)


def convolutional(definition: dict[str, Any], layout: Layout, outputs: int) -> Architecture:
    """The architecture with its sizes; it computes with 32 bits."""
    blocks = blocks_of(definition, layout)
    features = head_inputs(definition, blocks)
    parameters = sum(block.weights + block.outputs for block in blocks) + (features + 1) * outputs
    multiplications = sum(block.weights * block.height * block.width for block in blocks) + features * outputs
    size = f"{layout.height}x{layout.width}x{layout.channels}" if definition["dimensions"] == 2 else f"{layout.width}x{layout.channels}"
    middle = "-".join(map(str, definition["channels"]))
    text = f"{size}-{middle}-{outputs} kernel {definition['kernel']} {definition['activation']}"
    return Architecture(text, definition, parameters, 2 * multiplications, parameters * FLOAT32_BYTES)
