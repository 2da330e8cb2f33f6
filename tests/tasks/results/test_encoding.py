"""What is stored is the picture, marked as made by a model."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from safety.marks.provenance import digital_source_type, xmp_packet
from tasks.results.encoding import Encoding, decode, decode_rgba

PACKET = xmp_packet()
PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
SMOOTH = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 64, 3))


@pytest.mark.parametrize(("name", "extension"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
def test_every_format_says_that_a_model_made_it(name: str, extension: str) -> None:
    encoding = Encoding(name, 92)  # type: ignore[arg-type]
    assert encoding.extension == extension
    assert str(digital_source_type(encoding.encode(PIXELS, PACKET))).endswith("trainedAlgorithmicMedia")


@pytest.mark.parametrize("encoding", [Encoding("png", 1), Encoding("webp", 100)])
def test_lossless_formats_keep_every_pixel(encoding: Encoding) -> None:
    assert encoding.lossless
    assert encoding.deciding_quality is None
    assert np.array_equal(decode(encoding.encode(PIXELS, PACKET)), PIXELS)


def test_alpha_is_read_where_there_is_any() -> None:
    pixels = np.dstack([PIXELS, PIXELS[..., 0]])
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "PNG")
    assert np.array_equal(decode_rgba(buffer.getvalue()), pixels)
    assert np.array_equal(decode(buffer.getvalue()), PIXELS)
    opaque = decode_rgba(Encoding("png", 1).encode(PIXELS, PACKET))
    assert np.array_equal(opaque[..., :3], PIXELS)
    assert (opaque[..., 3] == 255).all()


@pytest.mark.parametrize("encoding", [Encoding("jpeg", 92), Encoding("webp", 92)])
def test_lossy_formats_stay_close(encoding: Encoding) -> None:
    assert encoding.deciding_quality == 92
    assert np.abs(decode(encoding.encode(SMOOTH, PACKET)).astype(int) - SMOOTH).max() <= 6


@pytest.mark.parametrize("read", [decode, decode_rgba])
@pytest.mark.parametrize("cut", [10, 100, -400])
def test_a_torn_picture_is_not_taken_for_one(read: Callable[[bytes], np.ndarray], cut: int) -> None:
    with pytest.raises(ValueError, match="can't be read"):
        read(Encoding("png", 1).encode(PIXELS, PACKET)[:cut])


def test_a_format_that_packshot_does_not_write_is_not_opened() -> None:
    with pytest.raises(ValueError, match="can't be read"):
        decode(b"GIF89a" + bytes(100))
