"""The items of dataset versions, and what versions tell of their items."""

from collections.abc import Mapping
from typing import Annotated, Any, Self
from uuid import UUID

import strawberry

from db.queries import artifacts, items, versions
from db.services import item_links
from db.settings import state_settings
from graph.core.costs import PRESIGN, costs
from graph.core.edges import connection, extend, many, one
from graph.core.errors import BadUserInput
from graph.core.ids import Node
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.scalars import JSON, BigInt, Duration
from graph.datasets.files import Artifact
from graph.datasets.profiles import ValidationIssue
from graph.datasets.types import DatasetVersion
from graph.items.inputs import ItemFilter, ItemOrder


def _float(value: float | None) -> float | None:
    """PostgreSQL's jsonb returns a float without fraction as an integer."""
    return None if value is None else float(value)


@strawberry.type(description="How many items of a version have a label, a severity or a split. Items that cannot be read do not count.")
class LabelCount:
    label: str = strawberry.field(description="The label, the severity or the split.")
    count: BigInt = strawberry.field(description="How many items have it.")

    @classmethod
    def of(cls, entry: tuple[str, int]) -> Self:
        return cls(label=entry[0], count=BigInt(entry[1]))


@strawberry.type(description="What the signals of a version have in common.")
class SignalGeometry:
    traces: BigInt = strawberry.field(description="How many channels all items have together.")
    samples: BigInt | None = strawberry.field(description="The samples of each channel; null if they differ.")
    sample_rate: float | None = strawberry.field(description="The samples per second, in Hz; null if it is not known, or differs.")
    unit: str | None = strawberry.field(description="The unit of the samples; null if no file says it.")
    details: JSON = strawberry.field(description="More of it, as an object: `shortest` and `longest` are the samples of the extreme items.")

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Self:
        names = ("traces", "samples", "unit", "details")
        return cls(sample_rate=_float(summary["sample_rate"]), **{name: summary[name] for name in names})


@strawberry.type(description="A signal: its samples, and the features of its first channel.")
class SignalInfo:
    samples: BigInt = strawberry.field(description="The samples of each channel.")
    sample_rate: float | None = strawberry.field(
        description="The samples per second, in Hz; null if neither the file nor the upload says it."
    )
    channels: int = strawberry.field(description="How many channels it has.")
    duration: Duration | None = strawberry.field(description="How long it takes; null if the sampling rate is not known.")
    rms: float | None = strawberry.field(description="The root of the mean square of the samples.")
    kurtosis: float | None = strawberry.field(description="Pearson's kurtosis, 3 for a normal distribution; null for a constant signal.")
    skewness: float | None = strawberry.field(description="The skewness, 0 for a symmetric distribution; null for a constant signal.")
    crest_factor: float | None = strawberry.field(description="The peak divided by the RMS; null if both are 0.")
    peak: float | None = strawberry.field(description="The greatest absolute value.")
    dominant_frequency: float | None = strawberry.field(
        description="The frequency with the greatest power by Welch's method, in Hz; null if the sampling rate is not known."
    )


@strawberry.type(description="An image as it is shown: rotated as its EXIF data says.")
class ImageInfo:
    width: int = strawberry.field(description="Its width in pixels.")
    height: int = strawberry.field(description="Its height in pixels.")
    channels: int = strawberry.field(description="1 for grey, 3 for colours, and one more with transparency.")
    format: str = strawberry.field(description="Its format: PNG, JPEG, WEBP, TIFF, GIF or BMP.")
    perceptual_hash: str = strawberry.field(
        description="64 bits in hexadecimal, of which few differ between two images that look alike (dHash)."
    )


@strawberry.type(description="A sound recording. Its features are those of all its channels together, of its first five minutes.")
class AudioInfo:
    duration: Duration = strawberry.field(description="How long it takes.")
    sample_rate: int = strawberry.field(description="The samples per second of each channel, in Hz.")
    channels: int = strawberry.field(description="How many channels it has.")
    codec: str = strawberry.field(
        description="How its samples are encoded: FLAC, MP3, VORBIS, OPUS, or in a WAVE file such as PCM_16, FLOAT or ULAW."
    )


