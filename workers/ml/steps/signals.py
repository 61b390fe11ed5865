"""Steps on the samples of signals: filters, windows, and the features that models learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field

from workers.ml.contents.content import Content, ContentError, ContentOperation
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.contents import columns_name, content_step
from workers.ml.steps.step import Parameters

if TYPE_CHECKING:
    import numpy as np

MAX_WINDOWS = 100_000
MAX_SAMPLES = 1 << 28
_MODALITIES = ("SIGNAL", "AUDIO")
_FREQUENCY: dict[str, Any] = {"gt": 0, "le": 1e9}
_NEEDS_LIMIT = "A filter needs a lower limit, an upper limit, or both."


class DetrendParameters(Parameters):
    kind: Literal["linear", "constant"] = Field(
        default="linear",
        title="Kind",
        description="What is subtracted from each channel: `constant`: its mean; `linear`: the line that fits it best.",
    )


class BandpassParameters(Parameters):
    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "if": {"properties": {"low": {"type": "null"}}},
                    "then": {
                        "required": ["high"],
                        "x-message": _NEEDS_LIMIT,
                        "properties": {"high": {"type": "number", "x-message": _NEEDS_LIMIT}},
                    },
                }
            ]
        }
    )

    low: float | None = Field(
        **_FREQUENCY, title="Lower limit", description="In Hz; lower frequencies are removed. Null for a low-pass, which keeps them."
    )
    high: float | None = Field(
        default=None, **_FREQUENCY, title="Upper limit", description="In Hz; higher frequencies are removed. By default it is a high-pass."
    )
    order: int = Field(
        default=4, ge=1, le=10, title="Order", description="How steeply the filter falls; it runs forwards and backwards, which doubles it."
    )


class ResampleParameters(Parameters):
    rate: float = Field(**_FREQUENCY, title="Sampling rate", description="The new number of samples per second of each channel.")


class EnvelopeParameters(Parameters):
    low: float | None = Field(
        default=None,
        **_FREQUENCY,
        title="Lower limit",
        description="In Hz, of the band whose envelope is taken, such as that around a resonance; by default all frequencies.",
    )
    high: float | None = Field(default=None, **_FREQUENCY, title="Upper limit", description="In Hz, of the band likewise.")
    order: int = Field(default=4, ge=1, le=10, title="Order", description="How steeply the band falls.")


class WindowParameters(Parameters):
    length: int = Field(ge=2, le=10_000_000, title="Length", description="Samples of a window.")
    stride: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        title="Stride",
        description="Samples from the start of a window to that of the next; by default the length, so that windows do not overlap.",
    )
    rest: Literal["drop", "pad"] = Field(
        default="drop",
        title="Rest",
        description="What happens to samples that fill no window: `drop`: they are left out; `pad`: zeros are added to them.",
    )


class SignalFeatureParameters(Parameters):
    name: ColumnName = columns_name("signal")
    bands: int = Field(
        default=8,
        ge=0,
        le=256,
        title="Bands",
        description="In how many bands of equal width, from 0 to half the sampling rate, the share of the power is measured.",
    )


class SampleParameters(Parameters):
    name: ColumnName = columns_name("sample")


class SpectrogramParameters(Parameters):
    name: ColumnName = columns_name("spectrogram")
    segment: int = Field(
        default=256,
        ge=8,
        le=65_536,
        title="Segment",
        description="Samples of one spectrum; segments overlap by half. Longer ones tell frequencies apart, shorter ones times.",
    )
    bands: int = Field(
        default=16, ge=1, le=256, title="Bands", description="In how many bands of equal width the power is followed over time."
    )


def _on_samples(function: Callable[[np.ndarray, float | None], tuple[np.ndarray, float | None]]) -> Callable[[Content], Content]:
    """A function of contents, from one of channels × samples and their rate to the same."""

    def apply(content: Content) -> Content:
        import numpy as np  # the API imports the registry only for its schemas

        from workers.ml.signal_processing.errors import Unsuitable

        try:
            samples, rate = function(np.ascontiguousarray(content.values.T), content.rate)
        except Unsuitable as error:
            raise ContentError(f"{error}.") from error
        return replace(content, values=samples.T, rate=rate)

    return apply


def _rate(rate: float | None) -> float:
    if rate is None:
        raise ContentError("has no sampling rate, so frequencies are not known. Give `sampleRate` with the upload.")
    return rate


def detrend(parameters: DetrendParameters) -> Callable[[Content], Content]:
    from workers.ml.signal_processing import filters

    return _on_samples(lambda samples, rate: (filters.detrend(samples, parameters.kind), rate))


def bandpass(parameters: BandpassParameters) -> Callable[[Content], Content]:
    from workers.ml.signal_processing import filters

    band = parameters.low, parameters.high
    return _on_samples(lambda samples, rate: (filters.bandpass(samples, _rate(rate), band, parameters.order), rate))


def resample(parameters: ResampleParameters) -> Callable[[Content], Content]:
    from workers.ml.signal_processing import filters

    def apply(samples: np.ndarray, rate: float | None) -> tuple[np.ndarray, float]:
        if samples.size * parameters.rate / _rate(rate) > MAX_SAMPLES:
            raise ContentError(f"would have more than {MAX_SAMPLES:,} samples. Choose a lower rate.")
        return filters.resample(samples, _rate(rate), parameters.rate), parameters.rate

    return _on_samples(apply)


def envelope(parameters: EnvelopeParameters) -> Callable[[Content], Content]:
    from workers.ml.signal_processing import filters

    band = parameters.low, parameters.high

    def apply(samples: np.ndarray, rate: float | None) -> tuple[np.ndarray, float | None]:
        if band == (None, None):
            return filters.envelope(samples), rate
        return filters.envelope(samples, _rate(rate), band, parameters.order), rate

    return _on_samples(apply)


def windows(parameters: WindowParameters) -> Callable[[Content], Iterator[Content]]:
    from workers.ml.signal_processing import filters

    stride = parameters.stride or parameters.length

    def divide(content: Content) -> Iterator[Content]:
        found = filters.windows(content.values.T, parameters.length, stride, parameters.rest)
        if len(found) > MAX_WINDOWS:
            raise ContentError(f"has {len(found):,} windows; the maximum is {MAX_WINDOWS:,}. Choose a longer stride.")
        for number, window in enumerate(found):
            yield replace(content, values=window.T, start=content.start + number * stride)

    return divide


def features(parameters: SignalFeatureParameters) -> Callable[[Content], dict[str, float | None]]:
    from workers.ml.items import limits
    from workers.ml.items.envelope import FEATURES
    from workers.ml.items.signals import channel_features
    from workers.ml.signal_processing.spectra import band_shares

    def read(content: Content) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for number, samples in enumerate(content.values.T[: limits.MAX_FEATURE_CHANNELS], 1):
            suffix = "" if number == 1 else f"_{number}"
            values = dict.fromkeys(FEATURES) | channel_features(samples, content.rate)
            shares = band_shares(samples, parameters.bands) if parameters.bands else []
            values |= {f"band_{band}": share for band, share in enumerate(shares, 1)}
            found |= {f"{name}{suffix}": value for name, value in values.items()}
        return found

    return read


def samples(_parameters: SampleParameters) -> Callable[[Content], np.ndarray]:
    return lambda content: content.values.reshape(-1)


def spectrogram(parameters: SpectrogramParameters) -> Callable[[Content], dict[str, float]]:
    from workers.ml.items import limits
    from workers.ml.signal_processing.spectra import spectrogram_features

    def read(content: Content) -> dict[str, float]:
        if len(content.values) < parameters.segment:
            raise ContentError(f"has {len(content.values):,} samples, and a segment has {parameters.segment:,}. Choose a shorter segment.")
        found: dict[str, float] = {}
        for number, samples in enumerate(content.values.T[: limits.MAX_FEATURE_CHANNELS], 1):
            suffix = "" if number == 1 else f"_{number}"
            values = spectrogram_features(samples, parameters.segment, parameters.bands)
            found |= {f"{name}{suffix}": value for name, value in values.items()}
        return found

    return read


DETREND = content_step(
    "detrend_signal",
    title="Detrend signal",
    description="Removes the mean or the trend of each channel, such as the drift of a sensor.",
    parameters=DetrendParameters,
    modalities=_MODALITIES,
    content=ContentOperation("change", detrend),
)
BANDPASS = content_step(
    "bandpass_signal",
    title="Band-pass signal",
    description="Keeps the frequencies of a band by a Butterworth filter that shifts no phase; with one limit alone it is a low-pass or a high-pass.",
    parameters=BandpassParameters,
    modalities=_MODALITIES,
    content=ContentOperation("change", bandpass),
)
RESAMPLE = content_step(
    "resample_signal",
    title="Resample signal",
    description="Brings signals to one sampling rate, without the frequencies that it cannot hold.",
    parameters=ResampleParameters,
    modalities=("SIGNAL",),
    content=ContentOperation("change", resample),
)
ENVELOPE = content_step(
    "signal_envelope",
    title="Signal envelope",
    description="Replaces each channel by its envelope, the magnitude of the analytic signal, in which repeated impacts are a frequency of their own.",
    parameters=EnvelopeParameters,
    modalities=_MODALITIES,
    content=ContentOperation("change", envelope),
)
WINDOWS = content_step(
    "signal_windows",
    title="Signal windows",
    description="Cuts each signal into windows, each of which becomes a row. Windows of one recording are alike, so a split has to keep them together: by the"
    " column `group`, or by `key`.",
    parameters=WindowParameters,
    modalities=_MODALITIES,
    content=ContentOperation("divide", windows),
)
FEATURES = content_step(
    "signal_features",
    title="Signal features",
    description="Reads of each channel RMS, kurtosis, skewness, crest factor, peak, dominant frequency, the repeated impacts of its envelope, and the shares of the"
    " power in bands. Columns of further channels end in `_2`, `_3` and so on. The features of the envelope search the band that shows impacts in noise, so link"
    " this step before a band-pass.",
    parameters=SignalFeatureParameters,
    modalities=_MODALITIES,
    content=ContentOperation("read", features),
)
SAMPLES = content_step(
    "signal_samples",
    title="Signal samples",
    description="Makes a column of each sample, those of its channels beside each other, as train_cnn takes them. All signals need as many: link a signal_windows"
    " step before. Of a long recording, resample_signal leaves fewer.",
    parameters=SampleParameters,
    modalities=_MODALITIES,
    content=ContentOperation("read", samples),
)
SPECTROGRAM = content_step(
    "signal_spectrogram",
    title="Signal spectrogram",
    description="Reads how the power of each channel in bands changes over time: mean and standard deviation in decibels, the flux from one spectrum to the next,"
    " and the entropy over the bands.",
    parameters=SpectrogramParameters,
    modalities=_MODALITIES,
    content=ContentOperation("read", spectrogram),
)
