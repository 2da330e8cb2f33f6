"""The bytes of a stranger's picture into pixels: by content, checked before anything large is made of them.

It holds what Pillow can check. What it can't is left to the process that this runs in: see
`tasks.sources.decoder_process`.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import BmpImagePlugin, Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401  registers its format

from tasks.sources.other_files import name_of
from tasks.sources.png_metadata import unpacks_to_too_much
from tasks.sources.rgba import UnsupportedMode, is_turned, to_rgba

SIGNATURES = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"GIF8": "GIF",
    b"BM": "BMP",
}
READ = ("PNG", "JPEG", "WebP", "TIFF", "GIF", "BMP")
"""What is read: what shops have already. Google Merchant Center takes these all, and Amazon four of them; studios
deliver TIFF. Everything else stays closed: every decoder more is one more way in."""

SUBFILE_TYPE, REDUCED_OR_MASK = 254, 0b101  # TIFF 6.0, section 8


@dataclass(frozen=True)
class Limits:
    """What one picture may take. 64 megapixels is also the most that Google Merchant Center takes."""

    side: int = 16_384  # pixels
    pixels: int = 64_000_000
    memory: int = 2 << 30  # bytes beyond what the process has before its first picture
    cpu_seconds: int = 30
    seconds: float = 90.0  # by the clock on the wall


class Refused(Exception):  # noqa: N818
    """This picture can't be used: a reason as in `tasks.sources.source_error`, and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def measure(data: bytes, limits: Limits) -> tuple[int, int, str]:
    """Return the width and height of a picture, upright, and its format, from its header.

    Raises:
        Refused: as `decode`, for what a header shows.
    """
    with _opened(data, limits) as (image, name):
        width, height = image.size
        return (height, width, name.lower()) if is_turned(image) else (width, height, name.lower())


def decode(data: bytes, limits: Limits) -> tuple[Image.Image, str]:
    """Return the picture as RGBA, 8 bits a channel, straight alpha, upright, in sRGB; and its format, by content.

    Profiles are applied, and so is Exif's orientation; a PNG's gAMA isn't. CMYK without a profile is converted as if
    inks were perfect. 16 bits become 8 by scaling; numbers of 32 bits have no agreed white, and are refused.

    Raises:
        Refused: another format, an animation or several pages, too large, corrupt, or cut off.
    """
    with _opened(data, limits) as (image, name):
        if name == "PNG":
            _verify(data)
        shown = _with_fourth_byte(image, data) if name == "BMP" else image
        shown.load()
        if name == "PNG":
            _scale_transparent(shown, bits=data[24])
        return to_rgba(shown), name.lower()


@contextlib.contextmanager
def _opened(data: bytes, limits: Limits) -> Iterator[tuple[Image.Image, str]]:
    """Give a picture whose header was checked, and its format as Pillow names it; what goes wrong is a refusal."""
    if not data:
        raise Refused("source_corrupt", "The picture is empty: it has no bytes.")
    name = format_of(data)
    if name is None:
        raise Refused(
            "source_unsupported",
            f"The picture is {name_of(data)}. It is none of the formats that are read: {', '.join(READ)}.",
        )
    if name == "PNG" and unpacks_to_too_much(data):
        raise Refused("source_too_large", f"The {name} holds metadata that unpacks to megabytes.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=(name,)) as image:
                check_header(image, name, limits)
                yield image, name
    except Refused:
        raise
    except UnsupportedMode as error:
        raise Refused("source_unsupported", str(error)) from None
    except MemoryError:
        raise Refused("source_too_large", f"The {name} takes more memory to decode than a picture may.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused("source_too_large", f"The {name} is {_most(limits)}.") from None
    except Exception:  # noqa: BLE001  decoders raise whatever they stumble over
        raise Refused("source_corrupt", f"The {name} is damaged or cut off, or of a kind that isn't read.") from None


def format_of(data: bytes) -> str | None:
    """Return Pillow's name of the format that a file begins as, None for one that isn't read."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for signature, name in SIGNATURES.items() if data.startswith(signature)), None)


def _verify(data: bytes) -> None:
    """Check a PNG's checksums: Pillow (13) decodes pixels without looking at theirs."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        image.verify()


def _with_fourth_byte(image: Image.Image, data: bytes) -> Image.Image:
    """Return the picture with its alpha, of a BMP of 32 bits whose fourth bytes aren't all zero.

    The format reserves them (BITMAPINFOHEADER: biCompression BI_RGB), many programs write alpha there, and Pillow (13)
    leaves them out, by which what is transparent gets whatever colour lies below.
    """
    assert isinstance(image, BmpImagePlugin.BmpImageFile)
    (tile,) = image.tile
    if image.info.get("compression") != 0 or not isinstance(tile.args, tuple) or tile.args[0] != "BGRX":
        return image
    _, stride, direction = tile.args
    whole = data[tile.offset : tile.offset + stride * image.height]
    rgba = Image.frombytes("RGBA", image.size, whole, "raw", "BGRA", stride, direction)
    return rgba if rgba.getchannel("A").getbbox() else image


def _scale_transparent(image: Image.Image, bits: int) -> None:
    """Give the transparent colour of a PNG on the scale of its pixels: Pillow (13) scales only these to 8 bits."""
    transparent = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(transparent, tuple) and bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    if image.mode == "L" and isinstance(transparent, int) and bits < 8:
        image.info["transparency"] = transparent * 255 // ((1 << bits) - 1)


def check_header(image: Image.Image, name: str, limits: Limits) -> None:
    """Refuse, before any pixel is decoded, a picture that is too large or more than one.

    Raises:
        Refused: and whatever Pillow raises for a damaged file.
    """
    width, height = image.size
    if max(width, height) > limits.side or width * height > limits.pixels:
        raise Refused("source_too_large", f"The {name} has {width} × {height} pixels; it is {_most(limits)}.")
    if name == "TIFF" and isinstance(image, TiffImagePlugin.TiffImageFile):
        animated = _has_pages(image)
    else:
        # A JPEG may have its thumbnail or gain map behind it (MPO), which phones write: not another picture.
        animated = name != "JPEG" and getattr(image, "is_animated", False)
    if animated:
        raise Refused(
            "source_unsupported",
            f"The {name} has several frames or pages, and which one shows the product isn't ours to say: "
            "give that one as a picture of its own.",
        )


def _has_pages(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Say whether a TIFF has more pages than thumbnails and masks of its first one."""
    with contextlib.suppress(EOFError):
        for page in range(1, sys.maxsize):
            image.seek(page)
            if not image.tag_v2.get(SUBFILE_TYPE, 0) & REDUCED_OR_MASK:
                return True
    image.seek(0)
    return False


def _most(limits: Limits) -> str:
    return f"over {limits.pixels / 1e6:.4g} megapixels or {limits.side} pixels a side, the most that is read"