@strawberry.type(
    description="A video as it is shown: rotated as its file says. Its features are those of four frames a second of its first minute."
)
class VideoInfo:
    duration: Duration | None = strawberry.field(description="How long it takes; null if neither its header nor its frames say it.")
    width: int = strawberry.field(description="Its width in pixels.")
    height: int = strawberry.field(description="Its height in pixels.")
    frame_rate: float | None = strawberry.field(description="The frames per second, on average; null if the file does not say it.")
    frames: BigInt | None = strawberry.field(description="How many frames it has.")
    codec: str = strawberry.field(description="How its frames are encoded, such as H264, HEVC, VP9 or AV1.")


@strawberry.type(description="A text document. The column `text` of the version's table has its first 20,000 characters.")
class TextInfo:
    characters: BigInt = strawberry.field(description="How many characters it has.")
    words: BigInt = strawberry.field(description="How many words it has: runs of letters and digits.")
    language: str | None = strawberry.field(
        description="The ISO 639 code of its language, such as `en`; null for a text too short to tell, or whose language is not clear."
    )


@strawberry.type(description="A part of a version that is read by itself: one signal, image, recording, video or text.")
class DatasetItem(Node, prefix="item", found_by=items.by_id, scope=Scope.READ):
    version_id: strawberry.Private[UUID]
    info: strawberry.Private[Mapping[str, Any] | None]
    found_issues: strawberry.Private[list[Mapping[str, Any]]]
    key: str = strawberry.field(description="Its path in the archive, without a folder that all files share; or its name in the file.")
    label: str | None = strawberry.field(
        description="Its class, which its folder, a manifest or a file beside it says; of an image with annotations, their most frequent category."
    )
    split: str | None = strawberry.field(
        description="The split that it is filed under: `train`, `validation`, `test`, or as a manifest says."
    )
    severity: str | None = strawberry.field(description="The severity that it is filed under, such as that of a fault.")
    size_bytes: BigInt = strawberry.field(description="Its size in bytes, unpacked.")
    sha256: str = strawberry.field(description="The SHA-256 of its bytes in hexadecimal; empty if they could not be unpacked.")
    content_type: str = strawberry.field(description="Its media type.")
    metadata: JSON = strawberry.field(
        description="What a manifest, or a file beside it, says of it beyond label, split and severity, as an object. Of an image annotated as in COCO or YOLO:"
        " `annotations` (the first 100, each with `category`, `bbox` as left, top, width and height in pixels, and `area`), `annotationCount`,"
        " `categories` with the number of each, and `captions`. Of a MULTIMODAL version: the `column` and the `row` of the table that name it first."
    )
    features: JSON = strawberry.field(
        description="What was computed of it, by name: its columns in the table of the version. Those of further channels end in `_2`, `_3` and so on."
        " Of a signal with a sampling rate, `envelope_frequency` is that of repeated impacts in Hz, as damaged bearings make, `envelope_prominence` how"
        " many times it stands out of noise (about 2 to 3 for noise alone), and `envelope_band` the middle in Hz of the band that shows it."
    )
    version: DatasetVersion = one(versions.by_id, key="version_id", description="The version that it is a part of.")
    preview: Artifact | None = one(
        artifacts.preview_of_item,
        description="A small WebP image of it, of at most 128×128 pixels: of a recording its spectrogram, of a video four frames, of a signal its course over"
        " time, of a seismic gather its traces side by side. Null for a text, for what could not be read, and for signals of versions made before signals"
        " had one.",
    )

    @strawberry.field(
        metadata=costs(PRESIGN),
        description="A URL that downloads its bytes, unpacked, without a token until it expires. Anyone who has the URL can use it. It is a path at the"
        " API where `TRELLIS_PUBLIC_URL` is not set. There is nothing at it for an item whose bytes could not be unpacked, of which `sha256` is empty.",
    )
    def download_url(
        self,
        expires_in: Annotated[int, strawberry.argument(description="Seconds until the URL expires, 60 to 3,600 (an hour).")] = 900,
    ) -> str:
        if not item_links.MIN_EXPIRY <= expires_in <= item_links.MAX_EXPIRY:
            raise BadUserInput(
                f"`expiresIn` is {expires_in}; it must be between {item_links.MIN_EXPIRY} and {item_links.MAX_EXPIRY} seconds."
            )
        return item_links.url(state_settings(), item_links.LinkedPart.CONTENT, self.uuid, expires_in)

    @strawberry.field(
        metadata=costs(entries=1),
        description="What is wrong with it. With CORRUPT_ITEM, it has no row in the table of the version, or no features in it if the version is MULTIMODAL.",
    )
    def issues(self) -> list[ValidationIssue]:
        return [ValidationIssue.of(issue) for issue in self.found_issues]

    @strawberry.field(description="The signal that it is; null for an item of another kind, and for one that cannot be read.")
    def signal(self) -> SignalInfo | None:
        if (info := self._info("signal")) is None:
            return None
        features: Any = self.features
        return SignalInfo(
            samples=info["samples"],
            sample_rate=_float(info["sample_rate"]),
            channels=info["channels"],
            duration=None if info["duration"] is None else Duration(info["duration"]),
            rms=_float(features.get("rms")),
            kurtosis=_float(features.get("kurtosis")),
            skewness=_float(features.get("skewness")),
            crest_factor=_float(features.get("crest_factor")),
            peak=_float(features.get("peak")),
            dominant_frequency=_float(features.get("dominant_frequency")),
        )

    @strawberry.field(description="The image that it is; null for an item of another kind, and for one that cannot be read.")
    def image(self) -> ImageInfo | None:
        if (info := self._info("image")) is None:
            return None
        return ImageInfo(**{name: info[name] for name in ("width", "height", "channels", "format", "perceptual_hash")})

    @strawberry.field(description="The recording that it is; null for an item of another kind, and for one that cannot be read.")
    def audio(self) -> AudioInfo | None:
        if (info := self._info("audio")) is None:
            return None
        return AudioInfo(
            duration=Duration(info["duration"]), sample_rate=info["sample_rate"], channels=info["channels"], codec=info["codec"]
        )

    @strawberry.field(description="The video that it is; null for an item of another kind, and for one that cannot be read.")
    def video(self) -> VideoInfo | None:
        if (info := self._info("video")) is None:
            return None
        return VideoInfo(
            duration=None if info["duration"] is None else Duration(info["duration"]),
            width=info["width"],
            height=info["height"],
            frame_rate=_float(info["frame_rate"]),
            frames=BigInt(info["frames"]),
            codec=info["codec"],
        )

    @strawberry.field(description="The text that it is; null for an item of another kind, and for one that cannot be read.")
    def text(self) -> TextInfo | None:
        if (info := self._info("text")) is None:
            return None
        return TextInfo(characters=BigInt(info["characters"]), words=BigInt(info["words"]), language=info["language"])

    def _info(self, kind: str) -> Mapping[str, Any] | None:
        return self.info if self.info is not None and self.info["kind"] == kind else None


extend(
    DatasetVersion,
    "items",
    Connection[DatasetItem],
    connection(
        items.of_version,
        filtered_by=ItemFilter,
        ordered_by=ItemOrder,
        description="Its items, by key unless ordered otherwise: signals, images, recordings, videos or texts. Empty for a table, and if its dataset is deleted.",
    ),
)
extend(
    DatasetVersion,
    "class_labels",
    list[LabelCount],
    many(items.label_counts, metadata=costs(entries=30), description="The labels of its items, most frequent first; at most 1,000."),
)
extend(
    DatasetVersion,
    "severity_levels",
    list[LabelCount],
    many(items.severity_counts, metadata=costs(entries=30), description="The severities of its items, most frequent first; at most 1,000."),
)
extend(
    DatasetVersion,
    "splits",
    list[LabelCount],
    many(items.split_counts, metadata=costs(entries=3), description="The splits of its items, the one with the most items first."),
)
extend(
    DatasetVersion,
    "signal",
    SignalGeometry | None,
    one(items.signal_geometries, description="What its signals have in common; null for other data, and until it is READY."),
)
