"""What a shop's picture shows is what the pixels say, whatever it is stored as."""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import MAX_TEXT_CHUNK, PngInfo

from tasks.sources.decoder import Decoder
from tasks.sources.decoder_worker import SourcePicture
from tasks.sources.pixels import Limits
from tasks.sources.source_error import SourceError
from tests.tasks.color_profiles import cmyk_profile, gray_profile, rgb_profile
from tests.tasks.sources.png_reference import decode_png

PNGSUITE = Path(__file__).parents[4] / "shared" / "data" / "images" / "pngsuite"
RANDOM = np.random.default_rng(0)
UNEVEN = RANDOM.integers(0, 256, (5, 9, 4), dtype=np.uint8)
SMOOTH = np.indices((40, 64)).sum(axis=0)[..., None].astype(np.uint8) * np.array([2, 1, 1], np.uint8) + np.uint8(20)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(workers=1, limits=Limits(memory=512 << 20)) as decoder:
        yield decoder


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def refusal(decoder: Decoder, data: bytes) -> SourceError:
    with pytest.raises(SourceError) as refused:
        decoder.decode(data)
    return refused.value


def colors(picture: SourcePicture) -> set[tuple[int, ...]]:
    return set(map(tuple, picture.pixels.reshape(-1, 4).tolist()))


@pytest.mark.skipif(not PNGSUITE.exists(), reason="the public test data is not beside the project")
def test_every_valid_png_of_the_suite_decodes_to_what_the_specification_says(decoder: Decoder) -> None:
    files = [file for file in sorted(PNGSUITE.glob("*.png")) if not file.name.startswith("x")]
    assert len(files) == 162
    for file in files:
        data = file.read_bytes()
        pixels = decoder.decode(data).pixels
        expected = decode_png(data)
        assert pixels.shape == expected.shape, file.name
        # Colours that are 16 bits deep may lose their low bytes instead of being rounded.
        assert np.abs(pixels - expected).max() < (1.01 if data[24] == 16 else 0.01), file.name


@pytest.mark.skipif(not PNGSUITE.exists(), reason="the public test data is not beside the project")
def test_every_corrupt_png_of_the_suite_is_refused(decoder: Decoder) -> None:
    files = sorted(PNGSUITE.glob("x*.png"))
    assert len(files) == 14
    for file in files:
        # Where the very first bytes are wrong, nothing says that it was a PNG.
        expected = "source_unsupported" if file.name[:3] in ("xs1", "xs2", "xs4") else "source_corrupt"
        assert refusal(decoder, file.read_bytes()).reason == expected, file.name


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_a_lossless_picture_keeps_every_pixel_and_its_alpha(decoder: Decoder, kind: str) -> None:
    data = saved(Image.fromarray(UNEVEN, "RGBA"), kind, lossless=True, exact=True)
    picture = decoder.decode(data)
    assert np.array_equal(picture.pixels, UNEVEN)
    assert (picture.pixels.dtype, picture.pixels.flags.writeable) == (np.uint8, True)
    assert (picture.width, picture.height, picture.format) == (9, 5, kind.lower())
    assert picture.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_every_format_that_is_read_is_known_by_its_content(decoder: Decoder, kind: str) -> None:
    picture = decoder.decode(saved(Image.fromarray(SMOOTH, "RGB"), kind))
    assert picture.format == kind.lower()
    assert np.abs(picture.pixels[..., :3].astype(int) - SMOOTH).mean() < 12
    assert (picture.pixels[..., 3] == 255).all()


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "PPM", "ICO", "TGA", "PDF"])
def test_a_format_that_is_not_read_is_named_as_such(decoder: Decoder, kind: str) -> None:
    error = refusal(decoder, saved(Image.fromarray(SMOOTH, "RGB"), kind))
    assert error.reason == "source_unsupported"
    assert "PNG, JPEG, WebP" in error.message


