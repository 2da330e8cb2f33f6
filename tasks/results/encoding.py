"""How a picture is stored: PNG, JPEG or WebP, with its marks."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from safety.marks.provenance import save_arguments
from safety.pictures.picture_file import EXTENSIONS, FORMATS

PNG_LEVEL = 1  # of zlib: a fifth of the default's time for 1024² at about the same size of a generated picture
REFERENCE_QUALITY = 92  # no artefact is taken for a change of the product
MAX_PIXELS = 64_000_000  # of a stored picture that is read back


@dataclass(frozen=True)
class Encoding:
    """A format, and the quality of the lossy ones."""

    format: Literal["png", "jpeg", "webp"]
    quality: int

    @property
    def extension(self) -> str:
        return EXTENSIONS[self.format][0]

    @property
    def content_type(self) -> str:
        return f"image/{self.format}"

    @property
    def lossless(self) -> bool:
        return self.format == "png" or (self.format == "webp" and self.quality == 100)

    @property
    def deciding_quality(self) -> int | None:
        """The quality where it changes pixels, else None."""
        return None if self.lossless else self.quality

    def encode(self, pixels: np.ndarray, packet: bytes) -> bytes:
        """Return the bytes of a picture (uint8 [height, width, 3]), with the marks of a packet of XMP."""
        image, buffer = Image.fromarray(pixels, "RGB"), io.BytesIO()
        mark = save_arguments(packet, self.format)
        match self.format:
            case "png":
                image.save(buffer, "PNG", compress_level=PNG_LEVEL, **mark)
            case "jpeg":
                image.save(buffer, "JPEG", quality=self.quality, subsampling=0, optimize=True, **mark)
            case "webp":
                image.save(buffer, "WEBP", quality=self.quality, lossless=self.lossless, **mark)
        return buffer.getvalue()


def reference_copy(pixels: np.ndarray) -> bytes:
    """Return a picture, uint8 [height, width, 3], as a JPEG that people compare others with."""
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(buffer, "JPEG", quality=REFERENCE_QUALITY, subsampling=0)
    return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    """Return the pixels of a stored picture, uint8 [height, width, 3].

    Raises:
        ValueError: if the bytes are no whole picture of a format that packshot writes.
    """
    return _decode(data, "RGB")


def decode_rgba(data: bytes) -> np.ndarray:
    """Return the same with straight alpha, uint8 [height, width, 4]; what has none is opaque."""
    return _decode(data, "RGBA")


def _decode(data: bytes, mode: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"The stored picture has {image.width} × {image.height} pixels.")
                return np.asarray(image.convert(mode))
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"The stored picture can't be read: {error}.") from error
