import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from safety.pictures.measures import Box, edge_width, measure_background, product_box

WHITE = (255, 255, 255)


def product(width: int, height: int, fill: float) -> Image.Image:
    image = Image.new("RGB", (width, height), WHITE)
    box = (width * (1 - fill) / 2, height * (1 - fill) / 2, width * (1 + fill) / 2, height * (1 + fill) / 2)
    ImageDraw.Draw(image).ellipse(box, fill=(40, 80, 120))
    return image


@pytest.mark.parametrize("fill", [0.2, 0.5, 0.8])
@pytest.mark.parametrize(("width", "height"), [(192, 192), (400, 300), (300, 800)])
def test_the_product_share_is_measured_along_the_fuller_side(width: int, height: int, fill: float):
    box = product_box(np.asarray(product(width, height, fill)), WHITE)
    assert box is not None
    assert box.share_of(width, height) == pytest.approx(fill, abs=0.05)


def test_the_product_box_holds_the_product_and_nothing_more():
    pixels = np.full((100, 200, 3), 255, np.uint8)
    pixels[30:50, 60:120] = 0
    assert product_box(pixels, WHITE) == Box(60, 30, 120, 50)
    assert str(Box(60, 30, 120, 50)) == "60, 30 to 120, 50"


def test_specks_are_no_product():
    pixels = np.full((400, 400, 3), 255, np.uint8)
    pixels[10, 10] = 0
    assert product_box(pixels, WHITE) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 5)])
def test_tiny_pictures_are_measured_without_an_error(shape: tuple[int, int]):
    pixels = np.full((*shape, 3), 255, np.uint8)
    assert measure_background(pixels, white=True, tolerance=0).share == 1
    assert product_box(pixels, WHITE) is None
    assert edge_width(pixels) is None


def test_a_step_is_one_pixel_wide_and_a_ramp_as_wide_as_it_takes():
    step = np.full((64, 64, 3), 255, np.uint8)
    step[:, 32:] = 0
    assert edge_width(step) == 1
    ramp = np.full((64, 64, 3), 240, np.uint8)
    ramp[:, 32:40] = np.linspace(210, 0, 8, dtype=np.uint8)[None, :, None]
    ramp[:, 40:] = 0
    assert edge_width(ramp) == pytest.approx(8, abs=0.2)


@pytest.mark.parametrize(("blur", "least", "most"), [(0, 1, 1.5), (1, 1.8, 3.5), (2, 4, 6), (4, 8, 12)])
def test_a_blur_widens_edges_with_noise_or_without(blur: int, least: float, most: float):
    image = product(512, 512, 0.6)
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(blur)) if blur else image)
    noisy = (pixels + np.random.default_rng(0).normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8)
    for seen in (pixels, noisy):
        width = edge_width(seen)
        assert width is not None
        assert least <= width <= most


def test_an_enlarged_picture_has_wide_edges():
    small = product(128, 128, 0.6)
    large = edge_width(np.asarray(small.resize((1024, 1024), Image.Resampling.BICUBIC)))
    assert large is not None
    assert large > 5
    assert edge_width(np.asarray(small)) < 2


def test_a_soft_shadow_says_nothing_against_a_sharp_product():
    image = Image.new("RGB", (512, 512), WHITE)
    ImageDraw.Draw(image).ellipse((100, 350, 400, 450), fill=(120, 120, 120))
    image = image.filter(ImageFilter.GaussianBlur(20))
    ImageDraw.Draw(image).rectangle((150, 100, 350, 400), fill=(200, 30, 30))
    assert edge_width(np.asarray(image)) == 1


def test_nothing_is_said_of_a_picture_without_edges():
    assert edge_width(np.full((64, 64, 3), 99, np.uint8)) is None
    assert edge_width(np.tile(np.linspace(0, 255, 256, dtype=np.uint8)[None, :, None], (256, 1, 3))) is None
