"""A decoded picture of any mode as RGBA: 8 bits a channel, straight alpha, upright, in sRGB."""

from __future__ import annotations

import io

from PIL import Image, ImageCms, ImageMath

ORIENTATION = 0x0112  # Exif 2.3, section 4.6.4
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}  # of modes, as ICC.1:2022 writes them (section 7.2.6)
SRGB = ImageCms.createProfile("sRGB")


class UnsupportedMode(ValueError):  # noqa: N818
    """There is no agreed way to show these numbers. One sentence."""


def to_rgba(image: Image.Image) -> Image.Image:
    """Return a loaded picture of any mode as upright RGBA in sRGB.

    Raises:
        UnsupportedMode: for numbers of 32 bits.
    """
    turn, profile = TURNS.get(_orientation(image)), image.info.get("icc_profile")
    color, alpha = split(image)
    color = to_srgb(color, profile)
    if alpha is None:
        rgba = color.convert("RGBA")
    else:
        rgba = color
        rgba.putalpha(alpha)
    return rgba if turn is None else rgba.transpose(turn)


def is_turned(image: Image.Image) -> bool:
    """Say whether width and height change places when a picture is put upright."""
    return _orientation(image) in (5, 6, 7, 8)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001  damaged metadata doesn't damage a picture
        return 1


def split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return colour (L, RGB or CMYK) and alpha (L, None if there is none) of a picture, 8 bits each.

    Raises:
        UnsupportedMode: for numbers of 32 bits.
    """
    if image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        raise UnsupportedMode("The picture has 32 bits a channel: give it with 8 or 16.")
    if image.mode == "LA":
        return image.getchannel("L"), image.getchannel("A")
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        return rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode == "1":
        return image.convert("L"), None
    return image if image.mode in SPACES else image.convert("RGB"), None


def _from_16_bits(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return grey of 16 bits, rounded to 8; Pillow (13) would clip it."""
    values = image.convert("I")
    transparent = image.info.get("transparency")
    alpha = None
    if isinstance(transparent, int):
        alpha = ImageMath.lambda_eval(lambda given: (given["values"] != transparent) * 255, values=values).convert("L")
    return values.point(lambda value: value / 257 + 0.5).convert("L"), alpha


def to_srgb(color: Image.Image, profile: bytes | None) -> Image.Image:
    """Return RGB in sRGB. A profile that is broken, or of another kind of colour, is left aside, as viewers do."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space
            matching = color.convert("RGB") if space == "RGB " and color.mode == "L" else color
            if SPACES[matching.mode] == space:
                converted = ImageCms.profileToProfile(
                    matching,
                    source,
                    SRGB,
                    renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                    outputMode="RGB",
                    flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
                )
                assert converted is not None
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    return color.convert("RGB")
