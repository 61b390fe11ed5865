"""Step that writes signals as items of a new version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.ml.contents.content import ContentOperation
from workers.ml.steps.contents import content_step
from workers.ml.steps.step import Parameters, PipelineNode

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle


class WriteSignalsParameters(Parameters):
    """No parameters."""


def write(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: NO_ITEMS, NO_ROWS, BAD_CONTENT."""
    from workers.ml.contents.writing import write_contents  # the API imports the registry only for its schemas

    bundle.written, output = write_contents(bundle, node)
    return output


WRITE_SIGNALS = content_step(
    "write_signals",
    title="Write signals",
    description="Writes the signals as they are at this place, as items of the new version: gathers of a SEG-Y file as SEG-Y, others as an archive of arrays. The"
    " table of the version is made from them as from an upload, with the columns that the pipeline read. It is the last step of a pipeline without training. Its output"
    " has SNR, PSNR and mean squared error of traces that were held back.",
    parameters=WriteSignalsParameters,
    modalities=("SIGNAL",),
    content=ContentOperation("write", lambda _: lambda content: content),
    run=write,
)
