"""What becomes of an error in a node: a message for users without the words of a library, and the states of the nodes.

Steps check for the causes that are known, and raise BadInput with advice. What they do not foresee is an error of a library, whose message names
neither the user's columns nor a parameter that they have: it goes to the job's log.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workers.ml.errors import BadInput, Transient
from workers.ml.reporting import Reporter

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle
    from workers.ml.steps.step import PipelineNode

RETRYABLE = (OSError, EOFError, Transient)
"""Errors after which another attempt may succeed, whatever the node did before."""


def unsuitable_data_errors() -> tuple[type[Exception], ...]:
    """Errors that the libraries raise for data they cannot process."""
    import polars as pl  # these take a second to import
    from lightgbm.basic import LightGBMError

    return (ValueError, ArithmeticError, LightGBMError, pl.exceptions.InvalidOperationError, pl.exceptions.SchemaError)


def as_bad_input(reporter: Reporter, error: Exception, node: PipelineNode) -> BadInput | None:
    """Return the error for users, and log what a library said; None for an error that the data do not explain."""
    if isinstance(error, BadInput):
        return error
    if not isinstance(error, unsuitable_data_errors()):
        return None
    reporter.log(f"{type(error).__name__} in step '{node.key}': {' '.join(str(error).split())}")
    message = (
        f"Step '{node.key}' ({node.step.title}) cannot process these values; the job's log has what its library said. Look for extreme values in the "
        "profile of the columns, leave out the columns that it does not need, or choose another step."
    )
    return BadInput("UNSUITABLE_DATA", message, path=node.path())


def report_failure(bundle: Bundle, error: BadInput, running: PipelineNode, nodes: Sequence[PipelineNode]) -> None:
    """Report as failed the node that the error's path names, which may not be the one that raised; the rest are skipped."""
    failed_index = error.path[2] if error.path and error.path[:2] == ["definition", "nodes"] else str(running.index)
    failed = next((node for node in nodes if str(node.index) == failed_index), running)
    reporter = bundle.reporter
    if failed is not running:
        reporter.progress(bundle.progress_span[0], failed.step.title)  # the job's current step is the one that failed
        reporter.node(running.key, "skipped")
    _report_failed(reporter, error, failed)
    for node in nodes[nodes.index(running) + 1 :]:
        if node is not failed:
            reporter.node(node.key, "skipped")


def keep_model(reporter: Reporter, error: Exception, node: PipelineNode) -> None:
    """Report as failed a step that only evaluates: whatever it raised, the trained model is kept and the job goes on."""
    bad_input = as_bad_input(reporter, error, node)
    if bad_input is None:
        reporter.log("".join(traceback.format_exception(error)))
        bad_input = BadInput("BODY_FAILED", f"Step '{node.key}' ({node.step.title}) failed unexpectedly; the job's log has the traceback.")
    _report_failed(reporter, bad_input, node)
    reporter.log(f"{bad_input.message} The trained model is kept.")


@contextmanager
def optional(reporter: Reporter, subject: str) -> Generator[None]:
    """Go on without what the block makes of a trained model, and log why, unless another attempt may succeed."""
    try:
        yield
    except RETRYABLE:
        raise
    except Exception as error:  # noqa: BLE001 - a model is not thrown away because something about it cannot be shown
        reporter.log(f"{subject} could not be made. The trained model is kept. {type(error).__name__}: {' '.join(str(error).split())}")


def _report_failed(reporter: Reporter, error: BadInput, node: PipelineNode) -> None:
    reporter.node(node.key, "failed", 0, None, {"code": error.code, "message": error.message, "retryable": False})
