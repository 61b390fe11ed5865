"""Steps on the contents of images."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from workers.ml.contents.content import ContentOperation
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.contents import AugmentParameters, columns_name, content_step, operation
from workers.ml.steps.step import Parameters

_IMAGES = ("IMAGE",)
_IMAGES_AND_FRAMES = ("IMAGE", "VIDEO")  # of a video, each frame is changed
_Pixels = Annotated[int, Field(ge=1, le=4_096)]
_COPIED = "Validation and test rows stay as they are. It comes before the step that reads them."


class ResizeParameters(Parameters):
    width: _Pixels = Field(default=32, title="Width", description="The width in pixels of every image.")
    height: _Pixels = Field(default=32, title="Height", description="The height in pixels of every image.")
    fit: Literal["stretch", "pad", "cover"] = Field(
        default="stretch",
        title="Fit",
        description="What happens to images of other proportions: `stretch` distorts them; `pad` adds black at two sides; `cover` cuts off at two sides.",
    )
    method: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = Field(
        default="bilinear", title="Method", description="How pixels are interpolated; all but `nearest` average over what they shrink."
    )


class CropParameters(Parameters):
    width: _Pixels = Field(title="Width", description="The width in pixels that is kept.")
    height: _Pixels = Field(title="Height", description="The height in pixels that is kept.")
    left: int | None = Field(
        default=None, ge=0, le=65_535, title="Left", description="Pixels left of what is kept. Without it and `top`, the centre is kept."
    )
    top: int | None = Field(default=None, ge=0, le=65_535, title="Top", description="Pixels above what is kept.")


class NormaliseParameters(Parameters):
    method: Literal["range", "standard"] = Field(
        default="range",
        title="Method",
        description="`range`: the darkest pixel of each image becomes 0, the lightest 1; `standard`: its mean becomes 0, its standard deviation 1.",
    )


class GrayscaleParameters(Parameters):
    """No parameters."""


class FlipParameters(AugmentParameters):
    directions: list[Literal["horizontal", "vertical", "both"]] = Field(
        default=["horizontal"],
        min_length=1,
        max_length=3,
        title="Directions",
        description="How the first copy of an image is flipped, the second and so on in turn. Leave out directions in which it means something else, as a 6 is a 9.",
    )


class RotateParameters(AugmentParameters):
    angles: list[Annotated[float, Field(ge=-360, le=360)]] | None = Field(
        default=None,
        min_length=1,
        max_length=20,
        title="Angles",
        description="Degrees, counterclockwise, by which the first copy is rotated, the second and so on in turn; by default a random angle for each copy.",
    )
    max_angle: float = Field(
        default=15.0, gt=0, le=180, title="Maximum angle", description="Random angles are at most so many degrees to either side."
    )


class PixelParameters(Parameters):
    name: ColumnName = columns_name("pixel")


class HogParameters(Parameters):
    orientations: int = Field(
        default=9, ge=2, le=36, title="Orientations", description="How many angles from 0 to 180 degrees are told apart."
    )
    cell: int = Field(default=8, ge=2, le=128, title="Cell", description="Pixels of the side of a cell, of which a histogram is made.")
    block: int = Field(
        default=2, ge=1, le=8, title="Block", description="Cells of the side of a block, over which contrasts are evened out."
    )
    name: ColumnName = columns_name("hog")


def _make_crop(parameters: CropParameters) -> Any:
    from workers.ml.contents import images  # the API imports the steps only for their schemas

    if parameters.left is None and parameters.top is None:
        return partial(images.crop_center, width=parameters.width, height=parameters.height)
    return partial(images.crop_box, left=parameters.left or 0, top=parameters.top or 0, width=parameters.width, height=parameters.height)


RESIZE = content_step(
    "resize_image",
    title="Resize image",
    description="Scales every image, or every frame of a video, to one size, so that those of several sizes can be compared pixel by pixel.",
    parameters=ResizeParameters,
    modalities=_IMAGES_AND_FRAMES,
    content=operation("change", "images", "resize"),
)
CROP = content_step(
    "crop_image",
    title="Crop image",
    description="Keeps a rectangle of every image, or of every frame of a video: its centre, or one at a given place.",
    parameters=CropParameters,
    modalities=_IMAGES_AND_FRAMES,
    content=ContentOperation("change", _make_crop),
)
NORMALISE = content_step(
    "normalise_image",
    title="Normalise image",
    description="Brings each image, or each frame of a video, to the same range of brightness, or to the same mean and contrast.",
    parameters=NormaliseParameters,
    modalities=_IMAGES_AND_FRAMES,
    content=operation("change", "images", "normalise"),
)
GRAYSCALE = content_step(
    "grayscale",
    title="Grayscale",
    description="Makes one channel of red, green and blue, by how light they look. Grey images stay.",
    parameters=GrayscaleParameters,
    modalities=_IMAGES_AND_FRAMES,
    content=operation("change", "images", "grayscale"),
)
FLIP = content_step(
    "flip_image",
    title="Flip image",
    description=f"Learns from flipped copies of the training images or videos as well. {_COPIED}",
    parameters=FlipParameters,
    modalities=_IMAGES_AND_FRAMES,
    content=operation("augment", "images", "flip"),
    type="AUGMENT",
)
ROTATE = content_step(
    "rotate_image",
    title="Rotate image",
    description=f"Learns from rotated copies of the training images or videos as well; beyond the edges, the pixels of the border are repeated. {_COPIED}",
    parameters=RotateParameters,
    modalities=_IMAGES_AND_FRAMES,
    content=operation("augment", "images", "rotate"),
    type="AUGMENT",
)
PIXELS = content_step(
    "image_pixels",
    title="Image pixels",
    description="Makes a column of each pixel and channel, from 0 for black to 1. All images need one size: link a resize_image step before.",
    parameters=PixelParameters,
    modalities=_IMAGES,
    content=operation("read", "images", "pixels"),
)
HOG = content_step(
    "image_hog",
    title="Image HOG",
    description="Makes columns of histograms of oriented gradients: which way edges run in each part of an image. They hardly depend on how light it is. All images "
    "need one size: link a resize_image step before.",
    parameters=HogParameters,
    modalities=_IMAGES,
    content=operation("read", "images", "hog"),
)
