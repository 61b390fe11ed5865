"""Images as a kind of items."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from workers.ml.items.reading import Corrupt, Described, Part
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.raw import RawFile

FORMATS: Final = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}
"""Those that Pillow may recognise, with their media types. No others: the reader of EPS, for one, runs a program."""
SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp"})
_MAGIC: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"BM")
_MAX_PIXELS: Final = 100_000_000
_THUMBNAIL: Final = 128  # pixels
_DAMAGED: Final = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    AttributeError,
    RuntimeError,
)


class ImageKind:
    """PNG, JPEG, WebP, TIFF, GIF and BMP. Of an animation or a file of several pages the first image counts."""

    name = "images"
    suffixes = SUFFIXES

    def describe(self, content: bytes, path: str) -> Described:
        image, format_name = open_image(content)
        grey = image.convert("L")
        values = np.asarray(grey, dtype=np.float64) / 255
        features: dict[str, float | int | None] = {
            "width": image.width,
            "height": image.height,
            "brightness": float(values.mean()),
            "contrast": float(values.std()),
            "sharpness": _sharpness(values),
        }
        info = {
            "kind": "image",
            "width": image.width,
            "height": image.height,
            "channels": len(image.getbands()),
            "format": format_name,
            "perceptual_hash": perceptual_hash(grey),
        }
        expected = PurePosixPath(path).suffix.lower().lstrip(".").replace("jpg", "jpeg")
        issues: list[tuple[str, str]] = []
        if expected not in ("", format_name.lower(), format_name.lower()[:3]):
            issues.append(("OTHER_FORMAT", f"Its name ends in .{expected}, and it is {format_name}."))
        return Described(info, features, FORMATS[format_name], issues, thumbnail(image))

    def parts(self, raw: RawFile, filename: str, issues: IssueLog) -> tuple[str, Iterator[Part]] | None:  # noqa: ARG002 - the protocol's signature
        """A single image is the one item."""
        head = raw.head(16)
        if not is_image(head):
            return None
        return _format_of(head), iter([Part(filename)])

    def summary(self) -> dict[str, Any]:
        return {}


def is_image(head: bytes) -> bool:
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def _format_of(head: bytes) -> str:
    for magic, name in zip(_MAGIC, ("PNG", "JPEG", "GIF", "GIF", "TIFF", "TIFF", "BMP"), strict=True):
        if head.startswith(magic):
            return name
    return "WEBP"


def open_image(content: bytes) -> tuple[Image.Image, str]:
    """Return the first image as it is to be seen, and its format. Nothing of its metadata is kept, such as where it was taken. Raises `Corrupt`."""
    Image.MAX_IMAGE_PIXELS = _MAX_PIXELS
    with warnings.catch_warnings():
        # Between one and two times the limit, Pillow only warns.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(content), formats=list(FORMATS)) as opened:
                format_name = str(opened.format)
                opened.load()
                image = ImageOps.exif_transpose(opened)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise Corrupt(f"has more than {_MAX_PIXELS:,} pixels") from error
        except UnidentifiedImageError as error:
            raise Corrupt(f"is no image in one of the formats {', '.join(FORMATS)}") from error
        except _DAMAGED as error:
            raise Corrupt("is damaged or cut off") from error
    return _in_common_mode(image), "JPEG" if format_name == "MPO" else format_name


def _in_common_mode(image: Image.Image) -> Image.Image:
    """8 bits a channel: grey, with or without transparency, or colours. 16 bits are scaled, not clipped."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        low, high = float(values.min()), float(values.max())
        if image.mode.startswith("I;16"):
            low, high = 0.0, 65_535.0
        return Image.fromarray(((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8))
    return image.convert("RGBA" if image.mode in ("PA", "RGBa") or "transparency" in image.info else "RGB")


def thumbnail(image: Image.Image) -> bytes:
    """A WebP image of at most 128×128 pixels."""
    small = image.convert("RGBA" if image.mode in ("LA", "RGBA") else "RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    target = io.BytesIO()
    small.save(target, "WEBP", quality=80)
    return target.getvalue()


def perceptual_hash(grey: Image.Image) -> str:
    """64 bits as hexadecimal: whether each cell of a grid of 8×8 is darker than its right neighbour (N. Krawetz, "dHash", 2013).

    Two images of one scene, scaled or compressed otherwise, differ in few bits.
    """
    cells = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes().hex()


def _sharpness(values: Any) -> float:
    """The mean step of brightness between neighbours."""
    steps = [np.abs(np.diff(values, axis=axis)).mean() for axis in (0, 1) if values.shape[axis] > 1]
    return float(np.mean(steps)) if steps else 0.0
