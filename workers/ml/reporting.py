"""How a body tells the worker what it is doing; the only way out of the child besides its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

NodeStatus = Literal["pending", "running", "completed", "failed", "skipped", "cancelled"]


class Reporter(Protocol):
    """Calls are cheap: the worker thins them out, so a body reports as often as it likes."""

    def progress(self, percent: float, step: str) -> None:
        """`percent` of the whole body, 0 to 100, never falling; `step` in words people read."""
        ...

    def node(
        self,
        key: str,
        status: NodeStatus,
        progress: int = 0,
        output: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        """State of one node of a pipeline; `output` is a small summary (rows, columns, metrics), JSON-able."""
        ...

    def metric(self, key: str, step: int, value: float) -> None:
        """One point of a curve: `step` is an epoch, boosting round or fold counted from 0; NaN and infinities are kept."""
        ...

    def checkpoint(self, name: str, position: int, state: dict[str, Any], file: Path | None = None, *, disposable: bool = False) -> None:
        """What is done so far, for another attempt to go on from: `position` counts it and only grows, `state` is small and JSON-able.

        `file` is whole and no longer changes. It is stored while the body goes on, and then removed if it is disposable.
        """
        ...

    def resumed(self, name: str, message: str) -> None:
        """The checkpoint that came with the spec is used; to be told before any point. `message` goes to the job's log."""
        ...

    def restarted(self, name: str, message: str) -> None:
        """It could not be used: all that an earlier attempt reported is forgotten. To be told before any point."""
        ...

    def log(self, message: str) -> None:
        """A line for the job's log."""
        ...
