"""What a picture's bytes say before a pixel is looked at: format, colours, transparency."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

FORMATS = ("PNG", "JPEG", "WEBP")  # that are read
EXTENSIONS = {"png": ("png",), "jpeg": ("jpg", "jpeg"), "webp": ("webp",), "gif": ("gif",), "tiff": ("tif", "tiff")}
"""By format, what a file of it may be called."""
OPAQUE = 255


@dataclass(frozen=True)
class PictureFile:
    """An encoded picture, as its bytes have it."""

    format: str  # by its content, in lower case: "png", "jpeg", "webp"
    size_bytes: int
    color_space: str  # "srgb", "cmyk", "grey", or "other" for a colour profile that isn't sRGB
    transparent: float  # share of pixels that aren't opaque


def examine(data: bytes) -> PictureFile:
    """Read what the bytes of a picture say of it.

    Raises:
        ValueError: with a sentence, if they are no whole picture of a format that is read.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            return PictureFile(str(image.format).lower(), len(data), _color_space(image), _transparent(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"The stored picture can't be read: {error}.") from error


def _color_space(image: Image.Image) -> str:
    if image.mode in ("CMYK", "YCCK"):
        return "cmyk"
    if profile := image.info.get("icc_profile"):
        return "srgb" if _is_srgb(profile) else "other"
    # Without a profile, browsers and marketplaces take values as sRGB.
    return "grey" if image.mode in ("1", "L", "LA", "I", "I;16", "F") else "srgb"


@lru_cache(maxsize=16)
def _is_srgb(profile: bytes) -> bool:
    """Say whether a profile turns colours into the same values as sRGB does, within 2 of 255."""
    corners = np.array(np.meshgrid(*[[0, 64, 128, 192, 255]] * 3), np.uint8).reshape(3, -1).T
    try:
        colours = Image.fromarray(np.ascontiguousarray(corners[None]), "RGB")
        turned = ImageCms.profileToProfile(colours, io.BytesIO(profile), ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
    if turned is None:
        return False
    return bool(np.abs(np.asarray(turned)[0].astype(int) - corners).max() <= 2)


def _transparent(image: Image.Image) -> float:
    if not image.has_transparency_data:
        return 0.0
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return float((alpha < OPAQUE).mean())