@pytest.mark.parametrize("data", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<!doctype>", b"%!PS-Adobe", b"x"])
def test_what_is_no_picture_is_not_taken_for_one(decoder: Decoder, data: bytes) -> None:
    assert refusal(decoder, data).reason == "source_unsupported"


def test_no_bytes_are_no_picture(decoder: Decoder) -> None:
    assert refusal(decoder, b"").reason == "source_corrupt"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_the_way_its_camera_was_held(decoder: Decoder, kind: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16], upright[:8, 16:], upright[8:, :16] = (250, 20, 20), (20, 250, 20), (20, 20, 250)
    stored = {  # what is seen in the first row and column of the file (Exif 2.3, section 4.6.4)
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.swapaxes(0, 1),  # left, top
        6: upright[:, ::-1].swapaxes(0, 1),  # right, top
        7: upright[::-1, ::-1].swapaxes(0, 1),  # right, bottom
        8: upright[::-1].swapaxes(0, 1),  # left, bottom
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    image = Image.fromarray(np.ascontiguousarray(stored), "RGB")
    picture = decoder.decode(saved(image, kind, exif=exif, **options.get(kind, {})))
    assert (picture.width, picture.height) == (32, 16)
    assert np.abs(picture.pixels[..., :3].astype(int) - upright).max() < 40


def test_damaged_metadata_does_not_damage_a_picture(decoder: Decoder) -> None:
    image = Image.fromarray(UNEVEN, "RGBA")
    for exif in (b"", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(range(256)), bytes(1000)):
        assert np.array_equal(decoder.decode(saved(image, "PNG", exif=exif)).pixels, UNEVEN)


def texts(*packed: tuple[str, str, bool]) -> PngInfo:
    texts = PngInfo()
    for name, text, translated in packed:
        add = texts.add_itxt if translated else texts.add_text
        add(name, text, zip=True)
    return texts


@pytest.mark.parametrize("translated", [False, True])
def test_metadata_that_unpacks_to_megabytes_is_too_large_and_not_damaged(decoder: Decoder, translated: bool) -> None:
    note, image = ("Comment", "x" * MAX_TEXT_CHUNK, translated), Image.fromarray(UNEVEN)
    assert decoder.decode(saved(image, "PNG", pnginfo=texts(note, note))).width == 9
    large = saved(image, "PNG", pnginfo=texts(note, ("Title", "x" * (MAX_TEXT_CHUNK + 1), translated)))
    profile = saved(image, "PNG", icc_profile=b"\0" * (MAX_TEXT_CHUNK + 1))
    for data in (large, profile):
        error = refusal(decoder, data)
        assert (error.reason, error.message) == (
            "source_too_large",
            "The PNG holds metadata that unpacks to megabytes.",
        )


def test_metadata_that_does_not_unpack_is_damaged(decoder: Decoder) -> None:
    data = saved(Image.fromarray(UNEVEN), "PNG", pnginfo=texts(("Comment", "a mug", False)))
    (packed,) = re.findall(rb"zTXtComment\0\0(.*)....IDAT", data, re.DOTALL)[:1]
    assert refusal(decoder, data.replace(packed, b"\xff" * len(packed))).reason == "source_corrupt"


def test_grey_of_16_bits_is_scaled_and_not_clipped(decoder: Decoder) -> None:
    values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    for kind in ("PNG", "TIFF"):
        pixels = decoder.decode(saved(Image.fromarray(values), kind)).pixels
        assert np.array_equal(pixels[..., 0], np.round(values / 257).astype(np.uint8))
        assert (pixels[..., 3] == 255).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_of_32_bits_are_refused(decoder: Decoder, mode: str) -> None:
    error = refusal(decoder, saved(Image.new(mode, (4, 4)), "TIFF"))
    assert error.reason == "source_unsupported"
    assert "32 bits" in error.message


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_without_a_profile_become_colours(decoder: Decoder, kind: str) -> None:
    seen = {(255, 0, 0, 0): (0, 255, 255), (0, 0, 0, 0): (255, 255, 255), (0, 0, 0, 255): (0, 0, 0)}
    for inks, color in seen.items():
        pixels = decoder.decode(saved(Image.new("CMYK", (16, 16), inks), kind)).pixels
        assert np.abs(pixels[8, 8].astype(int) - (*color, 255)).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_with_a_profile_become_the_colours_that_it_says(decoder: Decoder, kind: str) -> None:
    profile = cmyk_profile({(0, 0, 0, 0): (100, 0, 0), (1, 0, 0, 0): (55, -37, -50), (0, 1, 0, 0): (48, 74, -3)})
    # The same in sRGB, by the formulas of CIE Lab and IEC 61966-2-1, with the paper's white as white.
    for inks, color in (
        ((255, 0, 0, 0), (0, 145, 214)),
        ((0, 255, 0, 0), (213, 0, 121)),
        ((0, 0, 0, 0), (255, 255, 255)),
    ):
        pixels = decoder.decode(saved(Image.new("CMYK", (16, 16), inks), kind, icc_profile=profile)).pixels
        assert np.abs(pixels[8, 8].astype(int) - (*color, 255)).max() <= 14, pixels[8, 8]


def test_a_profile_says_what_the_numbers_mean(decoder: Decoder) -> None:
    exchanged = saved(Image.new("RGBA", (4, 4), (255, 0, 0, 77)), "PNG", icc_profile=rgb_profile((2, 1, 0)))
    assert np.abs(decoder.decode(exchanged).pixels.astype(int) - (0, 0, 255, 77)).max() <= 3
    linear = saved(Image.new("RGB", (4, 4), (128, 128, 128)), "PNG", icc_profile=rgb_profile(gamma=1.0))
    assert np.abs(decoder.decode(linear).pixels.astype(int) - (188, 188, 188, 255)).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_has_profiles_too(decoder: Decoder, mode: str) -> None:
    color = 128 if mode == "L" else (128, 99)
    picture = decoder.decode(saved(Image.new(mode, (4, 4), color), "PNG", icc_profile=gray_profile(1.0)))
    assert np.abs(picture.pixels.astype(int) - (188, 188, 188, 255 if mode == "L" else 99)).max() <= 2


def test_grey_with_a_profile_of_colours_is_taken_as_colour(decoder: Decoder) -> None:
    picture = decoder.decode(saved(Image.new("L", (4, 4), 128), "PNG", icc_profile=rgb_profile(gamma=1.0)))
    assert np.abs(picture.pixels.astype(int) - (188, 188, 188, 255)).max() <= 2


def test_srgb_stays_what_it_is(decoder: Decoder) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = decoder.decode(saved(Image.fromarray(UNEVEN, "RGBA"), "PNG", icc_profile=profile)).pixels
    assert np.abs(pixels.astype(int) - UNEVEN).max() <= 1


@pytest.mark.parametrize(
    "profile", [b"none", bytes(4000), rgb_profile()[:200], gray_profile(1.0), cmyk_profile({})], ids=range(5)
)
def test_a_broken_profile_or_one_of_other_colours_is_left_aside(decoder: Decoder, profile: bytes) -> None:
    data = saved(Image.fromarray(UNEVEN, "RGBA"), "PNG", icc_profile=profile)
    assert np.array_equal(decoder.decode(data).pixels, UNEVEN)


def test_a_palette_keeps_its_transparency(decoder: Decoder) -> None:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putpixel((1, 1), 1)
    image.putpixel((2, 1), 2)
    png = decoder.decode(saved(image, "PNG", transparency=bytes([255, 100, 0])))
    assert colors(png) == {(255, 0, 0, 255), (0, 255, 0, 100), (0, 0, 255, 0)}
    gif = decoder.decode(saved(image, "GIF", transparency=1))
    assert {color[3] for color in colors(gif)} == {0, 255}


def frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (number * 50, 0, 0)) for number in range(count)]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_frames_are_refused_and_a_single_one_is_not(decoder: Decoder, kind: str) -> None:
    first, *rest = frames(3)
    error = refusal(decoder, saved(first, kind, save_all=True, append_images=rest))
    assert error.reason == "source_unsupported"
    assert "frames or pages" in error.message
    assert decoder.decode(saved(first, kind, save_all=True, append_images=[])).width == 8


