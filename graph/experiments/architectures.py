"""What neural networks are made of."""

from collections.abc import Mapping
from typing import Any, Self

import strawberry

from graph.core.scalars import JSON, BigInt


@strawberry.type(description="What a neural network is made of, and how large it is.")
class Architecture:
    definition: JSON = strawberry.field(
        description="Its `type` and layers, as an object without inputs and outputs, which follow from the data: of a `perceptron` the units of each of its"
        " `hidden` layers and their `activation`; of a `convolutional` network its `dimensions` (1 of signals, 2 of images), the `channels` that each block makes,"
        " its `kernel`, `pool`, `activation` and `head`. Equal networks have equal definitions, by whichever parameters they were made."
    )
    hash: str = strawberry.field(
        description="The SHA-256 of the definition as JSON without spaces, its keys in order: equal for equal architectures."
    )
    parameter_count: BigInt = strawberry.field(description="How many numbers it has learned: weights and biases.")
    flops: BigInt = strawberry.field(
        description="Floating-point operations of one prediction: two for each multiplication with its addition, for one row."
    )
    size_bytes: BigInt = strawberry.field(description="The size of its parameters in memory.")

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            definition=document["definition"],
            hash=document["hash"],
            parameter_count=document["parameterCount"],
            flops=document["flops"],
            size_bytes=document["sizeBytes"],
        )
