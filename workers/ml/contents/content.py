"""The content of an item as arrays, and what an operation on it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from workers.ml.node import Node

if TYPE_CHECKING:
    import numpy as np  # the API imports the steps only for their schemas

    Columns = Mapping[str, float | None] | np.ndarray

Role = Literal["files", "change", "divide", "read", "augment", "write"]


class ContentError(Exception):
    """An operation cannot take the content of an item. The message goes on after "It", such as "has fewer than 64 samples. Choose a shorter window.".

    `node` is the one whose operation that is, where it is applied later than in its turn.
    """

    node: ContentNode | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """The content of an item, or of a part of one.

    `values` of an image are height × width × bands, float32 from 0 to 1; of a recording or a signal, samples × channels, float64; a video is a `Film`,
    which has none. `kind` is that of the item's `info`; `rate` is in samples a second, None for images and where it is not known; `start` is the first
    sample of a part in its item.
    """

    kind: str
    values: np.ndarray
    rate: float | None = None
    start: int = 0


@dataclass(frozen=True, slots=True)
class ContentOperation:
    """What a step does with the content of each item. `make` returns the function from the step's parameters:

    change: from content to content; divide: from content to its parts, each of which becomes a row; read: from content to numbers by name, or a vector of
    them, as columns of its row, the same for every item, with NaN or None for a missing one; augment: from content, a random generator and the
    number of the copy to the content of a copy. They depend on nothing else, and raise ContentError. What a step that writes takes is the content as it is.
    A step of `files` has no such function: it says which files of a row the steps after it work on.
    """

    role: Role
    make: Callable[[Any], Callable[..., Any]]


class ContentStep(Protocol):
    """What the contents need to know of a step."""

    @property
    def key(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def modalities(self) -> tuple[str, ...]: ...

    @property
    def content(self) -> ContentOperation | None: ...


@dataclass(frozen=True)
class ContentNode(Node):
    """A node with validated parameters."""

    step: ContentStep
    parameters: Any

    @property
    def step_key(self) -> str:
        return self.step.key
