"""Steps on the contents of videos. What changes images changes their frames, too."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from workers.ml.steps.columns import ColumnName
from workers.ml.steps.contents import columns_name, content_step, operation
from workers.ml.steps.images import HogParameters
from workers.ml.steps.images import PixelParameters as ImagePixelParameters
from workers.ml.steps.step import Parameters

_VIDEOS = ("VIDEO",)
_SIZED = "All frames of all videos need one size: link a resize_image step before."

Statistics = list[Literal["mean", "std", "min", "max"]]


def _statistics() -> Statistics:
    return Field(
        default=["mean", "std"],
        min_length=1,
        max_length=4,
        title="Statistics",
        description="What is computed of each number over the frames: its mean, standard deviation, least and greatest value.",
    )


class SampleParameters(Parameters):
    method: Literal["even", "every", "seconds"] = Field(
        default="even",
        title="Method",
        description="`even` takes `count` frames at equal distances over the video; `every` takes each `every`th frame; `seconds` takes one in so many `seconds`, "
        "which are as far apart in videos of any frame rate.",
    )
    count: int = Field(
        default=16, ge=1, le=1_000, title="Count", description="Frames of each video, for `even`. A video with fewer gives all."
    )
    every: int = Field(default=5, ge=1, le=10_000, title="Every", description="The distance from one frame to the next, for `every`.")
    seconds: float = Field(
        default=0.5, ge=0.01, le=60, title="Seconds", description="The distance from one frame to the next, for `seconds`."
    )


class PixelParameters(ImagePixelParameters):
    statistics: Statistics = _statistics()


class EdgeParameters(HogParameters):
    statistics: Statistics = _statistics()


class ColourParameters(Parameters):
    bins: int = Field(
        default=8,
        ge=2,
        le=64,
        title="Bins",
        description="Equal ranges of each channel, from 0 to 1, whose shares of the pixels are counted.",
    )
    statistics: Statistics = _statistics()
    name: ColumnName = columns_name("colour")


class MotionParameters(Parameters):
    grid: int = Field(
        default=4, ge=1, le=32, title="Grid", description="Rows and columns of equal cells, each of which is measured by itself."
    )
    parts: int = Field(
        default=1,
        ge=1,
        le=32,
        title="Parts",
        description="Equal parts of the time, each of which is measured by itself: where it moves first, and where later.",
    )
    name: ColumnName = columns_name("motion")


SAMPLE = content_step(
    "sample_frames",
    title="Sample frames",
    description="Chooses which frames of each video are read. Without it all are. Only the first minute of a video counts.",
    parameters=SampleParameters,
    modalities=_VIDEOS,
    content=operation("change", "frames", "sample"),
)
PIXELS = content_step(
    "video_pixels",
    title="Video pixels",
    description=f"Makes columns of each pixel and channel over the frames of a video: what it shows on the whole, and where it changes. {_SIZED}",
    parameters=PixelParameters,
    modalities=_VIDEOS,
    content=operation("read", "frames", "pixels"),
)
HOG = content_step(
    "video_hog",
    title="Video HOG",
    description="Makes columns of histograms of oriented gradients over the frames of a video: which way edges run in each part of the picture. They hardly depend "
    f"on how light it is. {_SIZED}",
    parameters=EdgeParameters,
    modalities=_VIDEOS,
    content=operation("read", "frames", "edges"),
)
COLOURS = content_step(
    "video_colours",
    title="Video colours",
    description="Makes columns of the shares of pixels in each range of each channel over the frames of a video. The places of the pixels do not count.",
    parameters=ColourParameters,
    modalities=_VIDEOS,
    content=operation("read", "frames", "colours"),
)
MOTION = content_step(
    "video_motion",
    title="Video motion",
    description="Makes columns of how much consecutive frames differ, in the whole picture and in each cell of a grid, and of which way the centre of what "
    "changes goes. Frames that are far apart differ more: sample all videos alike.",
    parameters=MotionParameters,
    modalities=_VIDEOS,
    content=operation("read", "frames", "motion"),
)
