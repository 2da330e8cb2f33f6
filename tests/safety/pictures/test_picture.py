import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from safety.pictures.picture import inspect
from safety.verdict import Reason


def canvas(size: int, colour: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    return Image.new("RGB", (size, size), colour)


def product(size: int, fill: tuple[int, int, int], ground: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    image = canvas(size, ground)
    ImageDraw.Draw(image).ellipse((size * 0.4, size * 0.4, size * 0.6, size * 0.6), fill=fill)
    return np.asarray(image)


@pytest.mark.parametrize("size", [1, 64, 192, 1024])
@pytest.mark.parametrize("colour", [(0, 0, 0), (9, 9, 12), (255, 255, 255), (128, 128, 128), (200, 30, 30)])
def test_a_picture_of_one_colour_is_blank(size: int, colour: tuple[int, int, int]):
    verdict = inspect(np.asarray(canvas(size, colour)))
    assert verdict.reason is Reason.BLANK
    assert verdict.message == (
        f"The picture is black: its brightest parts are {max(colour)} of 255, below 16."
        if max(colour) < 16
        else "The picture is one flat colour: it shows no product, as 0.000 % of its pixels lie on an outline, below "
        "0.020 %."
    )


@pytest.mark.parametrize("size", [192, 1024])
def test_decoder_ripples_do_not_make_a_picture(size: int):
    random = np.random.default_rng(5)
    for level in (2, 128, 250):
        noise = random.normal(level, 1.0, size=(size, size, 3))
        assert inspect(noise.clip(0, 255).astype(np.uint8)).reason is Reason.BLANK


@pytest.mark.parametrize("size", [192, 1024])
def test_a_soft_gradient_without_an_outline_is_blank(size: int):
    ramp = np.linspace(120, 255, size, dtype=np.uint8)
    verdict = inspect(np.broadcast_to(ramp[:, None, None], (size, size, 3)).copy())
    assert str(verdict.message).startswith("The picture is an empty gradient: it shows no product, as 0.000 % of")


@pytest.mark.parametrize("size", [192, 512, 1328])
@pytest.mark.parametrize(
    ("fill", "ground"),
    [
        ((30, 90, 200), (255, 255, 255)),
        ((240, 240, 240), (255, 255, 255)),
        ((24, 24, 24), (4, 4, 4)),
        ((0, 0, 0), (255, 255, 255)),
    ],
    ids=["blue on white", "white on white", "black on black", "black on white"],
)
def test_a_product_is_seen_even_on_its_own_colour(size: int, fill: tuple[int, int, int], ground: tuple[int, int, int]):
    assert inspect(product(size, fill, ground)).allowed


def test_a_soft_product_is_still_seen():
    image = Image.fromarray(product(1024, (60, 60, 60))).filter(ImageFilter.GaussianBlur(6))
    assert inspect(np.asarray(image)).allowed


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_anything_but_rgb_bytes_is_an_error(pixels: np.ndarray):
    with pytest.raises(ValueError, match="uint8"):
        inspect(pixels)
