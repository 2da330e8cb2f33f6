import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from safety.pictures.picture_file import PictureFile, examine
from tests.tasks.color_profiles import rgb_profile


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PLAIN = Image.new("RGB", (16, 16), (200, 30, 30))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_format_is_told_by_its_content(kind: str):
    data = encoded(PLAIN, kind)
    assert examine(data) == PictureFile(kind.lower(), len(data), "srgb", 0.0)


@pytest.mark.parametrize(
    ("mode", "kind", "space"),
    [("CMYK", "JPEG", "cmyk"), ("L", "PNG", "grey"), ("L", "JPEG", "grey"), ("P", "PNG", "srgb")],
)
def test_colours_are_told_by_how_they_are_stored(mode: str, kind: str, space: str):
    assert examine(encoded(PLAIN.convert(mode), kind)).color_space == space


def test_a_colour_profile_is_srgb_if_it_means_the_same():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert examine(encoded(PLAIN, "PNG", icc_profile=srgb)).color_space == "srgb"
    assert examine(encoded(PLAIN, "PNG", icc_profile=rgb_profile(gamma=1.8))).color_space == "other"
    assert examine(encoded(PLAIN, "PNG", icc_profile=b"nonsense")).color_space == "other"


def test_the_share_of_transparent_pixels_is_counted():
    pixels = np.full((10, 10, 4), 255, np.uint8)
    assert examine(encoded(Image.fromarray(pixels), "PNG")).transparent == 0
    pixels[:5, :5, 3] = 254
    assert examine(encoded(Image.fromarray(pixels), "PNG")).transparent == 0.25
    assert examine(encoded(Image.fromarray(pixels), "WEBP", lossless=True)).transparent == 0.25


@pytest.mark.parametrize("data", [b"", b"GIF89a", encoded(PLAIN, "BMP"), encoded(PLAIN, "PNG")[:20]])
def test_what_is_no_picture_is_refused_in_a_sentence(data: bytes):
    with pytest.raises(ValueError, match="The stored picture can't be read"):
        examine(data)
