"""The interface through which a body reports to the worker. Besides its result, nothing else leaves the child process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

NodeStatus = Literal["pending", "running", "completed", "failed", "skipped", "cancelled"]


class ProgressReporter(Protocol):
    """The part of `Reporter` that reports progress."""

    def progress(self, percent: float, step: str) -> None:
        """Report `percent` of the whole body, 0 to 100 and never decreasing; `step` says to users what it does now.

        It is in the style of the titles of steps, "Train random forest": a verb first, then, after a colon, how much of it is done.
        """
        ...


class Reporter(ProgressReporter, Protocol):
    """Calls are cheap: the worker coalesces them, so a body may report as often as it likes."""

    def node(
        self,
        key: str,
        status: NodeStatus,
        progress: int = 0,
        output: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        """Report the state of one node: of a pipeline, or a stage of an ingest. `progress` is in percent; `output` is a small JSON summary."""
        ...

    def metric(self, key: str, step: int, value: float) -> None:
        """Report one point of a curve. `step` is an epoch, boosting round or fold counted from 0; NaN and infinities are kept."""
        ...

    def checkpoint(self, name: str, position: int, state: dict[str, Any], file: Path | None = None, *, disposable: bool = False) -> None:
        """Store a checkpoint from which a later attempt can resume. `position` measures progress and only grows; `state` is small JSON.

        `file` must be complete and must not change any more. It is uploaded while the body continues, then deleted if `disposable`.
        """
        ...

    def resumed(self, name: str, message: str) -> None:
        """Report that the checkpoint in the spec is used. Call before any `metric`; `message` goes to the job's log."""
        ...

    def restarted(self, name: str, message: str) -> None:
        """Report that the checkpoint could not be used: what earlier attempts reported is discarded. Call before any `metric`."""
        ...

    def ask(self, question: str, arguments: dict[str, Any]) -> Any:
        """Ask the worker, and wait for its answer, which is JSON. The task that runs the body says which questions it answers; what was reported before
        reaches it first."""
        ...

    def log(self, message: str) -> None:
        """Add a line to the job's log."""
        ...
