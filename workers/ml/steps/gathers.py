"""Steps on seismic gathers, whose channels are traces: gain, noise, and traces that are missing."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from workers.ml.contents.content import Content, ContentError, ContentOperation
from workers.ml.steps.contents import columns_name, content_step
from workers.ml.steps.step import Parameters

if TYPE_CHECKING:
    from workers.ml.contents.traces import Gather

_MODALITIES = ("SIGNAL",)


class GainParameters(Parameters):
    method: Literal["automatic", "time"] = Field(
        default="automatic",
        title="Method",
        description="`automatic`: each sample is divided by the RMS of the window around it; `time`: it is multiplied by a power of its time.",
    )
    window: float = Field(
        default=0.5, gt=0, le=100, title="Window", description="In seconds, of the automatic gain: shorter windows level more."
    )
    power: float = Field(default=2.0, ge=0, le=10, title="Power", description="Of the time in seconds, with the method `time`.")


class KillParameters(Parameters):
    method: Literal["random", "loud"] = Field(
        default="random",
        title="Method",
        description="`random`: a share of the traces, which are held back so that a reconstruction can be compared with them; `loud`: traces that are much louder"
        " than the others, which are noise.",
    )
    share: float = Field(default=0.5, gt=0, lt=1, title="Share", description="Of the traces of each gather, with the method `random`.")
    level: float = Field(
        default=5.0,
        gt=1,
        le=1e6,
        title="Level",
        description="With the method `loud`, by how many times the RMS of a trace is above the median of its gather.",
    )
    seed: int = Field(
        default=0, ge=0, le=2**32 - 1, title="Seed", description="Draws the traces; each gather has other ones, and the same each time."
    )


class ReconstructParameters(Parameters):
    method: Literal["pocs", "linear", "pchip"] = Field(
        default="pocs",
        title="Method",
        description="`pocs`: projection onto convex sets, by the strong coefficients of the Fourier transform of patches; `linear` and `pchip`: interpolation of each"
        " sample over the traces, by lines or monotone cubics.",
    )
    iterations: int = Field(default=40, ge=1, le=1_000, title="Iterations", description="Of the method `pocs`.")
    final_threshold: float = Field(
        default=0.1,
        gt=0,
        lt=0.99,
        title="Final threshold",
        description="The weakest coefficients that `pocs` keeps, as a share of the strongest; the more noise, the higher it should be.",
    )
    dead_level: float = Field(
        default=1e-3,
        ge=0,
        lt=1,
        title="Dead level",
        description="Traces whose RMS is below this share of the median of the gather are dead, and reconstructed too.",
    )


class DenoiseParameters(Parameters):
    rank: int = Field(
        default=4,
        ge=1,
        le=16,
        title="Rank",
        description="How many straight events a patch of 32 traces and 64 samples may have; fewer remove more noise, and bend what is curved.",
    )


class QualityParameters(Parameters):
    name: str = columns_name("traces")


def gain(parameters: GainParameters) -> Callable[[Content], Content]:
    from workers.ml.signal_processing import gathers

    def apply(content: Content) -> Content:
        if content.rate is None:
            raise ContentError("has no sampling rate, so times are not known.")
        if parameters.method == "time":
            return replace(content, values=gathers.time_gain(content.values.T, content.rate, parameters.power).T)
        return replace(content, values=gathers.automatic_gain(content.values.T, max(1, round(parameters.window * content.rate))).T)

    return apply


def kill(parameters: KillParameters) -> Callable[[Content], Gather]:
    import numpy as np  # the API imports the registry only for its schemas

    from workers.ml.contents.traces import Gather
    from workers.ml.signal_processing.gathers import loud_traces, random_traces

    def apply(content: Content) -> Gather:
        traces = content.values.shape[1]
        if traces < 2:
            raise ContentError("has one trace, without which nothing is left.")
        if parameters.method == "loud":
            missing, truth = loud_traces(content.values.T, parameters.level), None
        else:
            seed = zlib.crc32(np.ascontiguousarray(content.values).tobytes(), parameters.seed)
            missing, truth = random_traces(traces, parameters.share, seed), content.values
        values = np.where(missing, 0.0, content.values)
        return Gather(content.kind, values, content.rate, content.start, missing, truth)

    return apply


def reconstruct(parameters: ReconstructParameters) -> Callable[[Content], Content]:
    from workers.ml.contents.traces import Gather
    from workers.ml.signal_processing import reconstruction
    from workers.ml.signal_processing.errors import Unsuitable
    from workers.ml.signal_processing.gathers import dead_traces

    def apply(content: Content) -> Content:
        values = content.values.T
        missing = dead_traces(values, parameters.dead_level)
        if isinstance(content, Gather) and content.missing is not None:
            missing |= content.missing
        if not missing.any():
            return content
        try:
            if parameters.method == "pocs":
                values = reconstruction.pocs(values, missing, parameters.iterations, parameters.final_threshold)
            elif parameters.method == "linear":
                values = reconstruction.interpolate_linearly(values, missing)
            else:
                values = reconstruction.interpolate_pchip(values, missing)
        except Unsuitable as error:
            raise ContentError(f"{error}.") from error
        return replace(content, values=values.T)

    return apply


def denoise(parameters: DenoiseParameters) -> Callable[[Content], Content]:
    from workers.ml.signal_processing.denoising import reduce_rank

    return lambda content: replace(content, values=reduce_rank(content.values.T, parameters.rank).T)


def measure(_: QualityParameters) -> Callable[[Content], dict[str, float | None]]:
    from workers.ml.contents.traces import quality_of

    def read(content: Content) -> dict[str, float | None]:
        found = quality_of(content)
        if found is None:
            raise ContentError(
                "has no trace that was held back. Link a kill_traces step before this one, and none that resamples or cuts between them."
            )
        return found

    return read


GAIN = content_step(
    "gain_traces",
    title="Gain",
    description="Makes late and weak events of a gather as visible as early and strong ones.",
    parameters=GainParameters,
    modalities=_MODALITIES,
    content=ContentOperation("change", gain),
)
KILL = content_step(
    "kill_traces",
    title="Kill traces",
    description="Removes traces of each gather: a random share, which later steps compare a reconstruction with, or those that are only noise. Link filters and gains"
    " before it, since the traces that are held back are not changed by later ones.",
    parameters=KillParameters,
    modalities=_MODALITIES,
    content=ContentOperation("change", kill),
)
RECONSTRUCT = content_step(
    "reconstruct_traces",
    title="Reconstruct traces",
    description="Fills in the traces of each gather that were removed before or are dead. Traces are taken to be evenly spaced.",
    parameters=ReconstructParameters,
    modalities=_MODALITIES,
    content=ContentOperation("change", reconstruct),
)
DENOISE = content_step(
    "denoise_traces",
    title="Denoise traces",
    description="Removes random noise of each gather by the rank of its frequency slices, which only few straight events keep low.",
    parameters=DenoiseParameters,
    modalities=_MODALITIES,
    content=ContentOperation("change", denoise),
)
QUALITY = content_step(
    "trace_quality",
    title="Trace quality",
    description="Compares the traces that a kill_traces step held back with what they are now, as columns: SNR and PSNR in decibels, where zeros would be 0 dB of SNR,"
    " and the mean squared error.",
    parameters=QualityParameters,
    modalities=_MODALITIES,
    content=ContentOperation("read", measure),
)
