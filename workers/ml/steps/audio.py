"""Steps on the contents of recordings."""

from __future__ import annotations

from pydantic import Field

from workers.ml.steps.columns import ColumnName
from workers.ml.steps.contents import columns_name, content_step, operation
from workers.ml.steps.step import Parameters

_AUDIO = ("AUDIO",)


class MonoParameters(Parameters):
    """No parameters."""


class ResampleParameters(Parameters):
    rate: int = Field(default=16_000, ge=1_000, le=192_000, title="Rate", description="Samples a second of every recording.")


class TrimParameters(Parameters):
    threshold: float = Field(
        default=40.0, ge=1, le=120, title="Threshold", description="How many decibels below its loudest 10 ms a recording counts as silent."
    )
    margin: float = Field(default=0.05, ge=0, le=10, title="Margin", description="Seconds of silence that stay at either end.")


class AudioFeaturesParameters(Parameters):
    bands: int = Field(default=40, ge=4, le=128, title="Bands", description="Bands of the mel scale, evenly spaced as they are heard.")
    coefficients: int = Field(
        default=13,
        ge=1,
        le=40,
        title="Coefficients",
        description="Coefficients of the mel cepstrum; no more are made than there are bands.",
    )
    window: float = Field(
        default=0.032, ge=0.005, le=1.0, title="Window", description="Seconds of one spectrum, rounded to a power of two of samples."
    )
    top: float = Field(
        default=8_000.0,
        ge=500,
        le=96_000,
        title="Highest frequency",
        description="The upper end in Hz of the highest band. Recordings of lower rates are silent there.",
    )
    name: ColumnName = columns_name("audio")


MONO = content_step(
    "audio_mono",
    title="Mono",
    description="Makes one channel of all, their mean.",
    parameters=MonoParameters,
    modalities=_AUDIO,
    content=operation("change", "sounds", "mono"),
)
RESAMPLE = content_step(
    "resample_audio",
    title="Resample audio",
    description="Gives every recording the same sampling rate, without frequencies that it cannot hold.",
    parameters=ResampleParameters,
    modalities=_AUDIO,
    content=operation("change", "sounds", "resample"),
)
TRIM = content_step(
    "trim_audio",
    title="Trim audio",
    description="Cuts off silence at the beginning and the end of recordings. One of nothing but silence stays.",
    parameters=TrimParameters,
    modalities=_AUDIO,
    content=operation("change", "sounds", "trim"),
)
FEATURES = content_step(
    "audio_features",
    title="Audio features",
    description="Makes columns of how loud a recording is in each band of the mel scale and of its mel-frequency cepstral coefficients (MFCC), mean and "
    "standard deviation over time. The first five minutes of a recording count.",
    parameters=AudioFeaturesParameters,
    modalities=_AUDIO,
    content=operation("read", "sounds", "features"),
)