def test_a_tiffs_thumbnail_is_not_another_page(decoder: Decoder) -> None:
    from PIL import TiffImagePlugin

    first, thumbnail = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (4, 4), "blue")
    small = TiffImagePlugin.ImageFileDirectory_v2()
    small[254] = 1
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer, new=True) as writer:
        first.save(writer, "TIFF")
        writer.newFrame()
        thumbnail.save(writer, "TIFF", tiffinfo=small)
        writer.newFrame()
    assert colors(decoder.decode(buffer.getvalue())) == {(255, 0, 0, 255)}


def test_a_phones_jpeg_with_a_second_picture_behind_it_is_the_first_one(decoder: Decoder) -> None:
    first, second = frames(2)
    picture = decoder.decode(saved(first, "MPO", save_all=True, append_images=[second]))
    assert picture.format == "jpeg"
    assert colors(picture) == {(0, 0, 0, 255)}


def bmp(pixels: np.ndarray, *, upside_down: bool = True) -> bytes:
    """A BMP of 32 bits, BGRA, as many programs write it: BITMAPINFOHEADER without compression or masks."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray((pixels[::-1] if upside_down else pixels)[..., [2, 1, 0, 3]]).tobytes()
    tall = height if upside_down else -height
    about = struct.pack("<IiiHHIIiiII", 40, width, tall, 1, 32, 0, len(rows), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + about + rows


@pytest.mark.parametrize("upside_down", [True, False])
def test_a_transparent_bmp_is_transparent(decoder: Decoder, upside_down: bool) -> None:
    assert (decoder.decode(bmp(UNEVEN, upside_down=upside_down)).pixels == UNEVEN).all()


def test_a_bmp_whose_fourth_bytes_are_as_reserved_is_opaque(decoder: Decoder) -> None:
    plain = UNEVEN.copy()
    plain[..., 3] = 0
    shown = decoder.decode(bmp(plain)).pixels
    assert (shown[..., :3] == UNEVEN[..., :3]).all()
    assert (shown[..., 3] == 255).all()


def test_a_transparent_bmp_that_is_cut_off_is_damaged(decoder: Decoder) -> None:
    refused = refusal(decoder, bmp(UNEVEN)[:-7])
    assert refused.reason == "source_corrupt"


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"<!DOCTYPE html><html><head><title>404\nNot Found</title></head></html>", "a web page (“404 Not Found”)"),
        (b"\xef\xbb\xbf\n  <html><body>Sign in", "a web page"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an object store's error (AccessDenied)"),
        (b"<?xml version='1.0'?><feed/>", "an XML document"),
        (b'{"error": "not found"}', "a JSON document"),
        ("Bild nicht verfügbar".encode(), "a text"),
        (b"   \n", "nothing but spaces"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "an AVIF picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", "a video (MP4 or QuickTime)"),
        (b"\x1a\x45\xdf\xa3\0\0", "a video (Matroska or WebM)"),
        (b"RIFF\0\0\0\0AVI LIST", "a video (AVI)"),
        (b"RIFF\0\0\0\0WAVEfmt ", "sound (WAV)"),
        (b"II+\0\x08\0\0\0", "a BigTIFF: save it as an ordinary TIFF"),
        (b"\x1f\x8b\x08\0\0", "compressed by gzip"),
        (b"PK\3\4\x14\0", "a ZIP archive"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a pointer to a file in Git LFS"),
        (b"iVBORw0KGgoAAAANSUhEUg", "a PNG written in base64"),
        (b"\xde\xad\xbe\xef\0\1", "a file that begins with the bytes de ad be ef 00 01"),
    ],
)
def test_what_is_no_picture_is_named_as_what_it_is(decoder: Decoder, data: bytes, named: str) -> None:
    refused = refusal(decoder, data)
    assert refused.reason == "source_unsupported"
    assert refused.message.startswith(f"The picture is {named}")
    assert refused.message.endswith("none of the formats that are read: PNG, JPEG, WebP, TIFF, GIF, BMP.")
